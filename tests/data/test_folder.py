import io

import numpy as np
import pytest
from PIL import Image

from bruno.data import load_folder, load_image
from bruno.errors import MissingDataError, UserError
from tests.data.conftest import save


@pytest.fixture
def classes(tmp_path):
    """Ten classes of three images; the red of an image tells its class and place."""
    root = tmp_path / "mine"
    for k in range(10):
        for i in range(3):
            save(root / f"class{k}" / f"{i}.png", (20 * k + i, 0, 0))
    return root


def reds(dataset):
    return dataset.images[:, 0, 0, 0].tolist()


def test_reads_every_class(classes):
    dataset = load_folder(classes, channels="colour")
    assert dataset.event_shape == (3, 28, 28)
    assert dataset.class_names == tuple(f"class{k}" for k in range(10))
    assert reds(dataset) == [20 * k + i for k in range(10) for i in range(3)]
    assert load_folder(classes).event_shape == (1, 28, 28)
    assert load_folder(str(classes), image_size=11).event_shape == (1, 11, 11)


def test_links_that_moved_to_another_class_are_read_again(classes, tmp_path):
    root = tmp_path / "links"
    for name, places in {"a": (0, 1), "b": (2,)}.items():
        (root / name).mkdir(parents=True)
        for place in places:
            (root / name / f"{place}.png").symlink_to(classes / "class9" / f"{place}.png")
    assert load_folder(root).class_sizes.tolist() == [2, 1]
    (root / "a" / "1.png").rename(root / "b" / "1.png")
    assert load_folder(root).class_sizes.tolist() == [1, 2]
    (root / "b").rename(root / "c")
    assert load_folder(root).class_names == ("a", "c")


def test_splits_by_class(classes):
    parts = [load_folder(classes, split) for split in ("train", "val", "test")]
    assert [part.num_classes for part in parts] == [6, 2, 2]
    names = [name for part in parts for name in part.class_names]
    assert sorted(names) == sorted(load_folder(classes).class_names)
    assert load_folder(classes, "test").class_names == parts[2].class_names
    seeds = {load_folder(classes, "test", seed=seed).class_names for seed in range(8)}
    assert len(seeds) > 1


def test_given_splits(classes, tmp_path):
    root = tmp_path / "given"
    (root / "train").mkdir(parents=True)
    for k in range(3):
        (classes / f"class{k}").rename(root / "train" / f"class{k}")
    (root / "test").mkdir()
    save(root / "test" / "class0" / "new.png", (250, 0, 0))
    assert load_folder(root, "train").class_names == ("class0", "class1", "class2")
    assert load_folder(root, "test").class_names == ("class0",)
    together = load_folder(root, "all", channels="colour")
    assert together.class_sizes.tolist() == [4, 3, 3]
    assert 250 in reds(together)
    with pytest.raises(MissingDataError, match=r"has the splits train, test, but no folder .*val"):
        load_folder(root, "val")


@pytest.mark.parametrize(
    "name", [".DS_Store", "._0.png", "Thumbs.db", "thumbs.DB", "desktop.ini", "Icon\r", ".x/y.png"]
)
def test_hidden_files_and_those_of_systems_are_left_out(classes, name):
    for folder in (classes, classes / "class0", classes / "class9"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of a system")
    assert len(load_folder(classes)) == 30


@pytest.mark.parametrize("name", ["__MACOSX", ".thumbnails", "@eaDir", "$RECYCLE.BIN"])
def test_folders_of_systems_are_no_classes(classes, name):
    for folder in (classes, classes / "class0"):
        save(folder / name / "0.png")
        save(folder / name / "class0" / "0.png")
    dataset = load_folder(classes)
    assert dataset.class_names == tuple(f"class{k}" for k in range(10))
    assert len(dataset) == 30


def test_images_outside_of_class_folders_are_named(classes):
    for name in ("class0/more/1.png", "class3/a/b/c.JPG", "new/only/0.webp", "loose.bmp"):
        save(classes / name)
        with pytest.raises(UserError, match=rf"as CLASS/IMAGE, got 1 images elsewhere: {name}"):
            load_folder(classes, skip_unreadable=True)
        (classes / name).unlink()
        if name.startswith("new"):
            (classes / "new" / "only").rmdir()
            (classes / "new").rmdir()
    (classes / "labels.csv").write_text("file,x")
    (classes / "class0" / "more" / "notes.txt").write_text("no image")
    assert len(load_folder(classes)) == 30


def test_images_outside_of_splits_are_named(classes):
    (classes / "train").mkdir()
    for k in range(8):
        (classes / f"class{k}").rename(classes / "train" / f"class{k}")
    expected = r"as \{train\}/CLASS/IMAGE, got 6 images elsewhere: class8/0.png, class8/1.png, cl"
    with pytest.raises(UserError, match=expected):
        load_folder(classes, "train")
    for k in (8, 9):
        (classes / f"class{k}").rename(classes / "train" / f"class{k}")
    save(classes / "train" / "0.png")
    with pytest.raises(UserError, match=r"got 1 images elsewhere: train/0\.png"):
        load_folder(classes)


def test_links_in_a_circle_end(classes):
    (classes / "class0" / "up").symlink_to(classes, target_is_directory=True)
    (classes / "class1" / "other").symlink_to(classes / "class2", target_is_directory=True)
    with pytest.raises(UserError, match=r"images elsewhere: class1/other/0.png"):
        load_folder(classes)
    (classes / "class1" / "other").unlink()
    assert len(load_folder(classes)) == 30


def test_unreadable_files_are_named(classes):
    bad = [classes / "class1" / "broken.png", classes / "class2" / "notes.txt"]
    bad[0].write_bytes((classes / "class1" / "0.png").read_bytes()[:60])
    bad[1].write_text("not an image")
    with pytest.raises(UserError, match="2 unreadable images") as raised:
        load_folder(classes)
    assert "class1/broken.png, class2/notes.txt" in str(raised.value)
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(
            UserWarning, match=r"left out 2 unreadable images: .*broken.png"
        ) as caught:
            dataset = load_folder(classes, skip_unreadable=True)
        assert len(caught) == 1
        assert len(dataset) == 30


@pytest.mark.parametrize("kind", ["AVIF", "BLP", "DDS", "JPEG2000", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_damaged_files_of_any_format_are_unreadable(classes, kind, share):
    file = io.BytesIO()
    mode = "P" if kind == "BLP" else "RGB"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).convert(mode).save(file, kind)
    content = file.getvalue()
    damaged = classes / "class4" / f"damaged.{kind.lower()}"
    damaged.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"1 unreadable images: class4/{damaged.name}; .*first: "):
        load_folder(classes)
    with pytest.warns(UserWarning, match=rf"left out 1 unreadable images: class4/{damaged.name}"):
        assert len(load_folder(classes, skip_unreadable=True)) == 30


def test_images_on_the_other_paper_are_named(classes):
    save(classes / "class2" / "ink.png", (0, 0, 0, 255), mode="RGBA")
    ink = Image.new("RGBA", (40, 40))
    ink.paste((0, 0, 0, 255), (10, 10, 20, 20))
    ink.save(classes / "class3" / "ink.png")
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(UserWarning, match=r": 1 images: class3/ink.png: ink too dark") as caught:
            load_folder(classes)
        assert len(caught) == 1


def test_masks_are_refused(tmp_path):
    for k in range(2):
        save(tmp_path / str(k) / "0.png", k, mode="L")
    with pytest.raises(UserError, match=r"root: expected grey levels.* got only 0 and 1, as in a"):
        load_folder(tmp_path)


def test_many_unreadable_files_are_counted(classes):
    for i in range(14):
        (classes / "class0" / f"bad{i:02}.png").write_text("no")
    with pytest.raises(UserError, match=r"14 unreadable images: .*bad09.png and 4 more"):
        load_folder(classes)


def test_class_without_a_readable_image(classes):
    for i in range(3):
        (classes / "class4" / f"{i}.png").write_text("no")
    with pytest.raises(UserError, match="no readable image in the class folders class4"):
        load_folder(classes, skip_unreadable=True)


def test_cache_follows_the_files_and_the_options(classes):
    before = load_folder(classes, channels="colour")
    save(classes / "class0" / "0.png", (99, 0, 0), size=(50, 50))
    after = load_folder(classes, channels="colour")
    assert reds(before)[0] == 0
    assert reds(after)[0] == 99
    inverted = load_folder(classes, channels="colour", invert=True)
    assert inverted.images.equal(255 - after.images)


def test_unusable_roots(tmp_path):
    with pytest.raises(MissingDataError, match=r"root: .*nowhere not found"):
        load_folder(tmp_path / "nowhere")
    file = save(tmp_path / "file.png")
    with pytest.raises(UserError, match=r"file.png is a file"):
        load_folder(file)
    with pytest.raises(UserError, match="expected one sub-folder of images per class"):
        load_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"class folder .*empty holds no images"):
        load_folder(tmp_path)


def test_too_few_classes_to_split(classes, tmp_path):
    root = tmp_path / "two"
    root.mkdir()
    for k in range(2):
        (classes / f"class{k}").rename(root / f"class{k}")
    with pytest.raises(UserError, match="has 2 classes, too few for train, val and test"):
        load_folder(root, "train")
    assert load_folder(root, "all").num_classes == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size: expected a whole number of at least 1, got 0"),
        ({"channels": "gray"}, "channels: expected one of grey, colour, got 'gray'"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
        ({"split": "dev"}, "split: folder has 'train', 'val', 'test', 'all', got 'dev'"),
    ],
)
def test_wrong_options(classes, options, message):
    with pytest.raises(UserError, match=message):
        load_folder(classes, **options)


def test_load_image_agrees_with_load_folder(classes):
    options = {"image_size": 9, "channels": "colour", "invert": True}
    dataset = load_folder(classes, **options)
    assert load_image(classes / "class3" / "1.png", **options).equal(dataset.images[10])
