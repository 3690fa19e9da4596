import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bruno.data import load_folder, load_image
from bruno.data.image_file import load_page
from bruno.data.scans import (
    ScanOptions,
    UnpreparableScanError,
    change_stroke_width,
    fit_background,
    prepare_scan,
    scan_options_for,
    scan_steps,
    stroke_width,
)
from bruno.errors import UserError


def page(size=(120, 160), *, at=(50, 30), pen=5, light=0.0, dark=True, noise=2.0):
    """A page (rows, columns) with a hook of 60 x 30 pixels, as uint8."""
    rows, columns = size
    image = Image.new("L", (columns, rows), 0)
    row, column = at
    points = [(column, row), (column, row + 60), (column + 30, row + 60)]
    ImageDraw.Draw(image).line(points, fill=255, width=pen, joint="curve")
    ink = np.asarray(image, dtype=float) / 255
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    paper = 240 * (1 - light * (0.6 * x + 0.4 * y**2))
    levels = paper * (1 - 0.7 * ink) if dark else 30 + light * 60 * x + 160 * ink
    levels = levels + np.random.default_rng(0).normal(0, noise, size)
    return levels.clip(0, 255).astype(np.uint8)


def difference(a, b):
    return (a.float() - b.float()).abs().mean().item() / 255


def test_the_result_is_bright_ink_on_black_of_the_typical_size():
    scan = prepare_scan(page())
    assert scan.dtype == torch.uint8
    assert scan.shape == (1, 28, 28)
    assert scan[0, 0].max() == 0
    rows = torch.nonzero(scan[0] > 64)[:, 0]
    assert abs(int(rows.max() - rows.min()) + 1 - 18) <= 1
    mass = scan[0].float() / scan.float().sum()
    places = torch.arange(28) + 0.5
    assert float((mass.sum(1) * places).sum()) == pytest.approx(14, abs=0.2)
    assert float((mass.sum(0) * places).sum()) == pytest.approx(14, abs=0.2)


@pytest.mark.parametrize(
    "other",
    [
        {"at": (20, 90)},
        {"light": 0.5},
        {"dark": False},
        {"dark": False, "light": 0.5},
        {"noise": 6.0},
        {"size": (300, 200)},
    ],
)
def test_place_light_polarity_noise_and_paper_hardly_matter(other):
    assert difference(prepare_scan(page(**other)), prepare_scan(page())) < 0.012


def test_size_hardly_matters():
    image = page()
    large = np.asarray(Image.fromarray(image).resize((960, 720), Image.Resampling.BICUBIC))
    assert difference(prepare_scan(large), prepare_scan(image)) < 0.012
    photograph = np.asarray(Image.fromarray(image).resize((2000, 1500)))
    assert max(scan_steps(photograph).page.shape) == 1024


def test_pens_of_all_widths_become_similar():
    widths = [
        stroke_width(prepare_scan(page(pen=pen))[0].double().numpy() / 255) for pen in (2, 5, 9)
    ]
    untouched = [
        stroke_width(
            prepare_scan(page(pen=pen), ScanOptions(stroke_width=None))[0].double().numpy() / 255
        )
        for pen in (2, 5, 9)
    ]
    assert np.ptp(widths) < 0.5 * np.ptp(untouched)


def test_polarity_can_be_given():
    assert scan_steps(page()).ink_is_dark
    assert not scan_steps(page(dark=False)).ink_is_dark
    with pytest.raises(UnpreparableScanError, match="ink"):
        prepare_scan(page(), ScanOptions(ink="light"))


def test_specks_and_rims_are_left_out():
    clean = page()
    dirty = clean.copy()
    dirty[10:13, 140:143] = 40
    dirty[:, :6] = 20
    assert difference(prepare_scan(dirty), prepare_scan(clean)) < 0.012


def test_a_second_part_stays():
    dotted = page()
    dotted[30:38, 28:36] = 60
    rows = torch.nonzero(prepare_scan(dotted)[0] > 64)[:, 0]
    parts = scan_steps(dotted).parts
    assert parts[34, 32]
    assert len(set(rows.tolist())) < int(rows.max() - rows.min()) + 1


def test_a_tight_crop_of_a_broad_stroke_is_no_rim():
    crop = np.full((40, 30), 230, np.uint8)
    crop[:, 8:22] = 30
    steps = scan_steps(crop)
    assert steps.ink_is_dark
    assert steps.parts[:, 8:22].all()


def test_steps_lead_to_the_result():
    steps = scan_steps(page(light=0.5), image_size=56)
    assert steps.prepared.shape == (1, 56, 56)
    assert steps.page.shape == steps.background.shape == steps.ink.shape == steps.parts.shape
    assert np.median(steps.ink[steps.parts]) == pytest.approx(1, abs=0.1)
    assert abs(np.median(steps.ink[~steps.parts])) < 0.05
    assert steps.character.max() <= 1
    twice = torch.nn.functional.avg_pool2d(steps.prepared.float(), 2)
    assert difference(twice, prepare_scan(page(light=0.5))) < 0.02


def test_the_background_ignores_ink():
    rows, columns = np.mgrid[-1:1:90j, -1:1:70j]
    paper = 200 + 30 * columns - 20 * rows**2
    inked = paper.copy()
    inked[20:60, 20:40] -= 150
    background, spread = fit_background(inked, 2)
    assert np.abs(background - paper).max() < 1
    assert spread < 1


def test_stroke_width_of_a_strip():
    ink = np.zeros((60, 200))
    ink[26:34, 10:190] = 1
    assert stroke_width(ink) == pytest.approx(8, rel=0.1)
    assert stroke_width(change_stroke_width(ink, 4.0)) == pytest.approx(4, abs=0.7)
    assert stroke_width(change_stroke_width(ink, 14.0)) == pytest.approx(14, abs=1)
    assert stroke_width(np.zeros((9, 9))) == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((50, 50), 255, np.uint8), "blank page"),
        (np.zeros((50, 50), np.uint8), "blank page"),
        (np.full((4, 50), 255, np.uint8), "at least 8 x 8 pixels, got 4 x 50"),
    ],
)
def test_pages_without_a_character_are_named(image, message):
    with pytest.raises(UnpreparableScanError, match=f"a.png: .*{message}") as caught:
        prepare_scan(image, name="a.png")
    assert "a.png" not in caught.value.reason


def test_noise_is_no_ink():
    noise = np.random.default_rng(0).normal(128, 20, (80, 80)).clip(0, 255).astype(np.uint8)
    with pytest.raises(UnpreparableScanError, match="blank page"):
        prepare_scan(noise)


def test_a_page_of_ink_is_no_character():
    inked = np.full((60, 60), 20, np.uint8)
    inked[:12, :12] = 250
    with pytest.raises(UnpreparableScanError, match="or all ink"):
        prepare_scan(inked, ScanOptions(ink="dark", background_degree=0))


@pytest.mark.parametrize(
    "image", [np.zeros((20, 20)), np.zeros((3, 20, 20), np.uint8), torch.zeros(20, 20)]
)
def test_what_is_no_grey_image_is_refused(image):
    with pytest.raises(UserError, match="image: expected grey levels"):
        prepare_scan(image)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ink", "red"),
        ("background_degree", -1),
        ("ink_range", (0.5, 0.5)),
        ("smallest_part", 1.0),
        ("character_size", 30),
        ("stroke_width", 0),
        ("stroke_correction", 1.5),
        ("centre", "left"),
    ],
)
def test_wrong_options_are_named(option, value):
    with pytest.raises(UserError, match=f"{option}: expected "):
        dataclasses.replace(ScanOptions(), **{option: value})


def test_options_by_data_set():
    assert scan_options_for("omniglot") == ScanOptions()
    assert scan_options_for("mnist").character_size == 20
    assert scan_options_for("turntable") is None


def test_files_are_prepared(tmp_path):
    Image.fromarray(page()).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", prepare=ScanOptions()).equal(prepare_scan(page()))
    assert load_page(tmp_path / "a.png").shape == (1, 120, 160)
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    with pytest.raises(UserError, match=r"path: .*blank.png: expected ink"):
        load_image(tmp_path / "blank.png", prepare=ScanOptions())
    with pytest.raises(UserError, match="prepare: expected grey images"):
        load_image(tmp_path / "a.png", channels="colour", prepare=ScanOptions())
    with pytest.raises(UserError, match="invert: "):
        load_image(tmp_path / "a.png", invert=True, prepare=ScanOptions())


def test_transparent_paper_needs_no_warning(tmp_path, recwarn):
    ink = np.zeros((60, 60, 4), np.uint8)
    ink[15:45, 25:31, 3] = 255  # black ink
    Image.fromarray(ink).save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png", prepare=ScanOptions()).max() > 200
    assert not recwarn.list


def test_folders_are_prepared(tmp_path):
    for name, pen in (("a", 3), ("b", 8)):
        (tmp_path / name).mkdir()
        Image.fromarray(page(pen=pen)).save(tmp_path / name / "0.png")
    plain = load_folder(tmp_path)
    prepared = load_folder(tmp_path, prepare=ScanOptions())
    assert prepared.images[1].equal(prepare_scan(page(pen=8)))
    assert not plain.images.equal(prepared.images)
    other = ScanOptions(stroke_width=None)
    assert load_folder(tmp_path, prepare=other).images[1].equal(prepare_scan(page(pen=8), other))
    Image.new("L", (50, 50), 255).save(tmp_path / "a" / "blank.png")
    with pytest.raises(UserError, match=r"unreadable images: a/blank.png.*blank page"):
        load_folder(tmp_path, prepare=ScanOptions())
    with pytest.warns(UserWarning, match="a/blank.png"):
        assert len(load_folder(tmp_path, skip_unreadable=True, prepare=ScanOptions())) == 2
