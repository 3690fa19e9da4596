from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bruno.data import DataConfig, dataset_names, load_dataset
from bruno.data.locations import cache_directory, data_directory
from bruno.errors import MissingDataError, UserError


def test_names():
    assert dataset_names() == (
        "glyphs",
        "digits",
        "blocks",
        "omniglot",
        "mnist",
        "fashion",
        "turntable",
        "folder",
    )


def test_a_name_stands_for_its_defaults():
    by_name, by_config = load_dataset("digits", "val"), load_dataset(DataConfig("digits"), "val")
    assert by_name.images.equal(by_config.images)


def test_unknown_name_and_split_list_the_known():
    with pytest.raises(UserError, match=r"name: expected one of glyphs, digits, .* got 'cifar'"):
        load_dataset("cifar", "train")
    with pytest.raises(UserError, match="split: digits has 'train', 'val', 'test', got 'dev'"):
        load_dataset("digits", "dev")


def test_data_dir_comes_from_the_config_before_the_environment(idx_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("BRUNO_DATA_DIR", str(idx_dir))
    assert len(load_dataset("mnist", "test")) == 6
    elsewhere = DataConfig("mnist", data_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(MissingDataError) as raised:
        load_dataset(elsewhere, "test")
    assert str(tmp_path / "elsewhere" / "mnist") in str(raised.value)
    assert "`bruno download mnist`" in str(raised.value)


def test_default_folders(monkeypatch):
    monkeypatch.delenv("BRUNO_DATA_DIR", raising=False)
    monkeypatch.delenv("BRUNO_CACHE_DIR", raising=False)
    assert data_directory().name == "bruno"
    assert data_directory("~/data") == Path.home() / "data"
    assert cache_directory().name == "bruno"


def test_classes_are_kept_by_split(idx_dir):
    config = DataConfig(
        "mnist", data_dir=str(idx_dir), val_classes=["2", "0"], test_classes=["1", "3"]
    )
    assert load_dataset(config, "train").num_classes == 10
    assert load_dataset(config, "val").class_names == ("2", "0")
    assert load_dataset(config, "test").class_names == ("1", "3")
    with pytest.raises(UserError, match="'ten' not in mnist/train; its classes are '0', '1'"):
        load_dataset(DataConfig("mnist", data_dir=str(idx_dir), train_classes=["ten"]), "train")


def test_omniglot(omniglot_dir):
    config = DataConfig("omniglot", data_dir=str(omniglot_dir))
    assert load_dataset(config, "trainval").num_classes == 3


def test_training_may_use_the_validation_classes_too(omniglot_dir):
    plain = DataConfig("omniglot", data_dir=str(omniglot_dir))
    more = replace(plain, train_on_val=True)
    own, val = (load_dataset(plain, split) for split in ("train", "val"))
    joined = load_dataset(more, "train")
    assert joined.num_classes == own.num_classes + val.num_classes
    assert joined.images[len(own) :].equal(val.images)
    assert load_dataset(more, "val").images.equal(val.images)
    augmented = load_dataset(replace(more, offline_augmentations=2), "train")
    assert augmented.augmented_images.shape == (2, *joined.images.shape)
    with pytest.raises(
        UserError, match="offline_augmentations: only for the data set 'omniglot', got 2"
    ):
        load_dataset(DataConfig("glyphs", offline_augmentations=2), "val")


def test_glyphs_follow_the_seed():
    first, other = (load_dataset(DataConfig(seed=seed), "val") for seed in (0, 1))
    assert first.class_names == other.class_names
    assert not first.images.equal(other.images)


def test_folder_passes_its_options_on(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9), (10, 20, 30)).save(tmp_path / name / "0.png")
    (tmp_path / "a" / "bad.png").write_text("bad")
    config = DataConfig(
        "folder",
        root=str(tmp_path),
        image_size=5,
        channels="colour",
        invert=True,
        skip_unreadable=True,
    )
    with pytest.warns(UserWarning, match=r"bad.png"):
        dataset = load_dataset(config, "all")
    assert dataset.event_shape == (3, 5, 5)
    assert dataset.images[0, :, 0, 0].tolist() == [245, 235, 225]
    with pytest.raises(UserError, match="root: name a folder"):
        load_dataset("folder", "all")


@pytest.mark.parametrize(
    "option",
    [
        {"root": "x"},
        {"image_size": 32},
        {"channels": "colour"},
        {"invert": True},
        {"skip_unreadable": True},
    ],
)
def test_folder_options_are_refused_elsewhere(option):
    (name,) = option
    with pytest.raises(UserError, match=f"^{name}: only for the data set .*'folder', got"):
        load_dataset(DataConfig("digits", **option), "val")
