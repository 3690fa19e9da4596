"""Scanned or photographed handwriting, prepared to look like what a model was trained on.

Each step is a function of arrays and an option of :class:`ScanOptions`: a smooth background is
fitted to the paper and divided out, contrast is stretched to soft ink, specks and the rims of
sheets are left out, stroke width, size and position are brought to those of the training images,
and the result is resampled with anti-aliasing. :func:`scan_steps` returns all of them.

Typical sizes of Omniglot were measured on its *training* split, images of 28 x 28 pixels::

    BRUNO_DATA_DIR=... python benchmarks/digit_scans.py --measure

    larger side of the ink's bounding box   median 18 px   (5 to 95 %: 12 to 24)
    stroke width, drawings of 105 px / 3.75 median 1.44 px (5 to 95 %: 1.33 to 1.69)
    centre of the box                       row 13.0, column 13.1 (middle of the image: 13.5)
    centre of mass                          row 12.8, column 13.1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy  # its packages are imported when they are used
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from bruno.data.pen_width import change_stroke_width, stroke_width
from bruno.data.scan_background import fit_background
from bruno.errors import UserError
from bruno.validation import check_choice, check_share, check_whole

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

__all__ = [
    "REFERENCE_SIZE",
    "SCANS_VERSION",
    "ScanOptions",
    "ScanSteps",
    "UnpreparableScanError",
    "change_stroke_width",
    "fit_background",
    "prepare_scan",
    "scan_options_for",
    "scan_steps",
    "stroke_width",
]

SCANS_VERSION = 1
"""Raised whenever a preparation changes, so that cached images are prepared again."""

REFERENCE_SIZE = 28
"""Image size that lengths of :class:`ScanOptions` are given for; they grow with ``image_size``."""

_WHITE = 255.0
_MOST_BACKGROUND_DEGREE = 4
_SMALLEST_SIDE = 8
_LARGEST_SIDE = 1024  # a photograph of 12 megapixels is reduced to this before any work
# Ink differs from the paper by this share of its brightness, and by so many times its noise.
_LEAST_CONTRAST, _LEAST_SIGNAL = 0.06, 5.0
_LEAST_WITHOUT_RIM = 0.05  # share of the ink that a character beside a rim has
_SMALLEST_INK = 4  # pixels, the larger side of the bounding box
_WORKING_SIZE = 160  # larger side of the character while strokes are changed
_ALL_NEIGHBOURS = np.ones((3, 3))


class UnpreparableScanError(UserError):
    """A scan has no ink that could be prepared.

    Attributes:
        reason: The message without the name of the argument or file.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class ScanOptions:
    """Steps of the preparation of a scan; lengths are in pixels of a 28 x 28 image.

    Attributes:
        ink: Whether ink is ``"dark"`` on light paper, ``"light"`` on dark, or to be estimated,
            ``"auto"``.
        background_degree: Degree of the polynomial of row and column fitted to the paper; 0 for
            even light.
        ink_range: Shares of the contrast between paper and full ink that become 0 and 255.
        smallest_part: Connected parts smaller than this share of the largest are specks; 0 keeps
            all.
        character_size: Larger side of the ink's bounding box.
        stroke_width: Width of strokes; ``None`` leaves it as it is.
        stroke_correction: Share of the difference from ``stroke_width`` that is removed. Below 1
            because thinning erases detail of scans of few pixels.
        centre: Whether the centre of mass or that of the bounding box goes to the middle.

    Raises:
        UserError: If an option is out of its range.
    """

    ink: Literal["auto", "dark", "light"] = "auto"
    background_degree: int = 2
    ink_range: tuple[float, float] = (0.15, 0.85)
    smallest_part: float = 0.03
    character_size: float = 18.0
    stroke_width: float | None = 1.44
    stroke_correction: float = 0.75
    centre: Literal["mass", "box"] = "mass"

    def __post_init__(self) -> None:
        check_choice("ink", self.ink, ("auto", "dark", "light"))
        check_choice("centre", self.centre, ("mass", "box"))
        check_whole("background_degree", self.background_degree, 0)
        if self.background_degree > _MOST_BACKGROUND_DEGREE:
            raise UserError(
                f"background_degree: expected at most {_MOST_BACKGROUND_DEGREE}, got "
                f"{self.background_degree}"
            )
        if not isinstance(self.ink_range, Sequence) or len(self.ink_range) != 2:
            raise UserError(f"ink_range: expected two shares, got {self.ink_range!r}")
        for share in self.ink_range:
            check_share("ink_range", share)
        if not self.ink_range[0] < self.ink_range[1]:
            raise UserError(f"ink_range: expected ascending shares, got {self.ink_range!r}")
        check_share("smallest_part", self.smallest_part, without_highest=True)
        check_share(
            "character_size", self.character_size, highest=REFERENCE_SIZE, without_zero=True
        )
        if self.stroke_width is not None:
            check_share(
                "stroke_width", self.stroke_width, highest=REFERENCE_SIZE, without_zero=True
            )
        check_share("stroke_correction", self.stroke_correction)


_OPTIONS_BY_DATASET = {
    "omniglot": ScanOptions(),
    # LeCun et al. (1998) scaled digits into 20 x 20 pixels and centred them by mass.
    "mnist": ScanOptions(character_size=20.0, stroke_width=None),
}


class ScanSteps(NamedTuple):
    """Intermediate results of :func:`scan_steps`, for a picture.

    Attributes:
        page: The scan, grey levels ``(H, W)``; reduced if it was larger than 1024 pixels.
        background: The smooth background fitted to the paper, ``(H, W)``.
        ink: Ink level, 0 for paper and 1 for full ink, ``(H, W)``.
        parts: Pixels of the character: ink without specks and rims, bool ``(H, W)``.
        character: The character alone, enlarged or reduced to 160 pixels, 0 to 1.
        strokes: The same with the stroke width changed.
        prepared: The result, uint8 ``(1, image_size, image_size)``, ink 255 on 0.
        ink_is_dark: The polarity, given or estimated.
    """

    page: Floats
    background: Floats
    ink: Floats
    parts: Mask
    character: Floats
    strokes: Floats
    prepared: Tensor
    ink_is_dark: bool


def scan_options_for(dataset: str) -> ScanOptions | None:
    """Return the options that fit a model of handwriting; ``None`` if it is of anything else.

    Args:
        dataset: Name of the data set it was trained on.
    """
    return _OPTIONS_BY_DATASET.get(dataset)


def prepare_scan(
    image: Tensor | ArrayLike,
    options: ScanOptions | None = None,
    *,
    image_size: int = REFERENCE_SIZE,
    name: str = "image",
) -> Tensor:
    """Return a scan of one character as bright ink on black, in the size a model takes.

    Args:
        image: Grey levels, uint8 ``(H, W)`` or ``(1, H, W)``.
        options: The steps; those that fit Omniglot by default.
        image_size: Height and width of the result, in pixels.
        name: What errors call the image.

    Returns:
        uint8 ``(1, image_size, image_size)``.

    Raises:
        UnpreparableScanError: If the page is blank, all ink, or too small.
        UserError: If the image is not as above.
    """
    return scan_steps(image, options, image_size=image_size, name=name).prepared


def scan_steps(
    image: Tensor | ArrayLike,
    options: ScanOptions | None = None,
    *,
    image_size: int = REFERENCE_SIZE,
    name: str = "image",
) -> ScanSteps:
    """Return all steps of :func:`prepare_scan`; arguments and errors are the same.

    Args:
        image: Grey levels, uint8 ``(H, W)`` or ``(1, H, W)``.
        options: The steps; those that fit Omniglot by default.
        image_size: Height and width of the result, in pixels.
        name: What errors call the image.

    Returns:
        Every intermediate result.
    """
    options = options or ScanOptions()
    check_whole("image_size", image_size, 1)
    page = _reduced(_grey_levels(name, image))
    background, noise = fit_background(page, options.background_degree)
    is_dark = options.ink == "dark"
    if options.ink == "auto":
        # Ink lies further from the paper than noise does: the third moment has its sign.
        is_dark = float(((page - background) ** 3).sum()) < 0
    ink = _ink_level(name, page, background, noise, is_dark)
    parts = _character_parts(name, ink, options.smallest_part)
    low, high = options.ink_range
    character = _cut_out(ink, parts)
    character = np.clip((character - low) / (high - low), 0, 1)
    pixel = _WORKING_SIZE / options.character_size  # of a 28 x 28 image
    strokes = character
    if options.stroke_width is not None:
        strokes = change_stroke_width(
            character, options.stroke_width * pixel, options.stroke_correction
        )
    prepared = _placed(strokes, options.centre, REFERENCE_SIZE / 2 * pixel, image_size)
    return ScanSteps(page, background, ink, parts, character, strokes, prepared, is_dark)


def _grey_levels(name: str, image: Tensor | ArrayLike) -> NDArray[np.uint8]:
    pixels = image.cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if pixels.ndim == 3 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise UserError(
            f"{name}: expected grey levels, uint8 (H, W) or (1, H, W), got {pixels.dtype} "
            f"{pixels.shape}"
        )
    if min(pixels.shape) < _SMALLEST_SIDE:
        height, width = pixels.shape
        raise UnpreparableScanError(
            name,
            f"expected at least {_SMALLEST_SIDE} x {_SMALLEST_SIDE} pixels, got {height} x {width}",
        )
    return pixels


def _reduced(pixels: NDArray[np.uint8]) -> Floats:
    image = Image.fromarray(pixels)
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64)


def _ink_level(name: str, page: Floats, background: Floats, noise: float, is_dark: bool) -> Floats:
    """Return the contrast to the background, 1 where ink is full.

    Paper reflects a share of the light, so dark ink is divided by its background; light ink adds
    to it.
    """
    if is_dark:
        scale = np.maximum(background, _WHITE / 8)
        contrast = (background - page) / scale
        noise /= float(np.median(scale))
    else:
        contrast = (page - background) / _WHITE
        noise /= _WHITE
    most = min(16, contrast.size // 50)  # a few pixels may be dirt
    top = float(np.partition(contrast.ravel(), -1 - most)[-1 - most])
    full = float(np.median(contrast[contrast >= max(top, 0.0) / 2]))
    if full < max(_LEAST_CONTRAST, _LEAST_SIGNAL * noise):
        raise UnpreparableScanError(
            name,
            "expected ink that stands out from paper, got an even surface: a blank "
            "page, or all ink",
        )
    level: Floats = contrast / full
    return level


def _character_parts(name: str, ink: Floats, smallest_part: float) -> Mask:
    """Return the pixels of the character: connected ink that is neither speck nor rim."""
    is_ink = ink > 0.5
    labels, count = scipy.ndimage.label(is_ink, _ALL_NEIGHBOURS)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0  # the paper
    is_rim = np.zeros(count + 1, dtype=bool)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        # Ink along most of a side is the rim of the sheet or the shadow of a lid.
        is_rim |= np.bincount(side, minlength=count + 1) > len(side) / 2
    # In a tight crop it may also be the character.
    if areas[~is_rim].sum() >= _LEAST_WITHOUT_RIM * areas.sum():
        areas[is_rim] = 0
    kept = areas > 0
    kept &= areas >= smallest_part * areas.max()
    parts: Mask = kept[labels]
    rows, columns = np.nonzero(parts)
    size = max(np.ptp(rows), np.ptp(columns)) + 1 if len(rows) else 0
    if size < _SMALLEST_INK:
        raise UnpreparableScanError(
            name, f"expected a character of at least {_SMALLEST_INK} pixels, got {size}"
        )
    return parts


def _cut_out(ink: Floats, parts: Mask) -> Floats:
    """Return the character with its soft edges and a margin, at the working size."""
    rows, columns = np.nonzero(parts)
    size = int(max(np.ptp(rows), np.ptp(columns))) + 1
    factor = _WORKING_SIZE / size
    edge = max(1, round(0.04 * size))
    alone = ink * scipy.ndimage.binary_dilation(parts, _ALL_NEIGHBOURS, iterations=edge)
    margin = edge + 2
    # Indices after padding begin `margin` later.
    cut = np.pad(alone, margin)[
        rows.min() : rows.max() + 1 + 2 * margin, columns.min() : columns.max() + 1 + 2 * margin
    ]
    height, width = (max(1, round(side * factor)) for side in cut.shape)
    image = Image.fromarray(cut.astype(np.float32))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float64)


def _placed(strokes: Floats, centre: str, half: float, image_size: int) -> Tensor:
    """Return the middle of an image ``2 half`` wide around the character, resampled."""
    if centre == "mass":
        row, column = (place + 0.5 for place in scipy.ndimage.center_of_mass(strokes))
    else:
        rows, columns = np.nonzero(strokes > 0.5)
        row, column = ((side.min() + side.max() + 1) / 2 for side in (rows, columns))
    margin = int(np.ceil(half)) + 1
    image = Image.fromarray((np.pad(strokes, margin) * _WHITE).astype(np.float32))
    left, top = column + margin - half, row + margin - half
    resized = image.resize(
        (image_size, image_size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + 2 * half, top + 2 * half),
    )
    pixels = np.rint(np.asarray(resized).clip(0, _WHITE)).astype(np.uint8)
    return torch.from_numpy(pixels)[None]
