"""``bruno demo``: train, evaluate and write a report."""

from __future__ import annotations

import dataclasses
import json

from bruno.cli.console import StageDisplay, output_console, print_json, progress_console
from bruno.cli.evaluate import EVALUATION_FILE, print_evaluation
from bruno.cli.train import train_with_display
from bruno.data import load_dataset
from bruno.device import resolve_device
from bruno.errors import UserError, renamed_argument
from bruno.evaluation.generation import shipped_judge
from bruno.evaluation.suite import Settings, Subject, evaluate
from bruno.paths import check_writable, user_path
from bruno.provenance import provenance
from bruno.recipes import recipe_path
from bruno.reporting.page import write_report
from bruno.reporting.report import experiment_report
from bruno.serialization import write_atomically
from bruno.training.config import experiment_from_yaml
from bruno.training.run_directory import holds_run, remove_run
from bruno.training.runs import read_history

_RECIPE = "glyphs-demo"
_PROTOCOLS = ("likelihood", "few_shot", "generation")
_SETTINGS = Settings(ways=(5, 20), shots=(1, 5), trials=5, judged_episodes=1)


def demo(
    minutes: float | None = None,
    out: str = "runs/demo",
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Adapt a model of handwriting to printed characters in three minutes, and report its results.

    Args:
        minutes: Length of the training; by default that of the recipe.
        out: Directory of the run and its report.
        seed: Seed of everything.
        device: auto, cpu or cuda.
        overwrite: Replace an earlier run in that directory.
        as_json: Print the figures as JSON on standard output.
    """
    experiment = dataclasses.replace(experiment_from_yaml(recipe_path(_RECIPE)), seed=seed)
    if minutes is not None:
        with renamed_argument("max_minutes", "minutes"):
            training = dataclasses.replace(experiment.training, max_minutes=minutes)
        experiment = dataclasses.replace(experiment, training=training)
    resolve_device(device)
    directory = user_path(out, "out")
    check_writable(directory, "out")
    if holds_run(directory):
        if not overwrite:
            raise UserError(f"out: {directory} already holds a run; --overwrite replaces it")
        remove_run(directory)
    model, training_set = train_with_display(experiment, directory, device=device)
    test_set = load_dataset(experiment.data, "test")
    with StageDisplay() as display:
        evaluation = evaluate(
            Subject(model, test_set, judge=shipped_judge(model.event_shape)),
            dataclasses.replace(_SETTINGS, seed=seed),
            protocols=_PROTOCOLS,
            progress=display,
        )
    progress_console().print("drawing the report …")
    html = experiment_report(
        model,
        f"{len(training_set)} images of {training_set.num_classes} characters of the scripts "
        f"{_scripts(training_set.class_names)}",
        test_set,
        read_history(directory),
        evaluation,
        experiment.to_dict(),
        title=f"bruno on {test_set.name}",
        command="bruno demo",
    )
    report = directory / "report.html"
    write_report(report, html)
    figures = {**provenance(), **evaluation.to_dict()}
    content = json.dumps(figures, indent=2).encode() + b"\n"
    write_atomically(directory / EVALUATION_FILE, content)
    if as_json:
        print_json({"report": str(report), **figures})
    else:
        print_evaluation(evaluation, str(directory))
        output_console().print(f"report: {report.resolve()}")


def _scripts(class_names: tuple[str, ...]) -> str:
    """Return the scripts of characters named ``script/character``."""
    return ", ".join(dict.fromkeys(name.split("/")[0] for name in class_names))
