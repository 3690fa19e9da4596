import pytest
import torch

from bruno.data import ContextFeature, LabelledImages
from bruno.errors import UserError


def make(**changes):
    fields = {
        "images": torch.zeros(4, 1, 2, 3, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
        "class_names": ("a", "b"),
        "name": "toy",
        "split": "train",
    }
    return LabelledImages(**{**fields, **changes})


def test_describes_itself():
    dataset = make()
    assert dataset.event_shape == (1, 2, 3)
    assert dataset.num_classes == 2
    assert len(dataset) == 4
    assert dataset.class_sizes.tolist() == [2, 2]
    assert repr(dataset) == "LabelledImages(toy/train: 4 images (1, 2, 3) of 2 classes)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(4, 1, 2, 3)}, "images: expected a uint8 tensor .* float32"),
        ({"images": torch.zeros(4, 2, 3, dtype=torch.uint8)}, r"images: .*\(4, 2, 3\)"),
        ({"labels": torch.tensor([0, 1, 0])}, r"labels: expected an int64 tensor \(4,\)"),
        ({"labels": torch.tensor([0, 1, 0, 1], dtype=torch.int32)}, "labels: .* int32"),
        ({"labels": torch.tensor([0, 1, 0, 2])}, r"labels: expected values in 0..1, got 0..2"),
        ({"labels": torch.tensor([-1, 1, 0, 1])}, r"labels: .* got -1..1"),
        ({"class_names": ("a", "a")}, r"class_names: .*\['a'\]"),
        ({"context": torch.zeros(3, 2)}, r"context: expected a float32 tensor \(4, context_dim\)"),
        ({"context": torch.zeros(4, 2, dtype=torch.float64)}, "context: .* float64"),
        (
            {"augmented_images": torch.zeros(2, 3, 1, 2, 3, dtype=torch.uint8)},
            r"augmented_images: .*\(V, 4, 1, 2",
        ),
    ],
)
def test_rejects_what_does_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_indices_of_every_class_partition_the_images(toy):
    indices = [toy.indices_of(k) for k in range(6)]
    for k in range(6):
        assert (toy.labels[indices[k]] == k).all()
    assert torch.cat(indices).sort().values.equal(torch.arange(60))
    with pytest.raises(UserError, match=r"class_index: expected an index in 0..5, got 6"):
        toy.indices_of(6)


def test_index_table_pads_small_classes():
    dataset = make(labels=torch.tensor([0, 1, 1, 1]))
    assert dataset.index_table.tolist() == [[0, -1, -1], [1, 2, 3]]


def test_restrict_renumbers_in_the_order_given(toy):
    kept = toy.restrict(["e", "b"])
    assert kept.class_names == ("e", "b")
    assert len(kept) == 20
    assert kept.images[kept.labels == 0, 0, 0, 0].tolist() == toy.indices_of(4).tolist()
    assert kept.images[kept.labels == 1, 0, 0, 0].tolist() == toy.indices_of(1).tolist()
    assert kept.context[:, 0].tolist() == kept.images[:, 0, 0, 0].tolist()


def test_restrict_names_the_unknown_and_the_known(toy):
    with pytest.raises(UserError, match=r"'z' not in toy/train; its classes are 'a', 'b'"):
        toy.restrict(["a", "z"])
    with pytest.raises(UserError, match="at least one class name"):
        toy.restrict([])
    with pytest.raises(UserError, match="distinct"):
        toy.restrict(["a", "a"])


def test_joined_classes_come_behind():
    images = torch.full((3, 1, 2, 3), 9, dtype=torch.uint8)
    other = make(images=images, labels=torch.tensor([1, 0, 1]), class_names=("b", "c"), split="val")
    both = make().joined(other)
    assert both.class_names == ("a", "b", "toy/val/b", "c")
    assert both.labels.tolist() == [0, 1, 0, 1, 3, 2, 3]
    assert both.images[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 9, 9, 9]
    assert (both.name, both.split) == ("toy", "train")


def test_joined_augmented_images_are_those_of_each():
    two = torch.stack([torch.full((4, 1, 2, 3), v, dtype=torch.uint8) for v in (1, 2)])
    both = make(augmented_images=two).joined(make(class_names=("c", "d")))
    assert both.augmented_images[:, :, 0, 0, 0].tolist() == [[1] * 4 + [0] * 4, [2] * 4 + [0] * 4]
    assert make().joined(make(class_names=("c", "d"))).augmented_images is None


def test_joined_labels_are_those_of_each():
    told = {"context_features": (ContextFeature("size"),)}
    both = make(context=torch.zeros(4, 1), **told).joined(
        make(class_names=("c", "d"), context=torch.ones(4, 1), **told)
    )
    assert both.context.flatten().tolist() == [0] * 4 + [1] * 4
    assert both.context_features == told["context_features"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(4, 1, 3, 3, dtype=torch.uint8)}, r"images \(1, 2, 3\) as in toy"),
        ({"context": torch.zeros(4, 2)}, "expected 0 context entries of every image"),
        (
            {"context": torch.zeros(4, 1), "context_features": (ContextFeature("size"),)},
            "other: expected images with no feature, got size",
        ),
    ],
)
def test_only_images_of_one_kind_are_joined(changes, message):
    with pytest.raises(UserError, match=message):
        make().joined(make(**changes))
