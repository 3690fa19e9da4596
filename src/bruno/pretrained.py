"""Models on disk: ``model.safetensors`` for the numbers, ``config.json`` for everything else.

Loading reads numbers and JSON and never executes code. The configuration names the SHA-256 of the
weights and of its own content, so a file that was cut short, damaged or exchanged is refused. How
all files are replaced at once is described in :mod:`bruno.serialization`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from bruno.compatibility import current_flow
from bruno.errors import CheckpointError, UserError
from bruno.flows import RealNVP
from bruno.model import Bruno
from bruno.paths import user_path
from bruno.processes import PROCESSES, ExchangeableProcess
from bruno.serialization import CONFIG_FILE, read_data, read_unchanged, write_directory
from bruno.validation import check_choice

FORMAT_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # 1 has the preset names of bruno.compatibility
_DTYPES = ("float32", "float64")
WEIGHTS_DIRECTORY = Path(__file__).parent / "weights"
"""Models that come with the package, a directory each."""
# Small tensors (norms, biases, 1×1 convolutions) take no space worth the rounding.
_SMALLEST_HALVED = 2048
_WEIGHTS_FILE = "model.safetensors"
_DESCRIPTION_SHA256 = "description_sha256"


def build(flow_config: dict[str, Any], process: str) -> Bruno:
    """Return a new model, without touching torch's global random state.

    Args:
        flow_config: Keyword arguments of :class:`~bruno.flows.RealNVP`.
        process: One of ``gaussian``, ``student_t``.

    Raises:
        UserError: If an argument is not one a model can be built from.
    """
    check_process(process)
    with torch.random.fork_rng(devices=[]):
        flow = RealNVP(**flow_config)
    return Bruno(flow, PROCESSES[process](flow.dim))


def check_process(process: str) -> None:
    """Raise a UserError unless this is the name of a process."""
    check_choice("process", process, PROCESSES)


def process_name(process: ExchangeableProcess) -> str:
    """Return the name of a process, as files and estimators have it.

    Raises:
        UserError: If it is of a kind that has none.
    """
    name = {kind: name for name, kind in PROCESSES.items()}.get(type(process))
    if name is None:
        known = ", ".join(kind.__name__ for kind in PROCESSES.values())
        raise UserError(f"model: expected a process of {known}, got {type(process).__name__}")
    return name


def names() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_DIRECTORY.glob(f"*/{CONFIG_FILE}")))


def save(
    model: Bruno,
    path: str | Path,
    metadata: dict[str, Any],
    *,
    files: Mapping[str, bytes] | None = None,
    half_precision: bool = False,
) -> None:
    """Write a model to a directory; a model that was there is replaced as a whole or not at all.

    Args:
        model: The model.
        path: Directory, made if it is not there.
        metadata: Kept with the model, as JSON.
        files: Further files by name, replaced together with the model; the metadata holds the
            SHA-256 of each.
        half_precision: Round the large weights of the flow to float16. The loaded model has those
            weights, exactly, from half the space.

    Raises:
        UserError: If the model is of a kind that could not be loaded again, the metadata is not
            JSON, or the path is one of a file; then nothing is written.
        OSError: If the disk is full or cannot be written; then the old model is still there.
    """
    path = user_path(path)
    if not isinstance(model.flow, RealNVP):
        raise UserError(
            f"model: expected a flow that can be built again from its preset, got a "
            f"{model.flow.name}"
        )
    dtype = str(model.flow.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise UserError(f"model: expected a flow in {' or '.join(_DTYPES)}, got {dtype}")
    process = process_name(model.process)
    # safetensors stores every tensor once and row by row.
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if half_precision:
        tensors |= {
            f"flow.{name}": weight.detach().half().contiguous()
            for name, weight in model.flow.named_parameters()
            if weight.numel() >= _SMALLEST_HALVED
        }
    weights = save_tensors(tensors)
    config = {
        "format_version": FORMAT_VERSION,
        "bruno_version": version("bruno-sets"),
        "flow": model.flow.config,
        "flow_dtype": dtype,
        "process": process,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "metadata": metadata,
    }
    write_directory(path, {_WEIGHTS_FILE: weights, **(files or {})}, describe(config))


def describe(config: dict[str, Any]) -> bytes:
    """Return the content of ``config.json``, which names its own SHA-256.

    Args:
        config: The configuration.

    Raises:
        UserError: If its metadata is not JSON.
    """
    try:
        complete = {**config, _DESCRIPTION_SHA256: _digest(config)}
        return json.dumps(complete, indent=2).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"metadata: expected what JSON can hold: {error}") from None


def load(name_or_path: str | Path) -> Bruno:
    """Load a model from a directory, or by name one that comes with the package.

    Raises:
        UserError: If there is no such model; the message lists the known names.
        CheckpointError: If the files are damaged or not of a model of this library.
    """
    return read_unchanged(locate(name_or_path), _load)


def _load(path: Path) -> Bruno:
    config = read_config(path)
    try:
        flow_config = current_flow(config["flow"], config["format_version"])
        model = build(flow_config, config["process"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: describes no model that can be built: {error}"
        ) from None
    model.flow.to(getattr(torch, config["flow_dtype"]))
    try:
        model.load_state_dict(read_tensors(path / _WEIGHTS_FILE, config["weights_sha256"]))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path / _WEIGHTS_FILE}: the weights do not fit the model that {CONFIG_FILE} "
            f"describes: {error}"
        ) from None
    check_description(path, config)
    return model


def locate(name_or_path: str | Path) -> Path:
    """Return the directory of a model given its name or its path.

    Raises:
        UserError: If there is no such model; the message lists the known names.
    """
    for path in (user_path(name_or_path, "name_or_path"), WEIGHTS_DIRECTORY / str(name_or_path)):
        if (path / CONFIG_FILE).is_file():
            return path
    known = ", ".join(names()) or "none in this installation"
    raise UserError(
        f"name_or_path: expected a directory with {CONFIG_FILE} or a pretrained model "
        f"({known}), got {str(name_or_path)!r}"
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a saved model, checked.

    Raises:
        CheckpointError: If it is damaged, foreign, or of another version of the format.
    """
    file = path / CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read as JSON: {error}") from None
    expected = {"format_version", "flow", "flow_dtype", "process", "weights_sha256"}
    if not isinstance(config, dict) or not expected <= config.keys():
        raise CheckpointError(f"{file}: is not the description of a bruno model")
    if config["format_version"] not in _READABLE_VERSIONS:
        raise CheckpointError(
            f"{file}: expected a format version of {', '.join(map(str, _READABLE_VERSIONS))}, got "
            f"{config['format_version']!r}; it needs another version of bruno"
        )
    if config["flow_dtype"] not in _DTYPES:
        raise CheckpointError(f"{file}: unknown flow_dtype {config['flow_dtype']!r}")
    return config


def check_description(path: Path, config: dict[str, Any]) -> None:
    """Raise if a configuration that names its own SHA-256 differs from the saved one.

    Called last, because other errors of a configuration are more specific.

    Args:
        path: Directory of the model.
        config: Its configuration, as read.

    Raises:
        CheckpointError: With the file.
    """
    digest = _digest(config)
    if config.get(_DESCRIPTION_SHA256, digest) != digest:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: is not the saved one (its SHA-256 differs); it is damaged, "
            f"or was edited without removing {_DESCRIPTION_SHA256}"
        )


def _digest(config: dict[str, Any]) -> str:
    """Return the SHA-256 of what JSON holds of a configuration but for the one it names."""
    held = json.loads(json.dumps({**config, _DESCRIPTION_SHA256: None}))
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def read_tensors(file: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file with this SHA-256.

    Args:
        file: The file.
        sha256: Its SHA-256, in hexadecimal.

    Raises:
        CheckpointError: If the file cannot be read or is another one.
    """
    try:
        return load_tensors(read_data(file, sha256))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read as safetensors: {error}") from None
