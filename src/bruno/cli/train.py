"""``bruno train``: from a recipe to weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bruno.cli.console import TrainingDisplay, output_console, print_json, progress_console
from bruno.data import DataConfig
from bruno.data.dataset import LabelledImages
from bruno.model import Bruno
from bruno.training import Experiment, ModelConfig, ObjectiveConfig, TrainingConfig
from bruno.training.run_directory import MODEL_DIRECTORY
from bruno.training.runs import read_history, run_directory, run_experiment


def train(
    data: DataConfig = DataConfig(),
    model: ModelConfig = ModelConfig(),
    objective: ObjectiveConfig = ObjectiveConfig(),
    training: TrainingConfig = TrainingConfig(),
    seed: int = 0,
    out: str | None = None,
    device: str = "auto",
    max_minutes: float | None = None,
    resume: bool = False,
    as_json: bool = False,
) -> None:
    """Train a model on the training classes and keep the weights that are best on the others.

    Args:
        data: The data set.
        model: The model.
        objective: Weights of the objectives.
        training: The optimisation.
        seed: Seed of initialisation, batches and noise.
        out: Directory of the run; by default runs/ and the name of the data set.
        device: auto, cpu or cuda.
        max_minutes: Length of the schedule in minutes, or training.steps if they end first.
        resume: Go on with the run in the directory, as it was configured; only changes need
            be given.
        as_json: Print the last validation as JSON on standard output.
    """
    if max_minutes is not None:
        training = dataclasses.replace(training, max_minutes=max_minutes)
    experiment = Experiment(data, model, objective, training, seed)
    directory = run_directory(out, data.name)
    train_with_display(experiment, directory, device=device, resume=resume)
    history = read_history(directory)
    last = next(row for row in reversed(history) if row["kind"] == "validation")
    if as_json:
        print_json({"out": str(directory), **last})
    else:
        output_console().print(
            f"model written to {directory / MODEL_DIRECTORY}; next: bruno evaluate --run "
            f"{directory}"
        )


def train_with_display(
    experiment: Experiment, directory: Path, *, device: str = "auto", resume: bool = False
) -> tuple[Bruno, LabelledImages]:
    """Run an experiment with a progress display; see :func:`~bruno.training.runs.run_experiment`.

    Args:
        experiment: The experiment.
        directory: Where the run lives.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Go on with the run in the directory, if there is one.

    Returns:
        The model and its training set.
    """
    with TrainingDisplay() as display:
        return run_experiment(
            experiment,
            directory,
            device=device,
            resume=resume,
            on_message=progress_console().print,
            on_row=display,
        )
