"""Fitted estimators on disk: a model, its metadata, and the evidence beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save as save_tensors
from torch import Tensor

from bruno.compatibility import current_estimator
from bruno.errors import CheckpointError, UserError
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.pretrained import (
    check_description,
    locate,
    names,
    read_config,
    read_tensors,
    save,
)

_EVIDENCE_FILE = "evidence.safetensors"
_HERE = "."  # as the parameter ``model`` on disk: the directory the estimator is in


@dataclass(frozen=True)
class SavedEstimator:
    """A fitted estimator without its model, as it is saved.

    Attributes:
        parameters: Of the estimator's constructor.
        state: The fitted attributes, as JSON.
        evidence: Its evidence, on the CPU.
        recent: Latent vectors of the elements that it keeps, ``(n, D)``, if it keeps some.
    """

    parameters: dict[str, Any]
    state: dict[str, Any]
    evidence: Evidence
    recent: Tensor | None = None


def write_estimator(path: str | Path, kind: str, saved: SavedEstimator, model: Bruno) -> None:
    """Write an estimator to a directory, as safetensors and JSON, as a whole or not at all.

    Args:
        path: The directory.
        kind: Name of the estimator's class.
        saved: Parameters, state and evidence; a model that was given as an object or a path becomes
            the one here.
        model: Its fitted model.

    Raises:
        UserError: If a parameter or a class is not what JSON can hold; then nothing is written.
        OSError: If the disk is full or cannot be written; then the old files are still there.
    """
    parameters = dict(saved.parameters)
    if parameters["model"] is not None and not _is_name(parameters["model"]):
        parameters["model"] = _HERE
    found = {name: getattr(saved.evidence, name) for name in ("count", "mean", "scatter")}
    if saved.recent is not None:
        found["recent"] = saved.recent
    tensors = save_tensors({name: tensor.cpu().contiguous() for name, tensor in found.items()})
    metadata = {
        "parameters": {name: _plain(name, value) for name, value in parameters.items()},
        "fitted": {"estimator": kind, **saved.state},
        "evidence_sha256": hashlib.sha256(tensors).hexdigest(),
    }
    save(model, path, metadata, files={_EVIDENCE_FILE: tensors})


def read_estimator(path: str | Path, kind: str) -> SavedEstimator:
    """Return a saved estimator; never executes code from the files.

    Args:
        path: The directory.
        kind: Name of the estimator's class.

    Raises:
        UserError: If there is none at this path, or one of another class.
        CheckpointError: If the files are damaged.
    """
    path = locate(path)
    config = read_config(path)
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    state = metadata.get("fitted")
    if not isinstance(state, dict) or state.get("estimator") != kind:
        raise UserError(f"path: expected a saved {kind} in {path}")
    try:
        check_description(path, config)
        parameters, state = current_estimator(
            metadata["parameters"], state, config["format_version"]
        )
        if parameters["model"] == _HERE:
            parameters["model"] = str(path.resolve())
        tensors = read_tensors(path / _EVIDENCE_FILE, metadata["evidence_sha256"])
        recent = tensors.pop("recent", None)
        return SavedEstimator(parameters, state, Evidence(**tensors), recent)
    except (KeyError, TypeError, CheckpointError) as error:
        raise CheckpointError(f"{path}: is not a whole {kind}: {error}") from None


def _is_name(model: Bruno | str | Path) -> bool:
    """Whether this is the name of a model that comes with the package."""
    return not isinstance(model, Bruno) and str(model) in names() and not Path(model).exists()


def _plain(name: str, value: Any) -> Any:
    """Return a parameter as JSON holds it.

    Raises:
        UserError: If JSON cannot hold it.
    """

    def converted(part: Any) -> Any:
        if isinstance(part, (np.ndarray, np.generic)):
            return part.tolist()
        if isinstance(part, Path):
            return str(part)
        raise TypeError

    try:
        return json.loads(json.dumps(value, default=converted))
    except (TypeError, ValueError):
        raise UserError(f"{name}: expected what JSON can hold, got {value!r}") from None
