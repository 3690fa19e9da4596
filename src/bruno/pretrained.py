"""Models on disk: ``model.safetensors`` for the numbers, ``config.json`` for everything else.

Loading reads numbers and JSON and never executes code. The configuration names the SHA-256 of the
weights and of its own content, so a file that was cut short, damaged or exchanged is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from bruno.errors import CheckpointError, UserError
from bruno.flows import RealNVP
from bruno.model import Bruno
from bruno.processes import ExchangeableGaussian, ExchangeableProcess, ExchangeableStudentT

FORMAT_VERSION = 1
PROCESSES: dict[str, type[ExchangeableProcess]] = {
    "gaussian": ExchangeableGaussian,
    "student_t": ExchangeableStudentT,
}
_DTYPES = ("float32", "float64")
WEIGHTS_DIRECTORY = Path(__file__).parent / "weights"
"""Models that come with the package, a directory each."""
# Small tensors (norms, biases, 1×1 convolutions) take no space worth the rounding.
_SMALLEST_HALVED = 2048
_WEIGHTS_FILE, _CONFIG_FILE = "model.safetensors", "config.json"
_DESCRIPTION_SHA256 = "description_sha256"


def build(flow_config: dict[str, Any], process: str) -> Bruno:
    """Return a new model, without touching torch's global random state.

    Args:
        flow_config: Keyword arguments of :class:`~bruno.flows.RealNVP`.
        process: One of ``gaussian``, ``student_t``.

    Raises:
        UserError: If an argument is not one a model can be built from.
    """
    if process not in PROCESSES:
        raise UserError(f"process: expected one of {', '.join(PROCESSES)}, got {process!r}")
    with torch.random.fork_rng(devices=[]):
        flow = RealNVP(**flow_config)
    return Bruno(flow, PROCESSES[process](flow.dim))


def names() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_DIRECTORY.glob(f"*/{_CONFIG_FILE}")))


def save(
    model: Bruno, path: Path, metadata: dict[str, Any], *, half_precision: bool = False
) -> None:
    """Write a model to a directory; each file appears whole or not at all.

    Args:
        model: The model.
        path: Directory, made if it is not there.
        metadata: What is to be kept with it, as JSON.
        half_precision: Round the large weights of the flow to float16. What is loaded again is a
            model with those weights, exact in itself, in half the space.

    Raises:
        UserError: If the model is of a kind that could not be loaded again, or the metadata is not
            JSON; then nothing is written.
    """
    dtype = str(model.flow.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise UserError(f"model: expected a flow in {' or '.join(_DTYPES)}, got {dtype}")
    process = {kind: name for name, kind in PROCESSES.items()}.get(type(model.process))
    if process is None:
        known = ", ".join(kind.__name__ for kind in PROCESSES.values())
        raise UserError(f"model: expected a process of {known}, got {type(model.process).__name__}")
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
    try:
        config[_DESCRIPTION_SHA256] = _digest(config)
        description = json.dumps(config, indent=2).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"metadata: expected what JSON can hold: {error}") from None
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / _WEIGHTS_FILE, weights)
    write_atomically(path / _CONFIG_FILE, description)


def load(name_or_path: str | Path) -> Bruno:
    """Load a model from a directory, or by name one that comes with the package.

    Raises:
        UserError: If there is no such model; the message lists the known names.
        CheckpointError: If the files are damaged or not of a model of this library.
    """
    path = locate(name_or_path)
    config = read_config(path)
    try:
        model = build(config["flow"], config["process"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path / _CONFIG_FILE}: describes no model that can be built: {error}"
        ) from None
    model.flow.to(getattr(torch, config["flow_dtype"]))
    try:
        model.load_state_dict(read_tensors(path / _WEIGHTS_FILE, config["weights_sha256"]))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path / _WEIGHTS_FILE}: the weights do not fit the model that {_CONFIG_FILE} "
            f"describes: {error}"
        ) from None
    check_description(path, config)
    return model


def locate(name_or_path: str | Path) -> Path:
    """Return the directory of a model given its name or its path.

    Raises:
        UserError: If there is no such model; the message lists the known names.
    """
    for path in (Path(name_or_path), WEIGHTS_DIRECTORY / str(name_or_path)):
        if (path / _CONFIG_FILE).is_file():
            return path
    known = ", ".join(names()) or "none in this installation"
    raise UserError(
        f"name_or_path: expected a directory with {_CONFIG_FILE} or a pretrained model "
        f"({known}), got {str(name_or_path)!r}"
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a saved model, checked.

    Raises:
        CheckpointError: If it is damaged, foreign, or of another version of the format.
    """
    file = path / _CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read as JSON: {error}") from None
    expected = {"format_version", "flow", "flow_dtype", "process", "weights_sha256"}
    if not isinstance(config, dict) or not expected <= config.keys():
        raise CheckpointError(f"{file}: is not the description of a bruno model")
    if config["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: expected format version {FORMAT_VERSION}, got {config['format_version']!r}; "
            "it needs another version of bruno"
        )
    if config["flow_dtype"] not in _DTYPES:
        raise CheckpointError(f"{file}: unknown flow_dtype {config['flow_dtype']!r}")
    return config


def check_description(path: Path, config: dict[str, Any]) -> None:
    """Raise if a configuration that names its own SHA-256 differs from what was saved.

    It comes last, for other errors of a configuration say more.

    Raises:
        CheckpointError: With the file.
    """
    digest = _digest(config)
    if config.get(_DESCRIPTION_SHA256, digest) != digest:
        raise CheckpointError(
            f"{path / _CONFIG_FILE}: is not what was saved (its SHA-256 differs); it is damaged, "
            f"or was edited without removing {_DESCRIPTION_SHA256}"
        )


def _digest(config: dict[str, Any]) -> str:
    """Return the SHA-256 of what JSON holds of a configuration but for the one it names."""
    held = json.loads(json.dumps({**config, _DESCRIPTION_SHA256: None}))
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def read_tensors(file: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file with this SHA-256.

    Raises:
        CheckpointError: If the file cannot be read or is another one.
    """
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CheckpointError(
                f"{file}: is not the file that {_CONFIG_FILE} describes (its SHA-256 differs); it "
                "is damaged or was exchanged"
            )
        return load_tensors(content)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read as safetensors: {error}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that, whenever the process is killed, is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
