"""Glyphs: a built-in data set of characters, drawn with a pen, that needs no file.

Every class is one character of one script, in the shapes of the upright fonts that Matplotlib
ships. An example is one of these shapes, thinned to its middle line, slanted, turned, stretched
and bent at random, and drawn with a pen of random width. Scripts belong to one split each, so a
test class comes from a script that was never trained on.
"""

import math
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from bruno.data import strokes
from bruno.data.alphabets import ALPHABETS, characters
from bruno.data.cache import Arrays, cached_arrays, file_identity
from bruno.data.dataset import SPLITS, LabelledImages, check_split
from bruno.progress import track
from bruno.seeding import generator_for
from bruno.validation import check_whole

IMAGE_SIZE = 28
EXAMPLES_PER_CLASS = 20
LOADER_VERSION = 1

# Light upright fonts only: an italic letter is often another letter's shape, as Cyrillic te is m;
# a bold one closes its loops; and the slabs of DejaVu Serif become strokes when thinned.
FONTS = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf")
# Outside letters and digits these have a character map of their own.
COMPUTER_MODERN = ("cmr10.ttf", "cmss10.ttf", "cmtt10.ttf")

# Handwriting, one number per habit: standard deviations of normal draws cut off at twice that.
SIZE = 19.0  # larger side of a character, in pixels
LOG_SIZE = 0.08
LOG_ASPECT = 0.15
ROTATION = math.radians(6.0)
SLANT = 0.12  # horizontal pixels per vertical pixel
SHIFT = 0.8  # pixels
BEND = 2.0  # pixels, of every knot of the bending field
KNOTS = 5  # per side of the bending field
PEN_RADIUS = (0.7, 1.3)  # pixels, uniform


def load_glyphs(
    split: str, *, seed: int = 0, examples_per_class: int = EXAMPLES_PER_CLASS
) -> LabelledImages:
    """Draw one split; a class is a character, named like ``"Greek/small letter gamma"``.

    An example depends on the seed, its class and its place in the class alone, not on the split,
    the order or the number of examples.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        seed: Seed of all drawings, not negative.
        examples_per_class: Number of drawings of every character.

    Returns:
        Images uint8 ``(N, 1, 28, 28)``, ink 255 on 0.

    Raises:
        UserError: If the split is unknown, the seed negative or there are no examples.
    """
    check_split("glyphs", split, SPLITS)
    check_whole("seed", seed, 0)
    check_whole("examples_per_class", examples_per_class, 1)
    fonts = [_font_folder() / name for name in FONTS + COMPUTER_MODERN]
    arrays = cached_arrays(
        f"glyphs-{split}",
        [
            "glyphs",
            LOADER_VERSION,
            seed,
            examples_per_class,
            file_identity(fonts),
            *class_names(split),
        ],
        lambda: _draw_split(split, seed, examples_per_class),
    )
    return LabelledImages(
        images=torch.from_numpy(arrays["images"]),
        labels=torch.from_numpy(arrays["labels"]),
        class_names=class_names(split),
        name="glyphs",
        split=split,
    )


def class_names(split: str) -> tuple[str, ...]:
    """Return the name of every class of a split, ``"Script/unicode name of the character"``.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
    """
    return tuple(
        f"{script}/{_short_name(script, character)}"
        for script in ALPHABETS[split]
        for character in characters(split, script)
    )


def draw(character: str, *, seed: int, example: int) -> NDArray[np.uint8]:
    """Draw one example of a character, uint8 ``(28, 28)``, ink 255 on 0.

    Args:
        character: A character of ``DejaVuSans``.
        seed: Seed of all drawings.
        example: Which drawing of this character.

    Returns:
        The drawing.
    """
    generator = generator_for(seed, ord(character), example)
    normal = torch.randn(6 + 2 * KNOTS**2, generator=generator, device="cpu", dtype=torch.float32)
    numbers = normal.clamp(-2, 2).double().numpy()
    uniform = torch.rand(2, generator=generator, device="cpu", dtype=torch.float64)
    choice, width = uniform.tolist()
    shapes = _shapes(character)
    distance = shapes[int(choice * len(shapes))]

    log_size, log_aspect, rotation, slant = numbers[:4]
    # Page pixels per pixel of the drawing: everything below maps the drawing back to the page.
    zoom = strokes.EXTENT / (SIZE * math.exp(LOG_SIZE * log_size))
    stretch = math.exp(0.5 * LOG_ASPECT * log_aspect)
    turn = ROTATION * rotation
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    slanted = np.array([[stretch, 0.0], [SLANT * slant, 1 / stretch]])
    shift = SHIFT * numbers[4:6]
    bend = BEND * _BASIS @ numbers[6:].reshape(2, KNOTS, KNOTS) @ _BASIS.T

    drawing = _PIXELS + shift[:, None, None] + bend
    page = zoom * np.tensordot(turned @ slanted, drawing, axes=1) + (strokes.PAGE - 1) / 2
    away = ndimage.map_coordinates(distance, page, order=1, mode="nearest") / zoom
    thinnest, thickest = PEN_RADIUS
    radius = thinnest + (thickest - thinnest) * width
    # Half a pixel on either side of the edge of the pen: the share of the pixel that is inked.
    ink = np.clip(radius + 0.5 - away, 0, 1)
    return np.asarray(np.rint(255 * ink), dtype=np.uint8)


def _draw_split(split: str, seed: int, examples: int) -> Arrays:
    alphabet = [character for script in ALPHABETS[split] for character in characters(split, script)]
    images = [
        draw(character, seed=seed, example=example)
        for character in track(alphabet, "Drawing glyphs")
        for example in range(examples)
    ]
    return {
        "images": np.stack(images)[:, None],
        "labels": np.repeat(np.arange(len(alphabet), dtype=np.int64), examples),
    }


@cache
def _shapes(character: str) -> tuple[NDArray[np.float32], ...]:
    """Return the distance from the strokes of a character, in every font that has it."""
    fonts = [name for name in FONTS if ord(character) in _coverage(name)]
    if character.isascii() and character.isalnum():
        fonts += COMPUTER_MODERN
    ink = np.stack([strokes.render(character, _font_folder() / name) for name in fonts])
    return tuple(strokes.distance_from(line) for line in strokes.thin(ink))


@cache
def _coverage(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_folder() / font)).get_charmap())


def _font_folder() -> Path:
    # Other data sets, training and the service need no Matplotlib.
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf"


def _short_name(script: str, character: str) -> str:
    return unicodedata.name(character).lower().removeprefix(f"{script.lower()} ")


def _bending_basis() -> NDArray[np.float64]:
    """Return the weight of every knot at every pixel of one axis, ``(IMAGE_SIZE, KNOTS)``.

    Cubic B-splines: smooth, local, and a weighted mean of the knots everywhere.
    """
    position = np.arange(IMAGE_SIZE) * (KNOTS - 1) / (IMAGE_SIZE - 1)
    apart = np.abs(position[:, None] - np.arange(KNOTS))
    near = 2 / 3 - apart**2 + apart**3 / 2
    far = np.clip(2 - apart, 0, None) ** 3 / 6
    weight = np.where(apart < 1, near, far)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


_BASIS = _bending_basis()
_PIXELS = np.indices((IMAGE_SIZE, IMAGE_SIZE)) - (IMAGE_SIZE - 1) / 2
