"""``bruno info``: the installation, or a model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch

from bruno.cli.console import output_console, print_json
from bruno.data import DataConfig, dataset_names, load_dataset
from bruno.data.locations import cache_directory, data_directory
from bruno.data.registry import SOURCES
from bruno.errors import UserError
from bruno.evaluation import correlated_dimensions
from bruno.flows import ARCHITECTURES
from bruno.model import Bruno
from bruno.processes import PROCESSES
from bruno.provenance import provenance
from bruno.recipes import recipe_names
from bruno.training.locate import locate_model

_EPSILONS = (0.01, 0.1, 0.5)


def info(run: str | None = None, pretrained: str | None = None, as_json: bool = False) -> None:
    """Show versions, data sets, presets and recipes; or one model.

    Args:
        run: Directory of a run or of a saved model to show.
        pretrained: Name of a model that comes with the package to show.
        as_json: Print JSON on standard output.
    """
    facts = _model_facts(run, pretrained) if run or pretrained else _installation_facts()
    if as_json:
        print_json(facts)
        return
    output_console().print("\n".join(_lines(facts)))


def _installation_facts() -> dict[str, Any]:
    return {
        "version": version("bruno-sets"),
        **provenance(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "data directory": str(data_directory(None)),
        "cache directory": str(cache_directory()),
        "data sets": {name: _availability(name) for name in dataset_names()},
        "pretrained models": list(Bruno.pretrained()),
        "recipes": list(recipe_names()),
        "presets": list(ARCHITECTURES),
        "processes": list(PROCESSES),
    }


def _availability(name: str) -> str:
    if name == "folder":
        return "your own images: --data.root DIRECTORY"
    if SOURCES[name].built_in:
        return "built in"
    try:
        dataset = load_dataset(DataConfig(name=name), "test")
    except UserError as error:
        return str(error).removeprefix(f"{name}: ")
    return f"ready, {dataset.num_classes} test classes"


def _model_facts(run: str | None, pretrained: str | None) -> dict[str, Any]:
    located = locate_model(run, pretrained)
    model = located.load()
    counts = correlated_dimensions(model.process, _EPSILONS)
    return {
        "path": str(located.path),
        "event shape": list(model.event_shape),
        "flow": model.flow.config,
        "process": located.config["process"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "correlated dimensions": {
            f"above {epsilon:g}": int(count)
            for epsilon, count in zip(_EPSILONS, counts, strict=True)
        },
        "card": located.card,
        "experiment": located.experiment,
    }


def _lines(facts: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Return nested facts as indented lines."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{indent}{name}: {text}"
