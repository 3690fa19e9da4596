"""``bruno classify``: name pictures of handwriting by a folder of examples."""

from __future__ import annotations

import warnings
from typing import Literal

from bruno.cli.console import output_console, print_json, table
from bruno.cli.picture_file import picture_file
from bruno.data.scans import ScanOptions, scan_options_for
from bruno.device import resolve_device
from bruno.reporting.scan_pictures import draw_decisions
from bruno.scan_classification import classify_scans
from bruno.training.locate import LocatedModel, locate_model

_DEFAULT_MODEL = "omniglot-classify"


def classify(
    files: list[str],
    given: str,
    run: str | None = None,
    pretrained: str | None = None,
    prepare: Literal["auto", "scan", "none"] = "auto",
    invert: bool = False,
    out: str = "classify.png",
    device: str = "auto",
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Name pictures by the examples in a folder, print probabilities and draw the decisions.

    Args:
        files: Pictures to classify, or folders of them.
        given: Folder with one sub-folder of examples per class; a few examples are enough.
        run: Directory of a run or of a saved model.
        pretrained: Name of a model that comes with the package; omniglot-classify without --run.
        prepare: Prepare pictures as scans of handwriting; auto does so for models of handwriting
            unless --invert is given.
        invert: Turn dark ink on white paper into bright ink on black, without preparation.
        out: The picture of the decisions to write, in any format Pillow knows.
        device: auto, cpu or cuda.
        overwrite: Replace a picture that is there already.
        as_json: Print the decisions as JSON on standard output.
    """
    picture = picture_file(out, "classify.png", overwrite=overwrite)
    device = resolve_device(device)
    located = locate_model(run, pretrained or (None if run else _DEFAULT_MODEL))
    options = _options(prepare, invert, located)
    result = classify_scans(
        located.load().to(device),
        given,
        files,
        prepare=options,
        invert=invert,
        card=located.card,
    )
    picture.write(draw_decisions(result))
    for text in result.warnings():
        warnings.warn(text, stacklevel=2)
    if as_json:
        print_json({"out": str(picture.path), "prepared": options is not None, **result.to_dict()})
        return
    rows = [
        [
            str(decision.file),
            decision.best,
            f"{decision.probability:.1%}",
            f"{decision.second} ({decision.second_probability:.1%})",
            f"{decision.log_density:.1f}",
        ]
        for decision in result.decisions
    ]
    header = ["file", "class", "probability", "second", "log p(x) [nats]"]
    console = output_console()
    console.print(
        table(f"{len(rows)} pictures, {result.examples.num_classes} classes", header, rows)
    )
    console.print(f"picture: {picture.path}")


def _options(prepare: str, invert: bool, located: LocatedModel) -> ScanOptions | None:
    """Return how to prepare pictures; ``None`` for not at all."""
    if prepare == "none" or (prepare == "auto" and invert):
        return None
    fitting = scan_options_for(located.dataset_name)
    return fitting or (ScanOptions() if prepare == "scan" else None)
