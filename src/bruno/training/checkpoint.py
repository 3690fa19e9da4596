"""The state of a run as one file that is always either the old one or the new one."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bruno.compatibility import current_figures
from bruno.errors import CheckpointError
from bruno.serialization import write_atomically

CHECKPOINT_FILE = "checkpoint.pt"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """State of a run, from which it resumes exactly.

    Attributes:
        experiment: The experiment as nested dictionaries.
        step: Steps done.
        seconds: Wall-clock seconds spent.
        model: State of the model in training.
        average: State of the averaged model.
        optimiser: State of the optimiser.
        best: State of the averaged model at the best validation, or None before the first.
        history: Figures so far, a dictionary a row.
    """

    experiment: dict[str, Any]
    step: int
    seconds: float
    model: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]
    best: dict[str, Any] | None
    history: list[dict[str, Any]]


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; killed at any moment, it leaves the old one or the new one.

    Args:
        directory: Directory of the run.
        checkpoint: State of the run.
    """
    fields = {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}
    buffer = io.BytesIO()
    torch.save({"format_version": _FORMAT_VERSION, **fields}, buffer)
    content = buffer.getvalue()
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / CHECKPOINT_FILE, _digest(content) + content)


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read the checkpoint of a run, without executing code.

    Raises:
        CheckpointError: If the file is missing, damaged or not a checkpoint of this version.
    """
    file = directory / CHECKPOINT_FILE
    try:
        content = torch.load(
            io.BytesIO(_intact(file.read_bytes())), map_location="cpu", weights_only=True
        )
    except pickle.UnpicklingError:  # whose text advises to execute the file
        raise CheckpointError(
            f"{file}: cannot be read as a checkpoint: it holds other data than one does"
        ) from None
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{file}: cannot be read as a checkpoint: {reason}") from None
    if not isinstance(content, dict) or content.pop("format_version", None) != _FORMAT_VERSION:
        raise CheckpointError(f"{file}: is not a training checkpoint of this version of bruno")
    try:
        return Checkpoint(**{**content, "history": current_figures(content["history"])})
    except (KeyError, TypeError):
        raise CheckpointError(f"{file}: is not a complete training checkpoint") from None


def _digest(content: bytes) -> bytes:
    """Return the line that a file of this content begins with.

    Torch does not look at the checksums it writes, so that damage is read as other numbers.
    """
    return hashlib.sha256(content).hexdigest().encode() + b"\n"


def _intact(content: bytes) -> bytes:
    """Return the content of a file without its digest; earlier versions wrote none.

    Raises:
        ValueError: If the digest is of another content.
    """
    if content.startswith(b"PK"):
        return content
    size = len(_digest(b""))
    if content[:size] != _digest(content[size:]):
        raise ValueError("its SHA-256 differs, so it is damaged")
    return content[size:]
