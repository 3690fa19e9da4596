import numpy as np
import pytest
import torch

from bruno.data.context import ContextFeature
from bruno.data.registry import DataConfig, load_dataset
from bruno.data.turntable import load_turntable
from bruno.errors import MissingDataError, UserError


def write(path, count=40, number=4, **arrays):
    views = np.arange(count * number, dtype=np.uint8).reshape(count, number, 1, 1)
    np.savez(path, **{"views": views.repeat(2, 2).repeat(2, 3), **arrays})
    return path


@pytest.fixture
def archive(tmp_path):
    kinds = np.array(["cup"] * 30 + ["car"] * 10)
    names = np.array([f"o{index}" for index in range(40)])
    return write(tmp_path / "views.npz", category=kinds, object=names)


def test_splits_share_out_every_category(archive):
    parts = {split: load_turntable(archive, split) for split in ("train", "val", "test")}
    names = [name for part in parts.values() for name in part.class_names]
    assert len(set(names)) == len(names) == 40
    assert {split: part.num_classes for split, part in parts.items()} == {
        "train": 28,
        "val": 4,
        "test": 8,
    }
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        cars = [name for name in parts[split].class_names if name.startswith("car/")]
        assert len(cars) == pytest.approx(10 * share, abs=1)


def test_a_class_is_an_object_with_its_views_in_order(archive):
    dataset = load_turntable(archive, "test")
    assert dataset.event_shape == (1, 2, 2)
    for index, name in enumerate(dataset.class_names):
        number = int(name.split("/o")[1])
        images = dataset.images[dataset.labels == index]
        assert images[:, 0, 0, 0].tolist() == [4 * number + view for view in range(4)]
    assert dataset.context_features == (ContextFeature("azimuth", is_angle=True),)
    quarter = torch.tensor([[0.0, 1], [1, 0], [0, -1], [-1, 0]])
    torch.testing.assert_close(dataset.context, quarter.repeat(8, 1), atol=1e-6, rtol=0)


def test_azimuths_of_a_file_of_ones_own(tmp_path):
    write(tmp_path / "own.npz", azimuth=np.array([0.0, 30.0, 90.0, 180.0]))
    config = DataConfig("turntable", root=str(tmp_path / "own.npz"))
    context = load_dataset(config, "val").context
    torch.testing.assert_close(context[1], torch.tensor([0.5, 3**0.5 / 2]))


def test_where_it_is_looked_for(tmp_path):
    folder = tmp_path / "turntable"
    folder.mkdir()
    write(folder / "models.npz")
    config = DataConfig("turntable", data_dir=str(tmp_path))
    assert load_dataset(config, "train").num_classes == 28
    (folder / "models.npz").unlink()
    with pytest.raises(MissingDataError, match=r"models.npz not found. Name a NumPy archive"):
        load_dataset(config, "train")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"views": np.eye(4, dtype=np.uint8).reshape(1, 4, 2, 2)},
            "views: .* only 0 and 1, as in a",
        ),
        ({"views": np.zeros((4, 4, 2, 2))}, r"views: expected uint8 \(objects, V, H, W\) .* float"),
        ({"views": np.zeros((4, 2, 2), np.uint8)}, r"views: .* uint8 \(4, 2, 2\)"),
        ({"views": np.zeros((0, 4, 2, 2), np.uint8)}, r"views: .* uint8 \(0, 4, 2, 2\)"),
        ({"views": np.zeros((4, 0, 2, 2), np.uint8)}, r"views: .* uint8 \(4, 0, 2, 2\)"),
        ({"azimuth": np.zeros(3)}, r"azimuth: expected shape \(4,\)"),
        ({"azimuth": np.array(["a"] * 4)}, "azimuth: expected degrees"),
        ({"azimuth": np.full(4, np.nan)}, r"azimuth: expected finite degrees in .*bad\.npz"),
        ({"azimuth": np.full(4, 1j)}, "azimuth: expected degrees in .*, got complex"),
        ({"category": np.zeros(3)}, r"category: expected shape \(40,\)"),
        ({"object": np.zeros(3)}, r"object: expected shape \(40,\)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, message):
    write(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=message):
        load_turntable(tmp_path / "bad.npz", "train")


def test_angles_may_be_stored_in_any_byte_order(tmp_path):
    angles = np.array([0, 90, 180, 270])
    write(tmp_path / "small.npz", azimuth=angles)
    write(tmp_path / "big.npz", azimuth=angles.astype(">f8"))
    small, big = (load_turntable(tmp_path / name, "train") for name in ("small.npz", "big.npz"))
    assert torch.equal(small.context, big.context)


def test_damaged_and_small_files(tmp_path):
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"plain\.npy is not a readable NumPy archive"):
        load_turntable(tmp_path / "plain.npy", "train")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="not a readable NumPy archive"):
        load_turntable(tmp_path / "bad.npz", "train")
    write(tmp_path / "few.npz", count=3)
    with pytest.raises(UserError, match="3 objects, too few for train, val and test"):
        load_turntable(tmp_path / "few.npz", "test")
    with pytest.raises(UserError, match="split: turntable has"):
        load_turntable(tmp_path / "few.npz", "all")
