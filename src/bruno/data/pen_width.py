"""Width of pen strokes in grey-level images: its estimate and its change."""

from __future__ import annotations

import math

import numpy as np
import scipy  # its packages are imported when they are used
from numpy.typing import NDArray

from bruno.validation import check_number, check_share

Floats = NDArray[np.float64]

_EDGE = 0.3  # ink level where strokes end when their width changes: faint strokes stay whole


def stroke_width(ink: Floats) -> float:
    """Return the typical width of strokes: twice their area, divided by their perimeter.

    The perimeter is the total variation of the image (coarea formula), so soft edges need no
    threshold. A long stroke of width w has area w L and perimeter 2 L.

    Args:
        ink: Ink level from 0 to 1, ``(H, W)``.

    Returns:
        The width in pixels; 0 without ink.
    """
    perimeter = float(np.hypot(*np.gradient(scipy.ndimage.gaussian_filter(ink, 1))).sum())
    return 2 * float(ink.sum()) / perimeter if perimeter else 0.0


def change_stroke_width(ink: Floats, width: float, correction: float = 1.0) -> Floats:
    """Return strokes with their edges moved in or out, by the signed distance from them.

    Args:
        ink: Ink level from 0 to 1, ``(H, W)``.
        width: Wanted width of strokes, in pixels.
        correction: Share of the difference from this width that is removed.

    Returns:
        Ink level ``(H + 2 p, W + 2 p)``, padded by what strokes may grow.

    Raises:
        UserError: If the width is not positive and finite, or the correction not in [0, 1].
    """
    check_number("width", width, "a positive number", lambda pixels: 0 < pixels < math.inf)
    check_share("correction", correction)
    growth = correction * (width - stroke_width(ink)) / 2
    ink = np.pad(ink, int(np.ceil(max(growth, 0))) + 1)
    is_ink = ink > _EDGE
    # Distances are between centres of pixels; edges lie half a pixel before those.
    inside = np.where(
        is_ink,
        scipy.ndimage.distance_transform_edt(is_ink) - 0.5,
        0.5 - scipy.ndimage.distance_transform_edt(~is_ink),
    )
    reached = np.clip(inside + growth + 0.5, 0, 1)
    changed: Floats = reached if growth > 0 else reached * ink
    return changed
