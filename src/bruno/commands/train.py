"""``bruno train``: from a recipe to weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from bruno.console import TrainingDisplay, error_console, output_console
from bruno.data import DataConfig, load_dataset
from bruno.data.dataset import LabelledImages
from bruno.model import Bruno
from bruno.training import Experiment, ModelConfig, ObjectiveConfig, TrainingConfig
from bruno.training import train as run_training
from bruno.training.loop import HISTORY_FILE, MODEL_DIRECTORY


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
        data: Where the sets come from.
        model: What is trained.
        objective: What it is trained for.
        training: How it is trained.
        seed: Seed of initialisation, batches and noise.
        out: Directory of the run; by default runs/ and the name of the data set.
        device: auto, cpu or cuda.
        max_minutes: Length of the schedule in minutes, or training.steps if they end first.
        resume: Go on with the run in the directory, if there is one.
        as_json: Print the last validation as JSON on standard output.
    """
    if max_minutes is not None:
        training = dataclasses.replace(training, max_minutes=max_minutes)
    experiment = Experiment(data, model, objective, training, seed)
    directory = Path(out) if out else Path("runs") / data.name
    train_experiment(experiment, directory, device=device, resume=resume)
    history = read_history(directory)
    last = next(row for row in reversed(history) if row["kind"] == "validation")
    if as_json:
        output_console().print_json(json.dumps({"out": str(directory), **last}))
    else:
        output_console().print(
            f"model written to {directory / MODEL_DIRECTORY}; next: bruno evaluate --run "
            f"{directory}"
        )


def train_experiment(
    experiment: Experiment, directory: Path, *, device: str = "auto", resume: bool = False
) -> tuple[Bruno, LabelledImages]:
    """Load the data, train with a display, and return the model and its training set."""
    training_set = load_dataset(experiment.data, "train")
    validation_set = load_dataset(experiment.data, "val")
    console = error_console()
    for dataset in (training_set, validation_set):
        console.print(
            f"{dataset.name} {dataset.split}: {len(dataset)} images of {dataset.num_classes} "
            f"classes, {' x '.join(map(str, dataset.event_shape))}"
        )
    wanted = experiment.training.sets_per_batch
    if wanted > training_set.num_classes:
        console.print(f"batches of {training_set.num_classes} sets, one a class, not {wanted}")
    dim = training_set.images[0].numel()
    with TrainingDisplay(dim) as display:
        model = run_training(
            experiment,
            training_set,
            validation_set,
            directory,
            device=device,
            resume=resume,
            on_row=display,
        )
    return model, training_set


def read_history(directory: Path) -> list[dict[str, float | str]]:
    """Return the figures of a run, a dictionary a row."""
    lines = (directory / HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
