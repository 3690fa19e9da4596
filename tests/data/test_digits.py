import pytest
import torch

from bruno.data.digits import load_digits
from bruno.errors import UserError

PARTS = ("train", "val", "test")


def test_splits_are_disjoint_complete_and_stratified():
    parts = [load_digits(split) for split in PARTS]
    assert sum(map(len, parts)) == 1797
    totals = sum(part.class_sizes for part in parts)
    for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        assert ((part.class_sizes - share * totals).abs() <= 1.5).all()
    rows = [{bytes(image.numpy().tobytes()) for image in part.images} for part in parts]
    assert not rows[0] & rows[1]
    assert not (rows[0] | rows[1]) & rows[2]


def test_the_same_every_time_and_scaled_to_8_bits():
    first, again = load_digits("val"), load_digits("val")
    assert first.images.equal(again.images)
    assert first.event_shape == (1, 8, 8)
    assert first.class_names == tuple("0123456789")
    assert first.images.max() == 255
    levels = torch.tensor([round(level * 255 / 16) for level in range(17)], dtype=torch.uint8)
    assert torch.isin(first.images, levels).all()


def test_unknown_split():
    with pytest.raises(UserError, match="split: digits has"):
        load_digits("all")
