"""A picture of decisions about scans: each as it came, as the model takes it, and examples."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bruno.scan_classification import ScanClassification

_TILE = 112  # four pixels for each of 28
_GAP = 8
_TEXT_WIDTH = 240
_EXAMPLES = 5
_INK, _PAPER = (0, 0, 0), (255, 255, 255)


def draw_decisions(result: ScanClassification) -> Image.Image:
    """Return a picture with a row for every decision.

    From the left: the picture as it came, as the model takes it, class and probability, and the
    first examples of that class.

    Args:
        result: The decisions.
    """
    rows = len(result.decisions)
    width = (2 + _EXAMPLES) * (_TILE + _GAP) + _TEXT_WIDTH + _GAP
    canvas = Image.new("RGB", (width, rows * (_TILE + _GAP) + _GAP), _PAPER)
    pen = ImageDraw.Draw(canvas)
    title, small = ImageFont.load_default(22), ImageFont.load_default(14)
    for row, decision in enumerate(result.decisions):
        top = _GAP + row * (_TILE + _GAP)
        canvas.paste(_fitted(decision.page), (_GAP, top))
        canvas.paste(_enlarged(decision.image), (2 * _GAP + _TILE, top))
        left = 3 * _GAP + 2 * _TILE
        lines = [
            f"{decision.probability:.1%}",
            f"then {decision.second} {decision.second_probability:.1%}",
            decision.file.name,
        ]
        pen.text((left, top), _short(decision.best, 18), fill=_INK, font=title)
        for index, line in enumerate(lines):
            pen.text((left, top + 30 + 20 * index), _short(line, 30), fill=_INK, font=small)
        for index, example in enumerate(result.examples_of(decision.best)[:_EXAMPLES]):
            place = left + _TEXT_WIDTH + index * (_TILE + _GAP)
            canvas.paste(_enlarged(example), (place, top))
    return canvas


def _pixels(image: Tensor) -> Image.Image:
    array = image.expand(3, *image.shape[1:]).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array))


def _enlarged(image: Tensor) -> Image.Image:
    return _pixels(image).resize((_TILE, _TILE), Image.Resampling.NEAREST)


def _fitted(page: Tensor) -> Image.Image:
    """Return a whole page in a square tile."""
    picture = _pixels(page)
    factor = _TILE / max(picture.size)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
    place = ((_TILE - width) // 2, (_TILE - height) // 2)
    tile.paste(picture.resize((width, height), Image.Resampling.BILINEAR), place)
    return tile


def _short(text: str, length: int) -> str:
    """Return text that fits and that the default font of Pillow has glyphs for."""
    shown = text.encode("latin-1", "replace").decode("latin-1")
    return shown if len(shown) <= length else shown[: length - 3] + "..."
