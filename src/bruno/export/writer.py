"""Exported graphs on disk: one file for each, and a description that names their digests."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributions import Distribution
from torch.export import Dim, ExportedProgram

from bruno.errors import UserError
from bruno.export.decompositions import ElementaryFunctions, exact_scalar
from bruno.export.frozen import frozen
from bruno.export.parts import Part, parts_of
from bruno.flows.block_sums import BlockSums
from bruno.model import Bruno
from bruno.paths import user_path
from bruno.pretrained import process_name
from bruno.progress import ProgressCallback
from bruno.serialization import write_directory
from bruno.validation import check_choice

PARTS = ("encode", "log_prob", "sample")
"""Names of the graphs of a model."""
FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
"""Ending of the files of every format."""
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_OPSET = 20
_NOISE = {
    "gaussian": "standard normal",
    "student_t": "standard Student-t of df + count degrees of freedom",
}
_FORMAT_VERSION = 1
_NO_SAMPLE = (
    "draws the pixels given their sums one diagonal of blocks after the other, each over the "
    "blocks that are neither empty nor full, which no graph of fixed operations can do"
)


@dataclass(frozen=True)
class ExportedModel:
    """A model that was exported.

    Attributes:
        path: The directory.
        files: File of every graph, by its name.
        left_out: Reason for every graph that is not there, by its name.
    """

    path: Path
    files: dict[str, str]
    left_out: dict[str, str]


def export_model(
    model: Bruno,
    path: str | Path,
    *,
    format: str = "onnx",  # noqa: A002 - the name of the option
    parts: Sequence[str] | None = None,
    dtype: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_progress: ProgressCallback | None = None,
) -> ExportedModel:
    """Write a model as graphs that need neither Python nor this library, and ``config.json``.

    The graphs are those of :mod:`bruno.export.parts`, for any number of elements, sets and draws.
    Pixels are dequantised: 0.5 is added to grey levels. ``config.json`` has the names, types and
    shapes of all inputs and outputs and the SHA-256 of every file.

    Args:
        model: The model.
        path: Directory, made if it is not there.
        format: ``onnx`` (for onnxruntime, also in browsers), or ``torch-export`` (for
            :func:`torch.export.load` and AOTInductor).
        parts: Graphs to export; by default all that the model has.
        dtype: Precision of the flow, ``float32`` or ``float64``; by default its own. Evidence and
            log-densities are float64 in either.
        metadata: Anything JSON can hold that is worth keeping with the graphs.
        on_progress: Called with the stage, and how many of all graphs are done.

    Returns:
        The directory, and what is in it.

    Raises:
        UserError: If an argument is not one of its choices, a graph that is asked for cannot be
            made, or the path is one of a file; then nothing is written.
        OSError: If the files cannot be written.
    """
    check_choice("format", format, FORMATS)
    check_choice("dtype", dtype, (*_DTYPES, None))
    for name in parts or ():
        check_choice("parts", name, PARTS)
    process = process_name(model.process)
    impossible = _impossible_parts(model)
    asked_for = [name for name in impossible if name in (parts or ())]
    if asked_for:
        raise UserError(
            f"parts: expected some of {', '.join(_possible(impossible))}, got {asked_for[0]}: "
            f"a {model.flow.name} {impossible[asked_for[0]]}"
        )
    path = user_path(path)
    copied = frozen(model, None if dtype is None else _DTYPES[dtype])
    made = parts_of(copied)
    names = [name for name in _possible(impossible) if name in (parts or PARTS)]
    contents, graphs = {}, {}
    for index, name in enumerate(names):
        if on_progress:
            on_progress("exporting", index, len(names))
        part = made[name]
        file = name + FORMATS[format]
        if format == "onnx":
            with ElementaryFunctions():
                program = _exported(part)
            contents[file] = _as_onnx(program, part)
        else:
            contents[file] = _saved(_exported(part))
        graphs[name] = {
            "file": file,
            "sha256": hashlib.sha256(contents[file]).hexdigest(),
            **_signature(part),
        }
    if on_progress:
        on_progress("exporting", len(names), len(names))
    left_out = {name: why for name, why in impossible.items() if not parts}
    config = {
        "format_version": _FORMAT_VERSION,
        "format": format,
        "event_shape": list(model.event_shape),
        "latent_dim": model.process.dim,
        "context_dim": model.flow.context_dim,
        "process": process,
        "noise": _NOISE[process],
        "graphs": graphs,
        "left_out": left_out,
        "metadata": dict(metadata or {}),
    }
    try:
        description = json.dumps(config, indent=2).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"metadata: expected what JSON can hold: {error}") from None
    write_directory(path, contents, description)
    return ExportedModel(path, {name: graphs[name]["file"] for name in names}, left_out)


def _possible(impossible: Mapping[str, str]) -> list[str]:
    return [name for name in PARTS if name not in impossible]


def _impossible_parts(model: Bruno) -> dict[str, str]:
    """Return the graphs that a model cannot be exported as, and why."""
    draws_in_turn = any(isinstance(layer, BlockSums) for layer in model.modules())
    return {"sample": _NO_SAMPLE} if draws_in_turn else {}


def _exported(part: Part) -> ExportedProgram:
    axes: dict[str, Dim] = {}
    shapes: Any = tuple(
        {
            axis: axes.setdefault(name, Dim(name, min=1))
            for axis, name in part.axes.get(key, {}).items()
        }
        for key in part.inputs
    )
    with torch.no_grad(), _quiet(), _without_validation():
        return torch.export.export(
            part.module, tuple(part.inputs.values()), dynamic_shapes=shapes, strict=False
        )


def _saved(program: ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _as_onnx(program: ExportedProgram, part: Part) -> bytes:
    from onnxscript import optimizer

    with torch.no_grad(), _quiet():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            custom_translation_table={torch.ops.aten.scalar_tensor.default: exact_scalar},
            optimize=False,
            verbose=False,
        )
    if converted is None:
        raise RuntimeError(f"torch.onnx.export made nothing of {part.name}")
    # Runtimes fuse what they can on loading; matching the rewrite rules would double the time.
    optimizer.fold_constants(converted.model)
    optimizer.remove_unused_nodes(converted.model)
    content: bytes = converted.model_proto.SerializeToString()
    return content


def _signature(part: Part) -> dict[str, Any]:
    with torch.no_grad():
        results = part.module(*part.inputs.values())
    outputs = dict(
        zip(part.outputs, results if isinstance(results, tuple) else (results,), strict=True)
    )
    lead = {"encode": ["batch"], "log_prob": ["batch", "sets"], "sample": ["draws"]}[part.name]
    return {
        "inputs": {
            name: {
                "dtype": str(x.dtype).removeprefix("torch."),
                "shape": [
                    part.axes.get(name, {}).get(axis, size) for axis, size in enumerate(x.shape)
                ],
            }
            for name, x in part.inputs.items()
        },
        "outputs": {
            name: {
                "dtype": str(x.dtype).removeprefix("torch."),
                "shape": [*lead[: x.dim()], *x.shape[len(lead) :]],
            }
            for name, x in outputs.items()
        },
    }


@contextmanager
def _without_validation() -> Iterator[None]:
    """Leave out the checks of distributions, which read values that a graph does not have yet."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the reports of torch's exporter, and warnings about its own internals, to itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
