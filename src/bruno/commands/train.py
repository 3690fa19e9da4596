"""``bruno train``: from a recipe to weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from bruno.console import TrainingDisplay, output_console, print_json, progress_console
from bruno.data import DataConfig, load_dataset
from bruno.data.dataset import LabelledImages
from bruno.errors import UserError, renamed_argument
from bruno.model import Bruno
from bruno.paths import check_writable, user_path
from bruno.pretrained import locate
from bruno.training import Experiment, ModelConfig, ObjectiveConfig, TrainingConfig
from bruno.training import train as run_training
from bruno.training.launch import start_accelerator
from bruno.training.run_directory import (
    CONFIG_FILE,
    HISTORY_FILE,
    MODEL_DIRECTORY,
    check_directory,
    holds_run,
)


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
        resume: Go on with the run in the directory, as it was configured; only what is to change
            need be given.
        as_json: Print the last validation as JSON on standard output.
    """
    if max_minutes is not None:
        training = dataclasses.replace(training, max_minutes=max_minutes)
    experiment = Experiment(data, model, objective, training, seed)
    directory = run_directory(out, data.name)
    train_experiment(experiment, directory, device=device, resume=resume)
    history = read_history(directory)
    last = next(row for row in reversed(history) if row["kind"] == "validation")
    if as_json:
        print_json({"out": str(directory), **last})
    else:
        output_console().print(
            f"model written to {directory / MODEL_DIRECTORY}; next: bruno evaluate --run "
            f"{directory}"
        )


def run_directory(out: str | None, data_name: str) -> Path:
    """Return the directory of a run: the one that was given, or one named after the data set."""
    return user_path(out, "out") if out else Path("runs") / data_name


def own_config(out: str | None, data_name: str, *, has_recipe: bool) -> Path | None:
    """Return the configuration of the run that is to be gone on with.

    Args:
        out: Directory of the run, if one was given.
        data_name: Name of the data set, which the directory is named after otherwise.
        has_recipe: Whether a recipe was given, so that a run can start where there is none.

    Returns:
        The file, or ``None`` if the recipe is to be used.

    Raises:
        UserError: If there is nothing to go on with, and no recipe.
    """
    directory = run_directory(out, data_name)
    file = directory / CONFIG_FILE
    if file.is_file():
        return file
    if has_recipe:
        return None
    missing = f"no {CONFIG_FILE}" if holds_run(directory) else "no run"
    raise UserError(
        f"resume: nothing to resume in {directory}, which holds {missing}; name the directory of a "
        "run with --out, or a recipe with --config"
    )


def train_experiment(
    experiment: Experiment, directory: Path, *, device: str = "auto", resume: bool = False
) -> tuple[Bruno, LabelledImages]:
    """Load the data, train with a display, and return the model and its training set.

    Whatever can be checked without the data is checked first, because loading may take minutes.

    Args:
        experiment: What to train, and how.
        directory: Where the run lives.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Go on with the run in the directory, if there is one.

    Raises:
        UserError: As :func:`bruno.training.train` raises it, and if data are missing.
    """
    console = progress_console()
    if experiment.model.pretrained is not None:
        with renamed_argument("name_or_path", "pretrained"):
            locate(experiment.model.pretrained)
    start_accelerator(device)
    check_writable(directory, "out")
    checkpoint = check_directory(directory, experiment, resume=resume)
    if resume:
        console.print(
            f"nothing to resume in {directory} yet: starting"
            if checkpoint is None
            else f"going on with the run in {directory} after step {checkpoint.step}"
        )
    training_set = load_dataset(experiment.data, "train")
    validation_set = load_dataset(experiment.data, "val")
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
