"""Characters of a font turned into pen strokes: thin the ink to its middle line, draw it anew.

A font gives the shape of a character, a pen gives its line. So a character is kept as the distance
of every point of the page from the middle line of its strokes; a drawing bends the page first and
then inks every point that is closer to the line than half the width of the pen. The line is as
wide after bending as before, as it is in handwriting and is not in a stretched picture.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

PAGE = 64
"""Height and width, in pixels, of the page a character is thinned on."""

EXTENT = 44
"""Larger side, in pixels, of the box around the ink of a character on its page."""

_REFERENCE_SIZE = 100

# The eight neighbours of a pixel, clockwise from the one above, as (row, column) steps.
_NEIGHBOURS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def render(character: str, font: Path) -> NDArray[np.bool_]:
    """Return the ink of a character, bool ``(PAGE, PAGE)``, centred and scaled to ``EXTENT``.

    Args:
        character: A character that the font has.
        font: TrueType file.
    """
    reference = _ink(character, font, _REFERENCE_SIZE)
    ink = _ink(character, font, round(_REFERENCE_SIZE * EXTENT / max(reference.size)))
    page = Image.new("L", (PAGE, PAGE))
    page.paste(ink, ((PAGE - ink.width) // 2, (PAGE - ink.height) // 2))
    return np.asarray(page) >= 128


def thin(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin ink to lines one pixel wide (Zhang and Suen, 1984).

    Args:
        ink: bool ``(B, H, W)``, without ink on the border.

    Returns:
        bool of the same shape: a part of the ink, with as many connected pieces.
    """
    page = ink.astype(np.uint8)
    changed = True
    while changed:
        changed = False
        for removable in _REMOVABLE:
            code = np.zeros_like(page)
            for bit, (down, right) in enumerate(_NEIGHBOURS):
                code |= np.roll(page, (-down, -right), axis=(1, 2)) << bit
            worn = removable[code] & page.astype(bool)
            if worn.any():
                page[worn] = 0
                changed = True
    return page.astype(bool)


def distance_from(line: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance of every pixel from the nearest pixel of a line, float32 ``(H, W)``.

    Args:
        line: bool ``(H, W)``, not empty.
    """
    return np.asarray(ndimage.distance_transform_edt(~line), dtype=np.float32)


def _ink(character: str, font: Path, size: int) -> Image.Image:
    """Draw a character at a font size and cut out the box around its ink."""
    typeface = ImageFont.truetype(str(font), size, layout_engine=ImageFont.Layout.BASIC)
    # Twice the font size on every side: no character reaches further from its origin.
    canvas = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(canvas).text((2 * size, size), character, fill=255, font=typeface)
    return canvas.crop(canvas.getbbox())


def _removable_codes() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tabulate, for both passes of thinning, which neighbourhoods let a pixel go."""
    codes = np.arange(256)
    around = (codes[:, None] >> np.arange(8)) & 1
    inked = around.sum(axis=1)
    crossings = ((around == 0) & (np.roll(around, -1, axis=1) == 1)).sum(axis=1)
    edge = (inked >= 2) & (inked <= 6) & (crossings == 1)
    north, east, south, west = around[:, 0], around[:, 2], around[:, 4], around[:, 6]
    first = edge & (north * east * south == 0) & (east * south * west == 0)
    second = edge & (north * east * west == 0) & (north * south * west == 0)
    return first, second


_REMOVABLE = _removable_codes()
