"""``bruno sample``: draw more of what is in a few pictures, or from the prior."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bruno.cli.console import output_console, print_json, progress_console
from bruno.cli.labels import parse_context
from bruno.data import load_image, quantise
from bruno.data.context import Label, encode_context
from bruno.data.folder import data_in
from bruno.data.image_file import Channels
from bruno.data.scans import ScanOptions, scan_options_for
from bruno.data.sets import dequantise
from bruno.device import resolve_device
from bruno.errors import UserError
from bruno.evaluation.pose_estimation import scores_by_label
from bruno.model import Bruno
from bruno.paths import check_new_file, user_path
from bruno.seeding import generator_for
from bruno.serialization import write_atomically
from bruno.training.locate import locate_model

_COLUMNS = 10
_SCALE = 4
_GAP = 2
_WHITE = 255
_ANGLE_STEP = 10


def sample(
    run: str | None = None,
    pretrained: str | None = None,
    given: list[str] | None = None,
    context: list[str] | None = None,
    given_context: list[str] | None = None,
    count: int = 10,
    temperature: float = 1.0,
    invert: bool = False,
    prepare: Literal["scan", "none"] = "none",
    seed: int = 0,
    out: str = "samples.png",
    device: str = "auto",
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Draw images and write them as one picture: the given ones first, then the new ones.

    Args:
        run: Directory of a run or of a saved model; by default the newest run in runs/.
        pretrained: Name of a model that comes with the package.
        given: Image files, or folders of them, that show what to draw more of; none for samples
            of the prior.
        context: For conditional models, the labels to draw with, as azimuth=45, or several values
            of each, as azimuth=0,90,180: a row of images for each of them.
        given_context: Labels of the given images, one value for all or one for each; without them,
            angles are counted from the first, and the others are estimated.
        count: How many images to draw, of each value of the context.
        temperature: 1 for exact samples; less for more typical and less varied ones.
        invert: Turn dark ink on white paper into bright ink on black in the given images.
        prepare: scan prepares the given images as scans of handwriting.
        seed: Seed of the samples.
        out: The picture to write, in any format Pillow knows.
        device: auto, cpu or cuda.
        overwrite: Replace a picture that is there already.
        as_json: Print what was done as JSON on standard output.
    """
    if given_context and not given:
        raise UserError("given_context: expected the images it is of, --given, too")
    if count < 1:
        raise UserError(f"count: expected at least 1, got {count}")
    path = user_path(out, "out")
    formats = Image.registered_extensions()
    if formats.get(path.suffix.lower()) not in Image.SAVE:
        raise UserError(f"out: expected a picture such as samples.png, got {out!r}")
    check_new_file(path, "out", overwrite=overwrite)
    device = resolve_device(device)
    located = locate_model(run, pretrained)
    model = located.load().to(device)
    channels, height, width = _image_shape(model.event_shape)
    if height != width:
        raise UserError(f"run: expected a model of square images, got {height} x {width}")
    labels, context_dim = located.context_labels, model.flow.context_dim
    wanted = parse_context("context", context, labels, context_dim)
    files = _files(given or [])
    colours: Channels = "grey" if channels == 1 else "colour"
    options = None
    if prepare == "scan":
        trained_on = located.experiment.get("data", {}).get("name", "")
        options = scan_options_for(trained_on) or ScanOptions()
    images = [
        load_image(file, image_size=height, channels=colours, invert=invert, prepare=options)
        for file in files
    ]
    predictive = model.prior()
    if images:
        x = dequantise(torch.stack(images), generator_for(seed, 0))
        seen: Tensor | None
        if context_dim and given_context is None:
            seen = _estimated(model, x, labels)
        else:
            seen = _for_each(parse_context("given_context", given_context, labels, context_dim), x)
        predictive = model.condition(_to(model, x), None if seen is None else _to(model, seen))
    values = 1 if wanted is None else len(wanted)
    drawn = predictive.sample(
        (values, count),
        context=None if wanted is None else _to(model, wanted.unsqueeze(1)),
        generator=generator_for(seed, 1),
        temperature=temperature,
    )
    samples = quantise(drawn.cpu())
    buffer = io.BytesIO()
    rows = [images, *map(list, samples)] if values > 1 else [images, list(samples[0])]
    _picture(rows).save(buffer, format=formats[path.suffix.lower()])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
    if as_json:
        summary = {"out": str(path), "given": [str(f) for f in files], "count": count * values}
        print_json({**summary, "seed": seed})
    else:
        told = f"{len(images)} given and " if images else ""
        output_console().print(f"{told}{count * values} drawn images written to {path}")


def _for_each(context: Tensor | None, x: Tensor) -> Tensor | None:
    """Return the context of every given image."""
    if context is None:
        return None
    if len(context) not in (1, len(x)):
        raise UserError(
            f"given_context: expected 1 value or {len(x)}, one for each image, got {len(context)}"
        )
    return context.expand(len(x), -1)


def _estimated(model: Bruno, x: Tensor, labels: Sequence[Label]) -> Tensor:
    """Return the context of images of one object whose angles nobody told, and say what it is.

    Angles are counted from the first image; every other is taken to be seen from where it is most
    likely, given those before.
    """
    if [label.is_angle for label in labels] != [True]:
        form = " ".join(f"{label.name}=NUMBER" for label in labels)
        raise UserError(f"given_context: expected the labels of the given images, {form}")
    name = labels[0].name
    degrees = torch.arange(0, 360, _ANGLE_STEP, device="cpu").double()
    candidates = encode_context(labels, {name: degrees})
    chosen = [0]
    for index in range(1, len(x)):
        seen = model.condition(_to(model, x[:index]), _to(model, candidates[chosen]))
        chosen.append(int(scores_by_label(seen, x[index], candidates).argmax()))
    likely = ", ".join(f"{degrees[index]:g}" for index in chosen)
    progress_console().print(
        f"{name} of the given images, counted from the first and estimated: {likely}"
    )
    return candidates[chosen]


def _to(model: Bruno, tensor: Tensor) -> Tensor:
    return tensor.to(model.device)


def _image_shape(event_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(event_shape) != 3:
        raise UserError(f"run: expected a model of images, got elements of shape {event_shape}")
    channels, height, width = event_shape
    return channels, height, width


def _files(given: list[str]) -> list[Path]:
    files: list[Path] = []
    for name in given:
        path = user_path(name, "given")
        if path.is_dir():
            inside = [file for file in data_in(path) if file.is_file()]
            if not inside:
                raise UserError(f"given: expected images in the folder {path}, found no files")
            files += inside
        else:
            files.append(path)
    return files


def _picture(groups: list[list[Tensor]]) -> Image.Image:
    """Return groups of images below each other, ten to a row, enlarged without smoothing."""
    blocks = [_tiles(images) for images in groups if images]
    gap = np.full((3 * _GAP, blocks[0].shape[1], 3), _WHITE, np.uint8)
    stacked = np.concatenate([blocks[0], *(part for b in blocks[1:] for part in (gap, b))])
    size = (stacked.shape[1] * _SCALE, stacked.shape[0] * _SCALE)
    return Image.fromarray(stacked).resize(size, Image.Resampling.NEAREST)


def _tiles(images: list[Tensor]) -> NDArray[np.uint8]:
    height, width = images[0].shape[-2:]
    rows = -(-len(images) // _COLUMNS)
    canvas = np.full(
        (rows * (height + _GAP) + _GAP, _COLUMNS * (width + _GAP) + _GAP, 3), _WHITE, np.uint8
    )
    for index, image in enumerate(images):
        top = _GAP + index // _COLUMNS * (height + _GAP)
        left = _GAP + index % _COLUMNS * (width + _GAP)
        tile = image.expand(3, height, width).permute(1, 2, 0).numpy()
        canvas[top : top + height, left : left + width] = tile
    return canvas
