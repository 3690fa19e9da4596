import numpy as np
import pytest
import torch

from bruno.data import blocks
from bruno.data.blocks import Boxes, load_blocks, random_boxes, render
from bruno.errors import UserError

CUBE = Boxes(np.zeros((1, 3)), np.full((1, 3), 0.5))


def test_a_cube_is_what_geometry_says():
    front = render(CUBE, azimuth=0, elevation=0, size=32)
    rows, columns = np.nonzero(front)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 8, 23)
    assert len(np.unique(front[8:24, 8:24])) == 1
    # From above, its height is that of the front and of the top, both foreshortened.
    above = render(CUBE, azimuth=0, elevation=30, size=64)
    rows, _ = np.nonzero(above)
    assert np.ptp(rows) + 1 == pytest.approx(32 * (np.cos(np.pi / 6) + np.sin(np.pi / 6)), abs=2)
    assert len(np.unique(above[above > 0])) <= 6  # two faces, and their edges against each other
    turned = render(CUBE, azimuth=45, elevation=0, size=64)
    assert np.ptp(np.nonzero(turned)[1]) + 1 == pytest.approx(32 * np.sqrt(2), abs=2)
    np.testing.assert_array_equal(render(CUBE, azimuth=360), render(CUBE, azimuth=0))


def test_the_nearest_box_is_seen():
    """A low box in front of a tall one, seen from the front and from behind."""
    pair = Boxes(
        np.array([[0.0, 0.0, -0.5], [0.0, -0.25, 0.5]]),
        np.array([[0.3, 0.5, 0.2], [0.3, 0.25, 0.2]]),
    )
    front, back = (render(pair, azimuth, elevation=20, size=64) for azimuth in (0, 180))
    tall = Boxes(pair.centres[:1], pair.half_sides[:1])
    hidden = render(tall, 0, elevation=20, size=64)
    assert (front != hidden).sum() > 200
    behind = render(tall, 180, elevation=20, size=64)
    assert (back != behind).sum() < (front != hidden).sum() / 2


def test_objects_are_connected_and_fit_the_view():
    for seed in range(50):
        boxes = random_boxes(np.random.default_rng(seed))
        count = len(boxes.centres)
        assert 2 <= count <= 5
        corners = np.abs(boxes.centres) + boxes.half_sides
        assert np.linalg.norm(corners, axis=1).max() <= 1 + 1e-9
        gaps = np.abs(boxes.centres[:, None] - boxes.centres) - (
            boxes.half_sides[:, None] + boxes.half_sides
        )
        touching = gaps.max(-1) < 1e-9
        reached = {0}
        while True:
            more = reached | {int(k) for j in reached for k in np.flatnonzero(touching[j])}
            if more == reached:
                break
            reached = more
        assert reached == set(range(count))
        for azimuth in (0, 33, 270):
            view = render(boxes, azimuth)
            assert 20 < (view > 0).sum() < 900


def test_a_split_is_a_class_per_object_with_its_azimuths(monkeypatch):
    monkeypatch.setattr(blocks, "OBJECTS", {"train": 3, "val": 2, "test": 2})
    train, val = load_blocks("train"), load_blocks("val")
    assert train.event_shape == (1, 32, 32)
    assert train.class_sizes.tolist() == [36] * 3
    assert train.context.shape == (108, 2)
    torch.testing.assert_close(train.context[36], torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(train.context[9], torch.tensor([1.0, 0.0]))
    assert not train.images[:36].equal(val.images[:36])
    assert load_blocks("val").images.equal(val.images)
    assert not load_blocks("val", seed=1).images.equal(val.images)
    boxes = random_boxes(np.random.default_rng([0, 0, 1]))
    np.testing.assert_array_equal(train.images[36 + 7, 0], render(boxes, 70))


def test_bad_splits_and_seeds():
    with pytest.raises(UserError, match="split: blocks has 'train', 'val', 'test', got 'all'"):
        load_blocks("all")
    with pytest.raises(UserError, match="seed: expected a whole number of at least 0, got -1"):
        load_blocks("val", seed=-1)
