"""One image file as 8-bit pixels, scaled by the rules of its format."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from bruno.data.scans import ScanOptions, prepare_scan
from bruno.errors import MissingDataError, UserError
from bruno.paths import user_path
from bruno.validation import check_choice, check_whole

Channels = Literal["grey", "colour"]

DEFAULT_IMAGE_SIZE = 28

WEB_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats of :func:`read_image`."""

_MODES = {"grey": "L", "colour": "RGB"}
_WHITE = 255
# Ink that differs from the paper by less than a quarter of the range is taken for invisible.
_LEAST_CONTRAST = 64
_DEEPEST = 2**16 - 1
# Pillow brings grey levels of a PNG to 8 bits, but not the one that stands for transparent.
_PNG_KEY_FACTORS = {"L;2": _WHITE / 3, "L;4": _WHITE / 15, "RGB;16B": 2.0**-8}
_SAMPLE_FORMAT, _BITS_PER_SAMPLE, _PHOTOMETRIC = 339, 258, 262
_SIGNED, _WHITE_IS_ZERO = 2, 0


class UnreadableImageError(Exception):
    """A file cannot be decoded, or its format does not define its numbers."""


class DecodedImage(NamedTuple):
    """Pixels of an image file.

    Attributes:
        pixels: uint8 ``(C, H, W)``.
        other_paper: Whether the image was laid on the other paper than the usual one, because its
            ink could not be seen on that.
    """

    pixels: NDArray[np.uint8]
    other_paper: bool


def load_image(
    path: str | Path,
    *,
    image_size: int = DEFAULT_IMAGE_SIZE,
    channels: Channels = "grey",
    invert: bool = False,
    prepare: ScanOptions | None = None,
) -> Tensor:
    """Load one image as :func:`load_folder` does, uint8 ``(1 or 3, image_size, image_size)``.

    The image is turned as its EXIF orientation says, scaled until its shorter side fits, and cut
    to its central square. Where it is transparent it is laid on black paper (white before
    ``invert``); only if its ink could not be seen there, such as black ink without ``invert``, it
    is laid on the opposite, with a warning. Samples of 16 bits, and of 12 in TIFF, are brought to
    8; floats count from 0, black, to 1, white.

    Args:
        path: A file of any format that Pillow reads; the first frame, if it has several.
        image_size: Height and width of the result, in pixels.
        channels: ``"grey"`` or ``"colour"``.
        invert: Turn dark ink on white paper into bright ink on black.
        prepare: Prepare the whole picture as a scan of handwriting, by
            :func:`~bruno.data.scans.prepare_scan`, instead of cutting out its square; for grey
            images, and in place of ``invert``.

    Returns:
        The image.

    Raises:
        MissingDataError: If the file is not there.
        UnpreparableScanError: If ``prepare`` finds no ink on paper.
        UserError: If it is no readable image; if its format does not define white, as
            for signed or 32-bit integers and floats above 1; or if an option is not as above.
    """
    path = user_path(path)
    check_options(image_size, channels, invert, prepare)
    if not path.exists():
        raise MissingDataError(f"path: {path} not found")
    try:
        image = decode(path, image_size, channels, invert, prepare)
    except UnreadableImageError as error:
        raise UserError(f"path: {path} is not a readable image ({error})") from error
    if image.other_paper:
        warnings.warn(paper_warning(str(path), invert), stacklevel=2)
    return torch.from_numpy(image.pixels)


def read_image(
    data: bytes,
    *,
    image_size: int,
    channels: Channels = "grey",
    invert: bool = False,
    prepare: ScanOptions | None = None,
    max_pixels: int,
    name: str = "image",
) -> Tensor:
    """Return an image of an untrusted file, as :func:`load_image` does of one on disk.

    The header is read first, and nothing is decoded that is larger than allowed or of a format
    other than :data:`WEB_FORMATS`.

    Args:
        data: Content of the file.
        image_size: Height and width of the result, in pixels.
        channels: ``"grey"`` or ``"colour"``.
        invert: Turn dark ink on white paper into bright ink on black.
        prepare: Prepare the whole picture as a scan of handwriting.
        max_pixels: Largest number of pixels of the picture.
        name: What errors call the image.

    Returns:
        uint8 ``(1 or 3, image_size, image_size)``.

    Raises:
        UnpreparableScanError: If ``prepare`` finds no ink on paper.
        UserError: If it is no readable image, or too large, or an option is not as above.
    """
    check_options(image_size, channels, invert, prepare)
    try:
        with Image.open(io.BytesIO(data), formats=WEB_FORMATS) as file:
            width, height = file.size
    except Exception as error:  # every decoder has exceptions of its own for damaged files
        known = ", ".join(WEB_FORMATS)
        raise UserError(f"{name}: expected a file of {known}, got none of these") from error
    if width * height > max_pixels:
        raise UserError(f"{name}: expected at most {max_pixels} pixels, got {width} x {height}")
    try:
        image = decode(io.BytesIO(data), image_size, channels, invert, prepare, name)
    except UnreadableImageError as error:
        raise UserError(f"{name}: is not a readable image ({error})") from error
    return torch.from_numpy(image.pixels)


def load_page(path: str | Path) -> Tensor:
    """Load a whole grey picture as it is, uint8 ``(1, H, W)``, turned as its EXIF data say.

    Args:
        path: A file of any format that Pillow reads; the first frame, if it has several.

    Raises:
        MissingDataError: If the file is not there.
        UserError: If it is no readable image; see :func:`load_image`.
    """
    path = user_path(path)
    if not path.exists():
        raise MissingDataError(f"path: {path} not found")
    try:
        image, _ = _page(path, "grey", invert=False)
    except UnreadableImageError as error:
        raise UserError(f"path: {path} is not a readable image ({error})") from error
    return torch.from_numpy(np.array(image, dtype=np.uint8))[None]


def check_options(
    image_size: int, channels: str, invert: bool = False, prepare: ScanOptions | None = None
) -> None:
    """Raise if an option of a loader of images is not as expected.

    Args:
        image_size: Height and width of images, in pixels.
        channels: ``"grey"`` or ``"colour"``.
        invert: Turn dark ink on white paper into bright ink on black.
        prepare: Prepare the picture as a scan of handwriting.

    Raises:
        UserError: With the option.
    """
    check_whole("image_size", image_size, 1)
    check_choice("channels", channels, _MODES)
    if prepare is not None and channels != "grey":
        raise UserError(f"prepare: expected grey images, got channels={channels!r}")
    if prepare is not None and invert:
        raise UserError(
            "invert: a prepared scan has its own polarity (the option ink); leave out invert"
        )


def paper_warning(images: str, invert: bool) -> str:
    """Return the warning of images that were laid on the other paper.

    Args:
        images: The images, in words.
        invert: Whether images were inverted.
    """
    dark, usual, other = ("light", "white", "black") if invert else ("dark", "black", "white")
    advice = "leave out invert" if invert else "set invert"
    return (
        f"{images}: ink too {dark} to be seen on {usual}, so the transparent background was made "
        f"{other}; {advice} for bright ink on black"
    )


def decode(
    path: Path | io.BytesIO,
    image_size: int,
    channels: Channels,
    invert: bool,
    prepare: ScanOptions | None = None,
    name: str | None = None,
) -> DecodedImage:
    """Return the pixels of an image file; see :func:`load_image`.

    Args:
        path: The file, or its content.
        image_size: Height and width of the result, in pixels.
        channels: ``"grey"`` or ``"colour"``.
        invert: Turn dark ink on white paper into bright ink on black.
        prepare: Prepare the picture as a scan of handwriting.
        name: What errors of the preparation call the image; its path by default.

    Returns:
        The pixels.

    Raises:
        UnreadableImageError: With the reason.
        UnpreparableScanError: If ``prepare`` finds no ink on paper.
    """
    image, other_paper = _page(path, channels, invert)
    if prepare is not None:
        page = np.asarray(image)
        scan = prepare_scan(page, prepare, image_size=image_size, name=name or f"path: {path}")
        return DecodedImage(scan.numpy(), other_paper=False)
    image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    pixels = np.array(image, dtype=np.uint8).reshape(image_size, image_size, -1)
    return DecodedImage(np.ascontiguousarray(pixels.transpose(2, 0, 1)), other_paper)


def _page(path: Path | io.BytesIO, channels: Channels, invert: bool) -> tuple[Image.Image, bool]:
    """Return the whole picture of a file in its mode, and whether it is on the other paper.

    Raises:
        UnreadableImageError: With the reason.
    """
    mode = _MODES[channels]
    try:
        with Image.open(path) as file:
            ends = _black_and_white(file)
            key = _transparent_level(file)
            image = ImageOps.exif_transpose(file)
        if key is not None:
            image.info["transparency"] = key
        if ends is not None:
            image = _eight_bits(image, *ends)
        image, other_paper = _laid_on_paper(image, mode, _WHITE if invert else 0)
        if invert:
            image = ImageOps.invert(image)
    except Exception as error:  # every decoder has exceptions of its own for damaged files
        raise UnreadableImageError(str(error) or type(error).__name__) from error
    return image, other_paper


def _black_and_white(file: Image.Image) -> tuple[float, float] | None:
    """Return the numbers that stand for black and white; none where Pillow has made them 8 bits.

    Raises:
        UnreadableImageError: If the format does not define them.
    """
    tags = getattr(file, "tag_v2", {})
    is_tiff = file.format == "TIFF"
    if is_tiff and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise UnreadableImageError("TIFF of signed integers, which does not say what is white")
    if file.mode == "F" and file.format in {"TIFF", "PPM"}:
        white = 1.0
    elif file.mode.startswith("I;16") and file.format in {"TIFF", "PNG", "JPEG2000"}:
        white = 2.0 ** (tags[_BITS_PER_SAMPLE][0] if is_tiff else 16) - 1
    elif file.mode == "I" and file.format in {"PNG", "PPM"}:
        white = _DEEPEST
    elif file.mode[0] in "IF":
        kind = "floats" if file.mode == "F" else "integers of more than 8 bits"
        raise UnreadableImageError(f"{file.format} of {kind}, which does not say what is white")
    else:
        return None
    # Pillow inverts TIFF of 8 bits itself, but no others.
    if is_tiff and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return white, 0.0
    return 0.0, white


def _transparent_level(file: Image.Image) -> int | tuple[int, ...] | None:
    """Return the level or colour of a PNG that stands for transparent, as deep as its pixels."""
    key = file.info.get("transparency")
    tiles = getattr(file, "tile", ())
    factor = _PNG_KEY_FACTORS.get(tiles[0].args) if file.format == "PNG" and tiles else None
    if factor is None or key is None:
        return None
    if isinstance(key, tuple):
        return tuple(int(level * factor) for level in key)
    return int(key * factor)


def _eight_bits(image: Image.Image, black: float, white: float) -> Image.Image:
    """Return an image of deep grey levels as ``L``, or ``LA`` if one of them is transparent.

    Raises:
        UnreadableImageError: If a number lies outside the range.
    """
    samples = np.asarray(image)
    levels = np.rint((samples - black) * (_WHITE / (white - black)))
    if not ((levels >= 0) & (levels <= _WHITE)).all():
        raise UnreadableImageError(
            f"floats from {samples.min():g} to {samples.max():g}, where 0 is black and 1 is white"
        )
    grey = Image.fromarray(levels.astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    opaque = samples != image.info["transparency"]
    return Image.merge("LA", (grey, Image.fromarray(opaque.astype(np.uint8) * _WHITE)))


def _laid_on_paper(image: Image.Image, mode: str, usual: int) -> tuple[Image.Image, bool]:
    """Return an image in another mode, on paper where it is transparent, and if that is unusual."""
    if image.mode == "LAB":  # which Pillow turns into no other
        image = image.convert("RGB")
    if not image.has_transparency_data:
        return image.convert(mode), False
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    on_usual = _on_paper(image, usual).convert(mode)
    is_opaque = image.getchannel("A").getextrema() == (_WHITE, _WHITE)
    if is_opaque or _contrast(on_usual, usual) >= _LEAST_CONTRAST:
        return on_usual, False
    other = _WHITE - usual
    on_other = _on_paper(image, other).convert(mode)
    if _contrast(on_other, other) < _LEAST_CONTRAST:
        return on_usual, False
    return on_other, True


def _on_paper(image: Image.Image, paper: int) -> Image.Image:
    background = Image.new("RGBA", image.size, (paper, paper, paper, _WHITE))
    return Image.alpha_composite(background, image)


def _contrast(image: Image.Image, paper: int) -> int:
    """Return the largest difference of a pixel from the paper."""
    return int(np.abs(np.asarray(image, dtype=np.int16) - paper).max())
