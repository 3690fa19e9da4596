"""The directory of a run: its files, and whether a session may resume it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bruno.compatibility import current_experiment
from bruno.errors import UserError
from bruno.serialization import write_atomically
from bruno.training.checkpoint import CHECKPOINT_FILE, Checkpoint, load_checkpoint
from bruno.training.config import Experiment

CONFIG_FILE = "config.yaml"
HISTORY_FILE = "history.jsonl"
MODEL_DIRECTORY = "model"

# How long a run is, how often it is saved and where the data lie decide nothing about its steps.
_FREE = {
    "training.steps",
    "training.max_minutes",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "data.data_dir",
}


def holds_run(directory: Path) -> bool:
    """Whether a run has left something in a directory that another would replace."""
    return (directory / CHECKPOINT_FILE).exists() or (directory / MODEL_DIRECTORY).exists()


def check_directory(
    directory: Path, experiment: Experiment, *, resume: bool = False
) -> Checkpoint | None:
    """Return the checkpoint that a run goes on from, or ``None`` for a run that starts.

    Args:
        directory: Where the run lives, or is to live.
        experiment: The experiment.
        resume: Whether to go on with the run in the directory, if there is one.

    Raises:
        UserError: If the directory holds a run that would be replaced, one of another experiment,
            or a model without the checkpoint it came from.
        CheckpointError: If the checkpoint cannot be read.
        OSError: If the directory cannot be looked into.
    """
    if not holds_run(directory):
        return None
    if not resume:
        raise UserError(
            f"out: {directory} already holds a run; --resume goes on with it, another directory "
            "starts afresh"
        )
    if not (directory / CHECKPOINT_FILE).exists():
        raise UserError(
            f"resume: nothing to resume in {directory}, which holds a model but no "
            f"{CHECKPOINT_FILE}"
        )
    checkpoint = load_checkpoint(directory)
    before = current_experiment(checkpoint.experiment)
    changed = list(_changes(before, experiment.to_dict()))
    if changed:
        raise UserError(
            f"resume: the run in {directory} is of another experiment, with "
            f"{', '.join(changed)}; go on without the change, or start in another directory"
        )
    return checkpoint


def write_config(directory: Path, experiment: Experiment) -> None:
    """Write ``config.yaml``, from which the experiment can be read again.

    Args:
        directory: Directory of the run.
        experiment: The experiment.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Through JSON, because YAML has no tuples.
    plain = json.loads(json.dumps(experiment.to_dict()))
    config = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode()
    write_atomically(directory / CONFIG_FILE, config)


def remove_run(directory: Path) -> None:
    """Remove the files of a run, and no others, so that another can take its place."""
    for name in (CONFIG_FILE, CHECKPOINT_FILE, HISTORY_FILE):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / MODEL_DIRECTORY, ignore_errors=True)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield the fields in which an experiment differs from the one a run was started with."""
    old, new = _flat(before), _flat(now)
    for field in sorted({*old, *new} - _FREE):
        if old.get(field) != new.get(field):
            yield f"{field} {old.get(field)} instead of {new.get(field)}"


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields by their dotted names, with lists for tuples."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
