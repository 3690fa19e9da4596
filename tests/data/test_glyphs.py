import unicodedata
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from bruno.data import glyphs, strokes
from bruno.data.alphabets import ALPHABETS, characters
from bruno.errors import UserError

SANS = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def alphabet(split):
    return [c for script in ALPHABETS[split] for c in characters(split, script)]


@pytest.fixture(scope="module")
def lines():
    """The thin lines of every character, bool (classes, PAGE, PAGE), by split."""
    return {
        split: strokes.thin(np.stack([strokes.render(c, SANS) for c in alphabet(split)]))
        for split in ALPHABETS
    }


def test_enough_classes_and_no_script_in_two_splits():
    assert len(alphabet("train")) >= 300
    assert len(alphabet("val")) >= 40
    assert len(alphabet("test")) >= 60
    scripts = [script for split in ALPHABETS for script in ALPHABETS[split]]
    assert len(scripts) == len(set(scripts))
    everything = [c for split in ALPHABETS for c in alphabet(split)]
    assert len(everything) == len(set(everything))


def test_characters_are_in_the_script_they_are_listed_under():
    for script in ("Latin", "Cyrillic", "Greek", "Hebrew", "Arabic", "Armenian", "Georgian"):
        (split,) = [split for split in ALPHABETS if script in ALPHABETS[split]]
        for character in characters(split, script):
            assert script.upper() in unicodedata.name(character)


def test_the_font_has_every_character():
    coverage = glyphs._coverage("DejaVuSans.ttf")
    assert all(ord(c) in coverage for split in ALPHABETS for c in alphabet(split))


def test_no_two_characters_look_alike_in_any_quarter_turn(lines):
    names = [c for split in ALPHABETS for c in alphabet(split)]
    line = np.concatenate(list(lines.values()))
    away = np.stack([strokes.distance_from(each) for each in line])
    flat_away = away.reshape(len(line), -1)
    for turns in range(4):
        turned_line = np.rot90(line, turns, (1, 2))
        turned_away = np.rot90(away, turns, (1, 2))
        flat = turned_line.reshape(len(line), -1).astype(np.float32)
        mean_distance = flat_away @ flat.T / flat.sum(1)
        for i, j in np.argwhere(mean_distance < 1.5):
            if i < j:
                apart = max(
                    np.percentile(away[i][turned_line[j]], 95),
                    np.percentile(turned_away[j][line[i]], 95),
                )
                assert apart > 3, f"{names[i]} looks like {names[j]} turned {turns} times"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_is_balanced_and_inked(split):
    dataset = glyphs.load_glyphs(split, examples_per_class=2)
    assert dataset.event_shape == (1, 28, 28)
    assert (dataset.class_sizes == 2).all()
    ink = dataset.images.float().mean((1, 2, 3)) / 255
    assert ink.min() > 0.01
    assert ink.max() < 0.5
    # White on black, and nearly nothing on the border.
    border = torch.cat(
        [dataset.images[..., [0, -1], :].flatten(1), dataset.images[..., [0, -1]].flatten(1)], dim=1
    )
    assert (border > 0).float().mean() < 0.01
    assert (dataset.images.amax((1, 2, 3)) > 150).all()


def test_drawings_depend_on_seed_class_and_example_alone():
    few = glyphs.load_glyphs("val", seed=3, examples_per_class=2)
    many = glyphs.load_glyphs("val", seed=3, examples_per_class=4)
    last = few.num_classes - 1
    assert many.images[many.indices_of(last)][:2].equal(few.images[few.indices_of(last)])
    alone = glyphs.draw(alphabet("val")[-1], seed=3, example=1)
    np.testing.assert_array_equal(alone, few.images[-1, 0])
    other = glyphs.load_glyphs("val", seed=4, examples_per_class=2)
    assert not other.images.equal(few.images)


def test_examples_vary_but_stay_nearer_to_their_own_class():
    dataset = glyphs.load_glyphs("test")
    images = torch.nn.functional.avg_pool2d(dataset.images.float(), 3, 2).flatten(1)
    distance = torch.cdist(images, images).fill_diagonal_(torch.inf)
    assert distance.min() > 100
    nearest_is_own = dataset.labels[distance.argmin(1)] == dataset.labels
    assert nearest_is_own.float().mean() > 0.5


def test_names_are_readable():
    assert "Latin/capital letter a" in glyphs.class_names("train")
    assert len(set(glyphs.class_names("test"))) == len(alphabet("test"))


def test_second_start_reads_the_cache(monkeypatch):
    first = glyphs.load_glyphs("val", examples_per_class=1)
    monkeypatch.setattr(glyphs, "draw", lambda *_, **__: pytest.fail("drawn again"))
    assert glyphs.load_glyphs("val", examples_per_class=1).images.equal(first.images)


def test_user_errors():
    with pytest.raises(UserError, match="split: glyphs has 'train', 'val', 'test', got 'all'"):
        glyphs.load_glyphs("all")
    with pytest.raises(UserError, match="seed: expected a whole number of at least 0, got -1"):
        glyphs.load_glyphs("val", seed=-1)
    with pytest.raises(
        UserError, match="examples_per_class: expected a whole number of at least 1, got 0"
    ):
        glyphs.load_glyphs("val", examples_per_class=0)
