"""Blocks: built-in objects made of boxes, seen from any side; they need no file.

Every class is one object of a few boxes that touch, every image a view of it from another azimuth,
lit from above the camera's left shoulder. Test objects are never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bruno.data.cache import Arrays, cached_arrays
from bruno.data.context import ContextFeature, encode_context
from bruno.data.dataset import SPLITS, LabelledImages, check_split
from bruno.progress import track
from bruno.validation import check_whole

IMAGE_SIZE = 32
VIEWS = 36
ELEVATION = 30.0
OBJECTS = {"train": 350, "val": 50, "test": 100}
AZIMUTH = ContextFeature("azimuth", is_angle=True)
LOADER_VERSION = 1

_BOXES = (2, 5)
_HALF_SIDES = (0.15, 0.5)
# Rays along a side of a pixel: their mean is the grey of the pixel.
_RAYS = 2
_LIGHT = np.array([-0.45, 0.65, 0.6])
_AMBIENT, _DIFFUSE = 0.25, 0.7


@dataclass(frozen=True, eq=False)
class Boxes:
    """An object: boxes with sides along the axes, within a ball of radius 1 about the origin.

    Attributes:
        centres: ``(K, 3)``; the second axis points up.
        half_sides: ``(K, 3)``.
    """

    centres: NDArray[np.float64]
    half_sides: NDArray[np.float64]


def load_blocks(split: str, *, seed: int = 0) -> LabelledImages:
    """Render one split: a class an object, an image a view of it, the context its azimuth.

    Args:
        split: ``"train"`` (350 objects), ``"val"`` (50) or ``"test"`` (100).
        seed: Seed of the objects, not negative.

    Returns:
        Images uint8 ``(N, 1, 32, 32)`` on black, 36 views of every object, 10 degrees apart and
        from 30 degrees above; the context is the sine and cosine of the azimuth.

    Raises:
        UserError: If the split is unknown or the seed negative.
    """
    check_split("blocks", split, SPLITS)
    check_whole("seed", seed, 0)
    count = OBJECTS[split]
    arrays = cached_arrays(
        f"blocks-{split}",
        ["blocks", LOADER_VERSION, seed, count, VIEWS],
        lambda: _render_split(split, seed, count),
    )
    azimuths = torch.arange(VIEWS, device="cpu", dtype=torch.float64) * (360 / VIEWS)
    return LabelledImages(
        images=torch.from_numpy(arrays["images"]),
        labels=torch.arange(count, device="cpu").repeat_interleave(VIEWS),
        class_names=tuple(f"{split}-{index}" for index in range(count)),
        name="blocks",
        split=split,
        context=encode_context([AZIMUTH], {"azimuth": azimuths}).repeat(count, 1),
        context_features=(AZIMUTH,),
    )


def random_boxes(generator: np.random.Generator) -> Boxes:
    """Return an object of two to five boxes, each but the first touching one before it.

    Args:
        generator: Source of randomness.
    """
    count = int(generator.integers(*_BOXES, endpoint=True))
    half_sides = generator.uniform(*_HALF_SIDES, (count, 3))
    centres = np.zeros((count, 3))
    for new in range(1, count):
        old = generator.integers(new)
        axis, side = generator.integers(3), generator.choice([-1, 1])
        reach = half_sides[old] + half_sides[new]
        # Along one axis they touch, along the others they overlap by a fifth of the reach at least.
        offset = generator.uniform(-0.8, 0.8, 3) * reach
        offset[axis] = side * reach[axis]
        centres[new] = centres[old] + offset
    low, high = (centres - half_sides).min(0), (centres + half_sides).max(0)
    centres = centres - (low + high) / 2
    radius = np.linalg.norm(np.abs(centres) + half_sides, axis=1).max()
    return Boxes(centres / radius, half_sides / radius)


def render(
    boxes: Boxes, azimuth: float, elevation: float = ELEVATION, size: int = IMAGE_SIZE
) -> NDArray[np.uint8]:
    """Return a view of boxes, uint8 ``(size, size)``, the nearest face of each ray on black.

    Args:
        boxes: The boxes.
        azimuth: Where from, in degrees around the vertical axis.
        elevation: Where from, in degrees above the horizon.
        size: Height and width of the image, in pixels; it shows the ball of radius 1.
    """
    turn, rise = np.deg2rad([azimuth, elevation])
    right = np.array([np.cos(turn), 0, -np.sin(turn)])
    towards_camera = np.array(
        [np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)]
    )
    up = np.cross(towards_camera, right)
    line = (np.arange(size * _RAYS) + 0.5) / (size * _RAYS) * 2 - 1
    origins = line[None, :, None] * right - line[:, None, None] * up + 2 * towards_camera
    # Where a ray enters and leaves the slab between opposite faces of a box: (H, W, K, 3). A ray
    # that runs along a face divides by zero, and infinities are compared as they should be.
    relative = boxes.centres - origins[:, :, None]
    with np.errstate(divide="ignore"):
        inverse = 1 / -towards_camera
    with np.errstate(invalid="ignore"):
        ends = np.stack([relative - boxes.half_sides, relative + boxes.half_sides]) * inverse
    entry, leave = np.nan_to_num(ends.min(0), nan=-np.inf), np.nan_to_num(ends.max(0), nan=np.inf)
    face, depth = entry.argmax(-1), entry.max(-1)
    depth = np.where(depth < leave.min(-1), depth, np.inf)
    nearest = depth.argmin(-1)[..., None]
    hit = np.isfinite(np.take_along_axis(depth, nearest, -1)[..., 0])
    # The faces that are seen look towards the camera.
    brightness = _AMBIENT + _DIFFUSE * np.clip(
        np.sign(towards_camera) * (_LIGHT @ np.stack([right, up, towards_camera])), 0, None
    )
    grey = np.where(hit, brightness[np.take_along_axis(face, nearest, -1)[..., 0]], 0.0)
    pixels = grey.reshape(size, _RAYS, size, _RAYS).mean((1, 3))
    return np.asarray(np.rint(255 * pixels.clip(0, 1)), dtype=np.uint8)


def _render_split(split: str, seed: int, count: int) -> Arrays:
    images = [
        render(boxes, 360 * view / VIEWS)
        for index in track(range(count), "Rendering blocks")
        for boxes in [random_boxes(np.random.default_rng([seed, SPLITS.index(split), index]))]
        for view in range(VIEWS)
    ]
    return {"images": np.stack(images)[:, None]}
