import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageOps

from bruno.data import omniglot
from bruno.data.omniglot import load_omniglot, read_characters
from bruno.errors import MissingDataError, UserError

from .conftest import OMNIGLOT_SPLITS, drawing


@pytest.mark.parametrize("split", ["train", "val", "trainval", "test"])
def test_reads_the_split_in_its_order(omniglot_dir, split):
    dataset = load_omniglot(omniglot_dir, split)
    assert dataset.class_names == tuple(OMNIGLOT_SPLITS[split])
    assert dataset.event_shape == (1, 28, 28)
    assert dataset.class_sizes.tolist() == [3] * dataset.num_classes


def test_images_are_inverted_then_shrunk_in_the_order_of_their_drawers(omniglot_dir):
    dataset = load_omniglot(omniglot_dir, "val")
    for drawer, image in zip((1, 2, 3), dataset.images, strict=True):
        original = Image.open(io.BytesIO(drawing(drawer))).convert("L")
        expected = ImageOps.invert(original).resize((28, 28), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image[0], np.asarray(expected))
        assert image.max() == 255
        assert image.float().mean() < 64


def test_extracted_folders_do_as_well(omniglot_dir, cache_dir):
    zipped = load_omniglot(omniglot_dir, "trainval")
    root = omniglot_dir / "omniglot"
    for part in omniglot.PARTS:
        with zipfile.ZipFile(root / f"{part}.zip") as archive:
            archive.extractall(root)
        (root / f"{part}.zip").unlink()
    shutil.rmtree(cache_dir)
    extracted = load_omniglot(omniglot_dir, "trainval")
    assert extracted.images.equal(zipped.images)
    assert extracted.labels.equal(zipped.labels)
    assert extracted.class_names == zipped.class_names


def test_what_systems_leave_beside_the_drawings_is_none(omniglot_dir, cache_dir):
    expected = load_omniglot(omniglot_dir, "trainval").images
    root = omniglot_dir / "omniglot"
    for part in omniglot.PARTS:
        with zipfile.ZipFile(root / f"{part}.zip", "a") as archive:
            archive.writestr("__MACOSX/Greek/character01/0009_04.png", b"of a system")
            archive.writestr(f"{part}/Greek/character01/._0009_04.png", b"of a system")
    shutil.rmtree(cache_dir)
    assert load_omniglot(omniglot_dir, "trainval").images.equal(expected)
    for part in omniglot.PARTS:
        with zipfile.ZipFile(root / f"{part}.zip") as archive:
            archive.extractall(root)
        (root / f"{part}.zip").unlink()
    shutil.rmtree(cache_dir)
    assert load_omniglot(omniglot_dir, "trainval").images.equal(expected)


def test_offline_augmentations_are_the_same_drawings_moved(omniglot_dir):
    plain = load_omniglot(omniglot_dir, "train")
    augmented = load_omniglot(omniglot_dir, "train", offline_augmentations=4)
    assert plain.augmented_images is None
    assert augmented.images.equal(plain.images)
    assert augmented.augmented_images.shape == (4, *plain.images.shape)
    assert load_omniglot(omniglot_dir, "train", offline_augmentations=4).augmented_images.equal(
        augmented.augmented_images
    )
    ink = plain.images.double().sum((1, 2, 3))
    for version in augmented.augmented_images:
        assert not version.equal(plain.images)
        np.testing.assert_allclose(version.double().sum((1, 2, 3)), ink, rtol=0.3)


def test_a_drawing_that_is_only_moved_keeps_its_pixels():
    square = np.zeros((105, 105), dtype=np.uint8)
    square[40:60, 30:70] = 255
    moved = np.asarray(
        omniglot._augmented(Image.fromarray(square), np.random.default_rng(0), bent=False)
    )
    rows, columns = np.nonzero(moved)
    assert set(np.unique(moved)) == {0, 255}
    assert (np.ptp(rows), np.ptp(columns)) == (19, 39)
    assert abs(rows.min() - 40) <= 5
    assert abs(columns.min() - 30) <= 5
    assert (rows.min(), columns.min()) != (40, 30)


def test_second_start_reads_the_cache(omniglot_dir, monkeypatch):
    first = load_omniglot(omniglot_dir, "train")
    monkeypatch.setattr(omniglot, "_decode", lambda *_: pytest.fail("decoded again"))
    again = load_omniglot(omniglot_dir, "train")
    assert again.images.equal(first.images)
    assert again.class_names == first.class_names


@pytest.mark.parametrize("lost", ["images_evaluation.zip", "vinyals/test.txt"])
def test_missing_files_say_where_and_how(omniglot_dir, lost):
    path = omniglot_dir / "omniglot" / lost
    path.unlink()
    with pytest.raises(MissingDataError) as raised:
        load_omniglot(omniglot_dir, "test")
    for part in (str(path), "`bruno download omniglot`", "BRUNO_DATA_DIR"):
        assert part in str(raised.value)


def test_damaged_files_are_named(omniglot_dir):
    root = omniglot_dir / "omniglot"
    with zipfile.ZipFile(root / "images_background.zip", "a") as archive:
        archive.writestr("images_background/Greek/character02/0002_04.png", b"no image")
    with pytest.raises(UserError, match=r"cannot read Greek/character02/0002_04.png"):
        load_omniglot(omniglot_dir, "val")
    (root / "images_evaluation.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"images_evaluation.zip is not a readable zip file"):
        load_omniglot(omniglot_dir, "val")


def test_split_files_are_checked(omniglot_dir):
    listing = omniglot_dir / "omniglot" / "vinyals" / "val.txt"
    listing.write_text("Greek/character99/rot000\n")
    with pytest.raises(UserError, match=r"val.txt lists 1 characters .* 'Greek/character99'"):
        load_omniglot(omniglot_dir, "val")
    listing.write_text("Greek/character01\n")
    with pytest.raises(UserError, match=r"found 'Greek/character01'"):
        read_characters(listing)
    listing.write_text("\n")
    with pytest.raises(UserError, match="lists no characters"):
        read_characters(listing)
    with pytest.raises(UserError, match=r"split: omniglot has .*'trainval'.* got 'all'"):
        load_omniglot(omniglot_dir, "all")
    with pytest.raises(
        UserError, match="offline_augmentations: expected a whole number of at least 0, got -1"
    ):
        load_omniglot(omniglot_dir, "val", offline_augmentations=-1)


def test_real_splits(real_data):
    folder = real_data("omniglot")
    names = {
        split: read_characters(folder / "omniglot" / "vinyals" / f"{split}.txt")
        for split in omniglot.SPLITS
    }
    counts = {split: len(names[split]) for split in names}
    assert counts == {"train": 1028, "val": 172, "trainval": 1200, "test": 423}
    assert set(names["train"]) | set(names["val"]) == set(names["trainval"])
    assert not set(names["train"]) & set(names["val"])
    assert not set(names["trainval"]) & set(names["test"])


def test_real_images(real_data):
    dataset = load_omniglot(real_data("omniglot"), "val")
    assert dataset.images.shape == (3440, 1, 28, 28)
    assert (dataset.class_sizes == 20).all()
    assert 0.05 < dataset.images.float().mean() / 255 < 0.15
