from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bruno.data import (
    LabelledImages,
    dequantise,
    quantise,
    rotate,
    sample_episode,
    sample_sets,
)
from bruno.errors import UserError
from bruno.seeding import generator_for


def corner_images(classes=8, per_class=6):
    """Images with one bright corner, so that a turn shows."""
    images = torch.zeros(classes * per_class, 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = 200
    labels = torch.arange(classes).repeat_interleave(per_class)
    return LabelledImages(images, labels, tuple(map(str, range(classes))), "corners", "train")


def test_sets_have_one_class_each_and_distinct_members(toy):
    drawn = sample_sets(toy, 6, 10, generator_for(0))
    assert drawn.images.shape == (6, 10, 1, 4, 4)
    assert drawn.images.dtype == torch.uint8
    assert drawn.classes.sort().values.tolist() == list(range(6))
    members = drawn.images[..., 0, 0, 0].long()
    for row, class_index in zip(members, drawn.classes.tolist(), strict=True):
        assert row.sort().values.tolist() == toy.indices_of(class_index).tolist()
    assert (drawn.context[..., 0] == members).all()
    assert (drawn.context[..., 1] == -members).all()


def test_a_version_may_stand_for_an_image(toy):
    augmented_images = torch.stack([toy.images + 100, toy.images + 200 - 60])
    richer = replace(toy, augmented_images=augmented_images)
    drawn = sample_sets(richer, 6, 10, generator_for(3), augmented_images=True).images[..., 0, 0, 0]
    plain = sample_sets(richer, 6, 10, generator_for(3)).images[..., 0, 0, 0]
    which = (drawn.long() - plain.long()).unique(return_counts=True)
    assert which[0].tolist() == [0, 100, 140]
    assert int(which[1].min()) >= 10


def test_sets_depend_on_the_generator_alone(toy):
    first, again, other = (sample_sets(toy, 4, 3, generator_for(k)) for k in (1, 1, 2))
    assert first.images.equal(again.images)
    assert not first.images.equal(other.images)


def test_every_class_and_member_is_equally_likely(toy):
    generator = generator_for(3)
    counts = torch.zeros(60)
    for _ in range(600):
        drawn = sample_sets(toy, 2, 3, generator)
        counts += torch.bincount(drawn.images[..., 0, 0, 0].flatten().long(), minlength=60)
    # 600 draws x 6 of 60 images: 60 expected for each, standard deviation below 8.
    assert counts.min() > 60 - 5 * 8
    assert counts.max() < 60 + 5 * 8


def test_classes_of_unequal_size_never_yield_padding():
    labels = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 1])
    images = labels[:, None, None, None].to(torch.uint8)
    dataset = LabelledImages(images, labels, ("small", "large"), "toy", "train")
    for step in range(50):
        drawn = sample_sets(dataset, 2, 2, generator_for(step))
        assert (drawn.images[..., 0, 0, 0] == drawn.classes[:, None]).all()


def test_rotation_is_shared_within_a_set_and_varies_between_sets():
    dataset = corner_images()
    seen = set()
    for step in range(5):
        drawn = sample_sets(dataset, 8, 3, generator_for(step), rotations=True)
        corners = drawn.images[:, :, 0][..., [0, 0, 3, 3], [0, 3, 0, 3]] > 0
        assert (corners.sum(-1) == 1).all()
        assert (corners == corners[:, :1]).all()
        seen |= set(corners[:, 0].int().argmax(-1).tolist())
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("sets", "size", "message"),
    [
        (7, 2, "sets: toy/train has 6 classes, too few for 7"),
        (2, 11, "size: class 'a' of toy/train has 10 images, too few for sets of 11"),
        (0, 2, "sets: expected a whole number of at least 1, got 0"),
        (2, 0, "size: expected a whole number of at least 1, got 0"),
    ],
)
def test_impossible_sets(toy, sets, size, message):
    with pytest.raises(UserError, match=message):
        sample_sets(toy, sets, size, generator_for(0))


def test_rotations_need_square_images():
    images = torch.zeros(4, 1, 2, 3, dtype=torch.uint8)
    dataset = LabelledImages(images, torch.tensor([0, 0, 1, 1]), ("a", "b"), "flat", "train")
    with pytest.raises(UserError, match="square images, got 2 x 3"):
        sample_sets(dataset, 1, 1, generator_for(0), rotations=True)


def test_episode_keeps_support_and_query_apart(toy):
    episode = sample_episode(toy, 5, 1, 9, generator_for(0))
    assert episode.support.shape == (5, 1, 1, 4, 4)
    assert episode.query.shape == (5, 9, 1, 4, 4)
    assert len(set(episode.classes.tolist())) == 5
    members = torch.cat([episode.support, episode.query], dim=1)[..., 0, 0, 0].long()
    for row, class_index in zip(members, episode.classes.tolist(), strict=True):
        assert row.sort().values.tolist() == toy.indices_of(class_index).tolist()
    with pytest.raises(UserError, match="queries: expected a whole number of at least 1"):
        sample_episode(toy, 5, 1, 0, generator_for(0))


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
def test_rotate_is_anticlockwise(turns):
    image = np.arange(6).reshape(2, 3)
    turned = rotate(torch.from_numpy(image).expand(2, 1, 2, 3), turns)
    assert turned.shape[:2] == (2, 1)
    np.testing.assert_array_equal(turned[1, 0], np.rot90(image, turns))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50), st.integers(0, 2**31))
def test_dequantised_pixels_stay_in_their_bins(pixels, seed):
    images = torch.tensor(pixels, dtype=torch.uint8)
    noisy = dequantise(images, generator_for(seed))
    assert noisy.dtype == torch.float32
    assert (noisy >= images).all()
    assert (noisy < images.float() + 1).all()
    assert quantise(noisy).equal(images)


def test_dequantise_survives_the_largest_noise(monkeypatch):
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    monkeypatch.setattr(torch, "rand", lambda shape, **_: largest.expand(shape))
    images = torch.arange(256, dtype=torch.uint8)
    noisy = dequantise(images, torch.Generator())
    assert (noisy < images.float() + 1).all()


def test_dequantise_noise_is_uniform():
    noise = dequantise(torch.zeros(200_000, dtype=torch.uint8), generator_for(0))
    assert abs(noise.mean() - 0.5) < 0.005
    assert abs(noise.var() - 1 / 12) < 0.001


def test_dequantise_without_noise_is_the_middle_of_the_bin():
    images = torch.arange(256, dtype=torch.uint8)
    assert dequantise(images, None).equal(images.float() + 0.5)


def test_quantise_clamps():
    assert quantise(torch.tensor([-3.0, 0.9, 255.9, 300.0])).tolist() == [0, 0, 255, 255]


def test_wrong_dtypes():
    with pytest.raises(UserError, match=r"expected uint8 pixels, got torch.float32"):
        dequantise(torch.zeros(2), None)
    with pytest.raises(UserError, match=r"expected a floating-point tensor, got torch.uint8"):
        quantise(torch.zeros(2, dtype=torch.uint8))
