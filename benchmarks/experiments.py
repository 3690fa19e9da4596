"""Experiments that take a while: each is run once, and its figures are kept as a row of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bruno import Bruno
from bruno.cli.train import train_with_display
from bruno.compatibility import current_figures
from bruno.data import LabelledImages, load_dataset
from bruno.provenance import provenance
from bruno.training import Experiment
from bruno.training.checkpoint import CHECKPOINT_FILE
from bruno.training.run_directory import MODEL_DIRECTORY

_RENAMED = {
    "Bruno, affine": "Bruno, diagonal",
    "Bruno, scale of columns": "Bruno, per-feature scale",
}
"""Names of methods in files of earlier versions."""


def run_missing(
    file: Path,
    key: dict[str, Any],
    experiment: Experiment,
    directory: Path,
    split: str,
    measure: Callable[[Bruno, LabelledImages], dict[str, Any]],
) -> None:
    """Train and measure a model and append the figures to a file, unless they are there.

    Args:
        file: JSON lines.
        key: Fields that identify the experiment within the file.
        experiment: What to train.
        directory: Where the run lives; one that was cut short goes on.
        split: Part of the data the model is measured on.
        measure: Returns the figures.
    """
    if any(key.items() <= row.items() for row in rows(file)):
        return
    train_with_display(experiment, directory, resume=(directory / CHECKPOINT_FILE).exists())
    model = Bruno.from_pretrained(directory / MODEL_DIRECTORY)
    figures = measure(model, load_dataset(experiment.data, split))
    with file.open("a") as stream:
        stream.write(json.dumps({**key, **provenance(), **figures}) + "\n")


def rows(file: Path) -> list[dict[str, Any]]:
    """Return the figures measured so far, with the current names of methods and figures."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [_current(current_figures(json.loads(line))) for line in lines]


def _current(value: Any) -> Any:
    """Return nested figures with the current names of methods."""
    if not isinstance(value, dict):
        return value
    names = (_RENAMED.get(name, name.replace("strangers", "contaminants")) for name in value)
    return dict(zip(names, map(_current, value.values()), strict=True))
