"""Many small images as one picture, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def mosaic(
    images: Sequence[Tensor], corners: Sequence[tuple[int, int]], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return one RGBA picture of images at given places, transparent between them.

    Args:
        images: uint8 ``(C, H, W)`` with 1 or 3 channels each.
        corners: Top and left edge of every image, in pixels.
        size: Height and width of the picture, in pixels.

    Returns:
        uint8 ``(height, width, 4)``.

    Example:
        >>> import torch
        >>> picture = mosaic([torch.full((1, 1, 1), 7, dtype=torch.uint8)], [(0, 1)], (1, 2))
        >>> picture.tolist()
        [[[0, 0, 0, 0], [7, 7, 7, 255]]]
    """
    picture = np.zeros((*size, 4), dtype=np.uint8)
    for image, (top, left) in zip(images, corners, strict=True):
        height, width = image.shape[-2:]
        tile = picture[top : top + height, left : left + width]
        tile[..., :3] = image.permute(1, 2, 0).numpy()  # one channel broadcasts to three
        tile[..., 3] = 255
    return picture


def on_white(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture whose transparent pixels are white, RGBA to RGB."""
    return np.where(picture[..., 3:] > 0, picture[..., :3], np.uint8(255))


def enlarged(picture: NDArray[np.uint8], scale: int) -> Image.Image:
    """Return a picture enlarged without smoothing.

    Args:
        picture: uint8 ``(height, width, 3)``.
        scale: Side of the square that every pixel becomes.

    Returns:
        The picture, ``scale`` times as high and wide.
    """
    height, width = picture.shape[:2]
    size = (width * scale, height * scale)
    return Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
