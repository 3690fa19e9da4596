import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from bruno.data import load_folder, load_image
from bruno.errors import MissingDataError, UserError


def save(path, colour=(200, 0, 0), size=(40, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


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


def test_hidden_files_are_left_out(classes):
    (classes / "class0" / ".DS_Store").write_text("finder")
    save(classes / ".thumbnails" / "0.png")
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
            dataset = load_folder(classes, skip_bad=True)
        assert len(caught) == 1
        assert len(dataset) == 30


def test_many_unreadable_files_are_counted(classes):
    for i in range(14):
        (classes / "class0" / f"bad{i:02}.png").write_text("no")
    with pytest.raises(UserError, match=r"14 unreadable images: .*bad09.png and 4 more"):
        load_folder(classes)


def test_class_without_a_readable_image(classes):
    for i in range(3):
        (classes / "class4" / f"{i}.png").write_text("no")
    with pytest.raises(UserError, match="no readable image in the class folders class4"):
        load_folder(classes, skip_bad=True)


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
        ({"image_size": 0}, "image_size: expected at least 1 pixel, got 0"),
        ({"channels": "gray"}, "channels: expected 'grey' or 'colour', got 'gray'"),
        ({"seed": -1}, "seed: expected a non-negative integer"),
        ({"split": "dev"}, "split: folder has 'train', 'val', 'test', 'all', got 'dev'"),
    ],
)
def test_wrong_options(classes, options, message):
    with pytest.raises(UserError, match=message):
        load_folder(classes, **options)


def test_crops_the_centre_of_the_longer_side(tmp_path):
    pixels = np.zeros((20, 60), dtype=np.uint8)
    pixels[:, 20:40] = 255
    path = tmp_path / "wide.png"
    Image.fromarray(pixels).save(path)
    assert load_image(path, image_size=20).eq(255).all()
    # The short side is brought to size first: half of 20 pixels is what lies around the middle.
    assert load_image(path, image_size=10)[0, :, 1:-1].eq(255).all()


def test_honours_exif_orientation(tmp_path):
    pixels = np.zeros((30, 30), dtype=np.uint8)
    pixels[:15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for viewing
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).save(path, exif=exif)
    seen = load_image(path, image_size=30)[0]
    assert seen.equal(torch.from_numpy(np.rot90(pixels, -1).copy()))


def test_transparency_becomes_background(tmp_path):
    path = save(tmp_path / "clear.png", (255, 255, 255, 0), mode="RGBA")
    assert load_image(path).eq(0).all()
    assert load_image(path, invert=True).eq(0).all()
    half = save(tmp_path / "half.png", (200, 100, 0, 128), mode="RGBA")
    colour = load_image(half, channels="colour")[:, 0, 0].tolist()
    assert colour == pytest.approx([100, 50, 0], abs=1)


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (30, 30), 1)
    image.putpalette([255, 0, 0, 0, 200, 0] + [0] * 762)
    image.paste(0, (0, 0, 15, 30))
    path = tmp_path / "palette.gif"
    image.save(path, transparency=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = load_image(path, image_size=30, channels="colour")
    assert seen[:, 5, 5].tolist() == [0, 0, 0]
    assert seen[:, 5, 25].tolist() == [0, 200, 0]


@pytest.mark.parametrize(
    ("mode", "colour", "name", "grey"),
    [
        ("1", 1, "bit.png", 255),
        ("L", 77, "grey.bmp", 77),
        ("LA", (90, 255), "alpha.png", 90),
        ("I;16", 0x4D00, "deep.png", 0x4D),
        ("CMYK", (0, 0, 0, 255), "print.tiff", 0),
        ("RGB", (60, 60, 60), "photo.jpg", 60),
        ("RGB", (60, 60, 60), "photo.webp", 60),
    ],
)
def test_formats_and_modes(tmp_path, mode, colour, name, grey):
    path = save(tmp_path / name, colour, mode=mode)
    image = load_image(path)
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.uint8
    assert image.float().sub(grey).abs().max() <= 2
    assert load_image(path, invert=True).float().sub(255 - grey).abs().max() <= 2


def test_load_image_agrees_with_load_folder(classes):
    options = {"image_size": 9, "channels": "colour", "invert": True}
    dataset = load_folder(classes, **options)
    assert load_image(classes / "class3" / "1.png", **options).equal(dataset.images[10])


def test_load_image_errors(tmp_path):
    with pytest.raises(MissingDataError, match=r"path: .*gone.png not found"):
        load_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UserError, match=r"path: .*text.png is not a readable image"):
        load_image(tmp_path / "text.png")
    with pytest.raises(UserError, match="is not a readable image"):
        load_image(tmp_path)
