from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from scipy import ndimage

from bruno.data import strokes

SANS = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def ring_and_bar():
    row, column = np.indices((64, 64)) - 31.5
    radius = np.hypot(row, column)
    ring = (radius > 12) & (radius < 18)
    bar = np.zeros((64, 64), dtype=bool)
    bar[28:35, 10:54] = True
    return np.stack([ring, bar])


def test_thinning_keeps_pieces_and_holes_and_leaves_lines():
    ink = ring_and_bar()
    line = strokes.thin(ink)
    assert (line <= ink).all()
    everywhere = np.ones((3, 3))
    for before, after in zip(ink, line, strict=True):
        assert ndimage.label(after, everywhere)[1] == ndimage.label(before, everywhere)[1]
        assert ndimage.label(~after)[1] == ndimage.label(~before)[1]
        # No 2 x 2 block of ink is left: the line is one pixel wide.
        assert not (after[1:, 1:] & after[1:, :-1] & after[:-1, 1:] & after[:-1, :-1]).any()


def test_thin_line_lies_in_the_middle():
    ring, bar = strokes.thin(ring_and_bar())
    row, column = np.argwhere(ring).T - 31.5
    np.testing.assert_allclose(np.hypot(row, column), 15, atol=1.6)
    assert set(np.argwhere(bar)[:, 0]) <= {30, 31, 32}


def test_each_image_is_thinned_as_if_alone():
    ink = ring_and_bar()
    np.testing.assert_array_equal(strokes.thin(ink)[1:], strokes.thin(ink[1:]))


@pytest.mark.parametrize("character", ["A", "i", "—", "@"])
def test_rendered_characters_are_centred_and_of_one_size(character):
    rows, columns = np.nonzero(strokes.render(character, SANS))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(strokes.EXTENT, abs=3)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(31.5, abs=1.5)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(31.5, abs=1.5)


def test_distance_is_zero_on_the_line_only():
    line = np.zeros((5, 5), dtype=bool)
    line[0, 0] = True
    away = strokes.distance_from(line)
    assert away[0, 0] == 0
    assert away[3, 4] == 5
