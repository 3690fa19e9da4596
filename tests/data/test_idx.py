import gzip

import numpy as np
import pytest

from bruno.data.idx import load_fashion, load_mnist, read_idx
from bruno.errors import MissingDataError, UserError

from .conftest import idx_bytes


def test_splits_of_the_official_files(idx_dir):
    train, val, test = (load_mnist(idx_dir, split) for split in ("train", "val", "test"))
    assert [len(part) for part in (train, val, test)] == [10, 5000, 6]
    places = np.arange(5010)
    np.testing.assert_array_equal(train.images[:, 0, 3, 4], places[:10] % 251)
    np.testing.assert_array_equal(val.images[:, 0, 3, 4], places[10:] % 251)
    np.testing.assert_array_equal(val.labels, places[10:] % 10)
    assert test.images.shape == (6, 1, 28, 28)
    assert test.class_names == tuple("0123456789")


def test_unzipped_files_do_as_well(idx_dir):
    zipped = load_mnist(idx_dir, "test")
    for path in (idx_dir / "mnist").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert load_mnist(idx_dir, "test").images.equal(zipped.images)


def test_fashion_has_its_own_folder_and_names(idx_dir):
    with pytest.raises(MissingDataError, match="`bruno download fashion`"):
        load_fashion(idx_dir, "test")
    (idx_dir / "mnist").rename(idx_dir / "fashion_mnist")
    dataset = load_fashion(idx_dir, "test")
    assert dataset.name == "fashion"
    assert dataset.class_names[9] == "Ankle boot"


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 5, 5)])
def test_read_idx_round_trip(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path), array)


GOOD = idx_bytes(np.zeros((2, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found nothing"),
        (b"<html>", "found 3c 68 74"),
        (b"\0\0\x0d" + GOOD[3:], "found 00 00 0d"),
        (GOOD[:-1], "states 2 x 3 bytes, found 5"),
        (GOOD + b"\0", "states 2 x 3 bytes, found 7"),
        (GOOD[:6], "ends within its header; download it again"),
    ],
)
def test_read_idx_rejects_other_files(tmp_path, content, message):
    path = tmp_path / "broken-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("keep", [3, 15, 22])
def test_read_idx_rejects_truncated_gzip(tmp_path, keep):
    path = tmp_path / "broken.gz"
    path.write_bytes(gzip.compress(GOOD)[:keep])
    with pytest.raises(UserError, match=r"damaged gzip file .* download it again"):
        read_idx(path)


def test_images_and_labels_must_belong_together(idx_dir):
    labels = idx_dir / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx_bytes(np.zeros(5))))
    with pytest.raises(UserError, match="do not belong together"):
        load_mnist(idx_dir, "test")


def test_too_few_images_for_validation(idx_dir):
    for kind, shape in (("images-idx3", (20, 28, 28)), ("labels-idx1", (20,))):
        path = idx_dir / "mnist" / f"train-{kind}-ubyte.gz"
        path.write_bytes(gzip.compress(idx_bytes(np.zeros(shape))))
    with pytest.raises(UserError, match="more than 5000 images, found 20"):
        load_mnist(idx_dir, "train")


def test_unknown_split(idx_dir):
    with pytest.raises(UserError, match="split: mnist has 'train', 'val', 'test', got 'dev'"):
        load_mnist(idx_dir, "dev")


@pytest.mark.parametrize(
    ("folder", "load"), [("mnist", load_mnist), ("fashion_mnist", load_fashion)]
)
def test_real_files(real_data, folder, load):
    root = real_data(folder)
    sizes = {split: len(load(root, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 55_000, "val": 5_000, "test": 10_000}
    test = load(root, "test")
    assert test.class_sizes.min() > 800
    assert (test.images[:, 0, 0, 0] == 0).float().mean() > 0.9
