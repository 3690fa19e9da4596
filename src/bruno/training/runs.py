"""Training runs: from an experiment to a directory with its model, history and configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bruno.compatibility import current_figures
from bruno.data import load_dataset
from bruno.data.dataset import LabelledImages
from bruno.errors import UserError, renamed_argument
from bruno.model import Bruno
from bruno.paths import check_writable, user_path
from bruno.pretrained import locate
from bruno.training.config import Experiment
from bruno.training.launch import start_accelerator
from bruno.training.loop import train
from bruno.training.run_directory import CONFIG_FILE, HISTORY_FILE, check_directory, holds_run


def run_directory(out: str | None, data_name: str) -> Path:
    """Return the directory of a run: the one that was given, or one named after the data set.

    Args:
        out: The directory that was given, if any.
        data_name: Name of the data set.
    """
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


def run_experiment(
    experiment: Experiment,
    directory: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    on_message: Callable[[str], None] | None = None,
    on_row: Callable[[dict[str, Any], float], None] | None = None,
) -> tuple[Bruno, LabelledImages]:
    """Load the data, train, and return the model and its training set.

    Settings that do not need the data are checked first, because loading may take minutes.

    Args:
        experiment: The experiment.
        directory: Where the run lives.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Go on with the run in the directory, if there is one.
        on_message: Called with one line about every stage.
        on_row: Called with every row of figures and the share of the schedule that is done.

    Returns:
        The model and its training set.

    Raises:
        UserError: As :func:`bruno.training.train` raises it, and if data are missing.
    """
    report = on_message or (lambda _: None)
    if experiment.model.pretrained is not None:
        with renamed_argument("name_or_path", "pretrained"):
            locate(experiment.model.pretrained)
    start_accelerator(device)
    check_writable(directory, "out")
    checkpoint = check_directory(directory, experiment, resume=resume)
    if resume:
        report(
            f"nothing to resume in {directory} yet: starting"
            if checkpoint is None
            else f"going on with the run in {directory} after step {checkpoint.step}"
        )
    training_set = load_dataset(experiment.data, "train")
    validation_set = load_dataset(experiment.data, "val")
    for dataset in (training_set, validation_set):
        report(
            f"{dataset.name} {dataset.split}: {len(dataset)} images of {dataset.num_classes} "
            f"classes, {' x '.join(map(str, dataset.event_shape))}"
        )
    wanted = experiment.training.sets_per_batch
    if wanted > training_set.num_classes:
        report(f"batches of {training_set.num_classes} sets, one a class, not {wanted}")
    model = train(
        experiment,
        training_set,
        validation_set,
        directory,
        device=device,
        resume=resume,
        on_row=on_row,
    )
    return model, training_set


def read_history(directory: Path) -> list[dict[str, float | str]]:
    """Return the figures of a run, a dictionary a row."""
    lines = (directory / HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    return [current_figures(json.loads(line)) for line in lines]
