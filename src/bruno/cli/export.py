"""``bruno export``: a model as graphs for ONNX runtimes and for ``torch.export``."""

from __future__ import annotations

import warnings
from typing import Literal

from bruno.cli.console import StageDisplay, output_console, print_json
from bruno.errors import UserError
from bruno.export import export_model
from bruno.paths import check_writable, user_path
from bruno.serialization import CONFIG_FILE
from bruno.training.locate import locate_model


def export(
    run: str | None = None,
    pretrained: str | None = None,
    out: str = "exported",
    format: Literal["onnx", "torch-export"] = "onnx",  # noqa: A002 - the name of the option
    parts: list[str] | None = None,
    dtype: Literal["float32", "float64"] | None = None,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Write a model as graphs that need no Python: encode, log_prob and sample.

    Args:
        run: Directory of a run or of a saved model; by default the newest run in runs/.
        pretrained: Name of a model that comes with the package.
        out: Directory to write to.
        format: onnx, for onnxruntime and browsers, or torch-export.
        parts: The graphs, of encode, log_prob and sample; all that the model has by default.
        dtype: Precision of the flow; by default its own.
        overwrite: Replace a model that is exported there already.
        as_json: Print the result as JSON on standard output.
    """
    path = user_path(out, "out")
    if (path / CONFIG_FILE).exists() and not overwrite:
        raise UserError(f"out: {path} holds a model already; --overwrite replaces it")
    check_writable(path, "out")
    located = locate_model(run, pretrained)
    metadata = {
        "model": str(located.path.name),
        "weights_sha256": located.config["weights_sha256"],
        "context_features": [feature.name for feature in located.context_features],
    }
    with StageDisplay() as progress:
        result = export_model(
            located.load(),
            path,
            format=format,
            parts=parts,
            dtype=dtype,
            metadata=metadata,
            on_progress=progress,
        )
    for name, reason in result.left_out.items():
        warnings.warn(f"{name} is left out: a {located.path.name} {reason}", stacklevel=2)
    if as_json:
        print_json({"out": str(path), "files": result.files, "left_out": result.left_out})
        return
    console = output_console()
    for name, file in result.files.items():
        size = (path / file).stat().st_size / 1e6
        console.print(f"{name}: {path / file} ({size:.1f} MB)")
