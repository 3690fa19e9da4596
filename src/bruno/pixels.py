"""The meaning of the pixels that models of images are given: one rule for the whole library.

- Integers of any width, and images of floats that are all whole numbers, are grey levels from 0 to
  255. The middle of its bin, ``level + 0.5``, stands for each: a fixed choice, where dequantisation
  noise is a random one.
- Other floats are dequantised pixels in [0, 256], which densities are of. They stay as they are.
- Everything else is refused: booleans, masks of 0 and 1, and pixels scaled to 0..1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.flows.preprocessing import LEVELS
from bruno.validation import values_can_be_checked

NOISE_STEP = 2.0**-16
"""Distance of the values of dequantisation noise: that of neighbouring floats from 128 to 256."""

# Integers that torch cannot compare.
_WITHOUT_EXTREMES = (torch.uint16, torch.uint32, torch.uint64)
_EXPECTED = f"expected grey levels, whole numbers from 0 to {LEVELS - 1}"


def as_pixels(name: str, x: Tensor) -> Tensor:
    """Return images as a flow takes them: dequantised pixels, each within the bin of its level.

    Args:
        name: Name of the images, for errors.
        x: Images ``(..., C, H, W)``: grey levels, or floats that are dequantised already.

    Returns:
        Floats of the same shape. A tensor that this function returned is returned unchanged.

    Raises:
        UserError: If the pixels are of the wrong kind, as :func:`check_levels` raises it.

    Example:
        >>> image = torch.tensor([[[0, 50, 255]]], dtype=torch.uint8)
        >>> as_pixels("x", image)
        tensor([[[  0.5000,  50.5000, 255.5000]]])
        >>> torch.equal(as_pixels("x", image.float()), as_pixels("x", image))
        True
        >>> as_pixels("x", image / 255)
        Traceback (most recent call last):
        bruno.errors.UserError: x: expected grey levels, whole numbers from 0 to 255, got
        float32 from 0 to 1, as of pixels scaled to 0..1; multiply by 255 and round...
    """
    check_levels(name, x)
    return in_bins(x)


def check_levels(name: str, x: Tensor) -> None:
    """Raise if images are neither grey levels nor dequantised pixels.

    A batch is judged as a whole, for a single image may be nearly black. Floats up to 1 are taken
    for a scaled image unless they are all 0, or black images dequantised by
    :func:`~bruno.data.sets.dequantise`, whose noise lies on a grid.

    Args:
        name: Name of the images, for errors.
        x: Images ``(..., C, H, W)``.

    Raises:
        UserError: If they are booleans, outside the range of grey levels, only 0 and 1, or floats
            of which none is larger than 1.
    """
    if x.dtype == torch.bool:
        raise UserError(f"{name}: {_EXPECTED}, got booleans; multiply by {LEVELS - 1}")
    if x.numel() == 0 or x.is_complex() or not values_can_be_checked(x):
        return
    # One pass over dequantised images, as in training; all other questions are for the rest.
    extremes = (x.long() if x.dtype in _WITHOUT_EXTREMES else x.detach()).aminmax()
    low, high = extremes.min.item(), extremes.max.item()
    if low >= 0 and 1 < high < LEVELS:
        return
    if not math.isfinite(high - low):  # the flow has an error for that
        return
    got = f"got {str(x.dtype).removeprefix('torch.')} from {low:g} to {high:g}"
    if not 0 <= low <= high <= LEVELS or (high == LEVELS and bool(_whole(x).any())):
        raise UserError(f"{name}: {_EXPECTED}, or dequantised pixels in [0, {LEVELS}], {got}")
    if high > 1 or high == 0:
        return
    if bool(_whole(x).all()):
        raise UserError(
            f"{name}: {_EXPECTED}, got only 0 and 1, as in a mask; multiply by {LEVELS - 1}, or "
            "add 0.5 if these are grey levels"
        )
    if not _is_dequantised_black(x, high):
        raise UserError(
            f"{name}: {_EXPECTED}, {got}, as of pixels scaled to 0..1; multiply by {LEVELS - 1} "
            "and round (pixels that are this dark: round down with bruno.data.quantise)"
        )


def in_bins(x: Tensor) -> Tensor:
    """Return images whose grey levels are put in the middle of their bins.

    Args:
        x: Images ``(..., C, H, W)`` that :func:`check_levels` accepts. An image of floats holds
            grey levels if all its numbers are whole, whatever the others in the batch are.
    """
    if not x.is_floating_point():
        return x if x.is_complex() else x.float() + 0.5
    # A row of pixels of each image shows of nearly all dequantised images that they are.
    if values_can_be_checked(x) and not bool(_whole(x[..., :1, :]).any()):
        return x
    holds_levels = _whole(x)[..., None, None, None]
    return torch.where(holds_levels, x.to(torch.promote_types(x.dtype, torch.float32)) + 0.5, x)


def _whole(x: Tensor) -> Tensor:
    """Return which images hold whole numbers only, ``(..., C, H, W) -> (...)``."""
    return (x == x.floor()).flatten(-3).all(-1)


def _is_dequantised_black(x: Tensor, high: float) -> bool:
    """Return whether floats from 0 to 1 are what ``dequantise`` makes of black images."""
    # Levels divided by 256 lie on the grid, too, but on a coarser one as well.
    noise = high < 1 and _on_grid(x, NOISE_STEP) and not _on_grid(x, 1 / LEVELS)
    return noise or bool((x == 0.5).all())


def _on_grid(x: Tensor, step: float) -> bool:
    steps = x.double() / step
    return bool((steps == steps.floor()).all())
