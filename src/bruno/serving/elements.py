"""What requests describe elements by: an image file, pen strokes, or a vector."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from bruno.data.image_file import Channels, read_image
from bruno.data.scans import REFERENCE_SIZE, ScanOptions
from bruno.errors import UserError
from bruno.serving.errors import RefusalError

Strokes = Sequence[Sequence[tuple[float, float]]]
Prepare = Literal["auto", "scan", "none"]

_FINER = 8  # pixels of the page strokes are drawn on, for each of the image


@dataclass(frozen=True)
class ElementFormat:
    """The form in which a model takes elements.

    Attributes:
        event_shape: Shape of an element.
        scans: How pictures of handwriting are prepared; ``None`` for models of anything else.
        max_pixels: Largest number of pixels of a picture.
    """

    event_shape: tuple[int, ...]
    scans: ScanOptions | None
    max_pixels: int

    @property
    def is_image(self) -> bool:
        """Whether elements are images."""
        return len(self.event_shape) == 3

    def from_image(self, data: str, prepare: Prepare, *, invert: bool, name: str) -> Tensor:
        """Return an image, uint8, from a file in base64.

        Args:
            data: The file.
            prepare: ``scan``, ``none``, or ``auto``: as a scan if the model is of handwriting and
                ``invert`` is not given.
            invert: Turn dark ink on white paper into bright ink on black.
            name: What errors call it.

        Raises:
            UserError: If it is no image that can be used.
        """
        self._check_image(name)
        channels, size, _ = self.event_shape
        colours: Channels = "grey" if channels == 1 else "colour"
        options = None
        if prepare == "scan" or (prepare == "auto" and not invert):
            options = self.scans or (ScanOptions() if prepare == "scan" else None)
        try:
            content = base64.b64decode(data.partition("base64,")[2] or data, validate=True)
        except ValueError:
            raise UserError(f"{name}: expected a file in base64, got other characters") from None
        return read_image(
            content,
            image_size=size,
            channels=colours,
            invert=invert,
            prepare=options,
            max_pixels=self.max_pixels,
            name=name,
        )

    def from_strokes(self, strokes: Strokes, name: str) -> Tensor:
        """Return an image, uint8, of pen strokes, drawn as the model's training images are.

        Args:
            strokes: Points ``(x, y)`` of each, y downwards, in any unit.
            name: What errors call them.

        Raises:
            UserError: If there is no point, or the model does not take grey images.
        """
        self._check_image(name)
        if self.event_shape[0] != 1:
            raise UserError(f"{name}: expected an image, for the model is not of grey images")
        return draw_strokes(strokes, self.event_shape[1], self.scans or ScanOptions(), name)

    def from_vector(self, values: Sequence[float], name: str) -> Tensor:
        """Return a vector, float64.

        Args:
            values: Its numbers.
            name: What errors call it.

        Raises:
            UserError: If it has not as many as the model takes.
        """
        if self.is_image:
            raise UserError(f"{name}: expected an image, for the model is of images")
        if len(values) != self.event_shape[0]:
            raise UserError(f"{name}: expected {self.event_shape[0]} numbers, got {len(values)}")
        return torch.tensor(values, device="cpu", dtype=torch.float64)

    def from_content(self, content: bytes) -> Tensor:
        """Return the element that :func:`content_of` made bytes of."""
        kind = np.uint8 if self.is_image else np.dtype("<f8")
        return torch.from_numpy(np.frombuffer(content, kind).reshape(self.event_shape).copy())

    def _check_image(self, name: str) -> None:
        if not self.is_image:
            raise UserError(
                f"{name}: expected a vector of {self.event_shape[0]} numbers, for the model is of "
                "vectors"
            )


def content_of(element: Tensor) -> bytes:
    """Return the bytes of an element: grey levels, or float64, little endian."""
    pixels = element.numpy()
    return (pixels if pixels.dtype == np.uint8 else pixels.astype("<f8")).tobytes()


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def draw_strokes(strokes: Strokes, image_size: int, options: ScanOptions, name: str) -> Tensor:
    """Return pen strokes as bright ink on black, uint8 ``(1, image_size, image_size)``.

    They get the size, the place and the stroke width that ``options`` give scans.

    Args:
        strokes: Points ``(x, y)`` of each, y downwards.
        image_size: Height and width of the image, in pixels.
        options: Size, place and width, in pixels of an image of 28.
        name: What errors call them.

    Raises:
        UserError: If there is no point.

    Example:
        >>> image = draw_strokes([[(0, 0), (4, 4)], [(0, 4), (4, 0)]], 28, ScanOptions(), "strokes")
        >>> image.shape, bool(image[0, 14, 14] > 200), int(image[0, 0, 0])
        (torch.Size([1, 28, 28]), True, 0)
    """
    lines = [np.asarray(stroke, dtype=np.float64) for stroke in strokes if len(stroke)]
    if not lines:
        raise UserError(f"{name}: expected at least one point, got none")
    pixel = image_size / REFERENCE_SIZE * _FINER
    width = (options.stroke_width or 2.0) * pixel
    points = np.concatenate(lines)
    low, high = points.min(0), points.max(0)
    extent = float((high - low).max())
    scale = (options.character_size * pixel - width) / extent if extent > 0 else 1.0
    middle = _centre_of_mass(lines) if options.centre == "mass" else (low + high) / 2
    page = Image.new("L", (image_size * _FINER, image_size * _FINER))
    pen = ImageDraw.Draw(page)
    for line in lines:
        placed = (line - middle) * scale + image_size * _FINER / 2
        corners = [(float(x), float(y)) for x, y in placed]
        if len(corners) > 1:
            pen.line(corners, fill=255, width=round(width), joint="curve")
        for x, y in (corners[0], corners[-1]):  # round ends, and dots
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    # As Omniglot is reduced: after other filters the model finds strokes improbable.
    drawn = page.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(drawn, dtype=np.uint8))[None]


def picture(element: Tensor, scale: int = 1) -> str:
    """Return an image, uint8 ``(C, H, W)``, as a PNG in base64.

    Args:
        element: The image.
        scale: Pixels of the picture, along one side, for each of the image.
    """
    return base64.b64encode(png(element, scale)).decode()


def png(element: Tensor, scale: int = 1) -> bytes:
    """Return an image, uint8 ``(C, H, W)``, as a PNG.

    Args:
        element: The image.
        scale: Pixels of the picture, along one side, for each of the image.
    """
    pixels = element.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def check_number(items: Sequence[object], most: int, name: str) -> None:
    """Raise if there are too many elements for one request.

    Args:
        items: The elements.
        most: How many may be.
        name: What the error calls them.

    Raises:
        RefusalError: 413 with the limit.
    """
    if len(items) > most:
        raise RefusalError(413, f"{name}: expected at most {most} in one request, got {len(items)}")


def _centre_of_mass(lines: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean point of lines, every bit of length counted alike."""
    middles = np.concatenate([(line[1:] + line[:-1]) / 2 for line in lines] + [lines[0][:1]])
    lengths = np.concatenate([np.linalg.norm(np.diff(line, axis=0), axis=1) for line in lines])
    lengths = np.append(lengths, 1e-12 if lengths.sum() else 1.0)
    mean: NDArray[np.float64] = (middles * lengths[:, None]).sum(0) / lengths.sum()
    return mean
