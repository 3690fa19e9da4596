"""``bruno sample``: samples given a few pictures, or of the prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from bruno.cli.console import output_console, print_json, progress_console
from bruno.cli.context import parse_context
from bruno.cli.picture_file import picture_file
from bruno.data import load_image, quantise
from bruno.data.context import ContextFeature, encode_context
from bruno.data.folder import data_in
from bruno.data.image_file import Channels
from bruno.data.scans import ScanOptions, scan_options_for
from bruno.data.sets import dequantise
from bruno.device import resolve_device
from bruno.errors import UserError
from bruno.evaluation.pose_estimation import scores_by_context
from bruno.model import Bruno
from bruno.paths import user_path
from bruno.reporting.mosaic import enlarged, mosaic, on_white
from bruno.seeding import generator_for
from bruno.training.locate import locate_model
from bruno.validation import check_whole

_COLUMNS = 10
_SCALE = 4
_GAP = 2
_BETWEEN_GROUPS = 4 * _GAP
_ANGLE_STEP = 10


def sample(
    run: str | None = None,
    pretrained: str | None = None,
    given: list[str] | None = None,
    context: list[str] | None = None,
    given_context: list[str] | None = None,
    count: int = 10,
    latent_scale: float = 1.0,
    invert: bool = False,
    prepare: Literal["scan", "none"] = "none",
    seed: int = 0,
    out: str = "samples.png",
    device: str = "auto",
    overwrite: bool = False,
    force: bool = False,
    as_json: bool = False,
) -> None:
    """Draw images and write them as one picture: the given ones first, then the new ones.

    Args:
        run: Directory of a run or of a saved model; by default the newest run in runs/.
        pretrained: Name of a model that comes with the package.
        given: Image files, or folders of them, to condition on; none for samples of the prior.
        context: For conditional models, the context features to draw with, as azimuth=45, or
            several values of each, as azimuth=0,90,180: a row of images for each of them.
        given_context: Context features of the given images, one value for all or one for each;
            without them, angles are counted from the first, and the others are estimated.
        count: How many images to draw, of each value of the context.
        latent_scale: 1 for exact samples; less for more typical and less varied ones.
        invert: Turn dark ink on white paper into bright ink on black in the given images.
        prepare: scan prepares the given images as scans of handwriting.
        seed: Seed of the samples.
        out: The picture to write, in any format that Pillow writes.
        device: auto, cpu or cuda.
        overwrite: Replace a picture that is there already.
        force: Draw even if samples of the model are known not to be recognised.
        as_json: Print a summary as JSON on standard output.
    """
    if given_context and not given:
        raise UserError("given_context: expected the images it is of, --given, too")
    check_whole("count", count, 1)
    picture = picture_file(out, "samples.png", overwrite=overwrite)
    device = resolve_device(device)
    located = locate_model(run, pretrained)
    model = located.load().to(device)
    channels, height, width = _image_shape(model.event_shape)
    if height != width:
        raise UserError(f"run: expected a model of square images, got {height} x {width}")
    features, context_dim = located.context_features, model.flow.context_dim
    wanted = parse_context("context", context, features, context_dim)
    files = _files(given or [])
    colours: Channels = "grey" if channels == 1 else "colour"
    options = None
    if prepare == "scan":
        options = scan_options_for(located.dataset_name) or ScanOptions()
    images = [
        load_image(file, image_size=height, channels=colours, invert=invert, prepare=options)
        for file in files
    ]
    if not force:
        located.check_draws()
    predictive = model.prior()
    if images:
        x = dequantise(torch.stack(images), generator_for(seed, 0))
        seen: Tensor | None
        if context_dim and given_context is None:
            seen = _estimated(model, x, features)
        else:
            seen = _for_each(
                parse_context("given_context", given_context, features, context_dim), x
            )
        predictive = model.condition(_to(model, x), None if seen is None else _to(model, seen))
    values = 1 if wanted is None else len(wanted)
    drawn = predictive.sample(
        (values, count),
        context=None if wanted is None else _to(model, wanted.unsqueeze(1)),
        generator=generator_for(seed, 1),
        latent_scale=latent_scale,
    )
    samples = quantise(drawn.cpu())
    rows = [images, *map(list, samples)] if values > 1 else [images, list(samples[0])]
    picture.write(_picture(rows))
    if as_json:
        summary = {"given": [str(file) for file in files], "count": count * values, "seed": seed}
        print_json({"out": str(picture.path), **summary})
    else:
        prefix = f"{len(images)} given and " if images else ""
        output_console().print(f"{prefix}{count * values} drawn images written to {picture.path}")


def _for_each(context: Tensor | None, x: Tensor) -> Tensor | None:
    """Return the context of every given image."""
    if context is None:
        return None
    if len(context) not in (1, len(x)):
        raise UserError(
            f"given_context: expected 1 value or {len(x)}, one for each image, got {len(context)}"
        )
    return context.expand(len(x), -1)


def _estimated(model: Bruno, x: Tensor, features: Sequence[ContextFeature]) -> Tensor:
    """Return the context of images of one object whose angles are not given, and print it.

    Angles are counted from the first image; every other is taken to be seen from where it is most
    likely, given those before.
    """
    if [feature.is_angle for feature in features] != [True]:
        form = " ".join(f"{feature.name}=NUMBER" for feature in features)
        raise UserError(f"given_context: expected the context features of the given images, {form}")
    name = features[0].name
    degrees = torch.arange(0, 360, _ANGLE_STEP, device="cpu").double()
    candidates = encode_context(features, {name: degrees})
    chosen = [0]
    for index in range(1, len(x)):
        seen = model.condition(_to(model, x[:index]), _to(model, candidates[chosen]))
        chosen.append(int(scores_by_context(seen, x[index], candidates).argmax()))
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
    groups = [images for images in groups if images]
    height, width = groups[0][0].shape[-2:]
    corners, top = [], _GAP
    for images in groups:
        corners += [
            (
                top + index // _COLUMNS * (height + _GAP),
                _GAP + index % _COLUMNS * (width + _GAP),
            )
            for index in range(len(images))
        ]
        # Each group has margins of its own, and three gaps between them.
        top += -(-len(images) // _COLUMNS) * (height + _GAP) + _BETWEEN_GROUPS
    size = (top - _BETWEEN_GROUPS, _COLUMNS * (width + _GAP) + _GAP)
    every = [image for images in groups for image in images]
    return enlarged(on_white(mosaic(every, corners, size)), _SCALE)
