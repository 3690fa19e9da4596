import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bruno import Bruno, UserError
from bruno.cli import main
from bruno.data.scans import ScanOptions
from bruno.scan_classification import (
    TypicalDensity,
    classify_scans,
    is_improbable,
    typical_density,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


SHAPES = {
    "ring": [("ellipse", (30, 30, 90, 90))],
    "cross": [("line", (30, 60, 90, 60)), ("line", (60, 30, 60, 90))],
    "angle": [("line", (35, 30, 35, 90)), ("line", (35, 90, 85, 90))],
}


def draw(path, shape, seed):
    """Write a shape in dark ink on unevenly lit paper."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (140, 120), 0)
    pen = ImageDraw.Draw(image)
    for kind, box in SHAPES[shape]:
        moved = [int(value) for value in np.array(box) + rng.integers(-4, 5, 4)]
        if kind == "ellipse":
            pen.ellipse(moved, outline=255, width=5)
        else:
            pen.line(moved, fill=255, width=5)
    ink = np.asarray(image.rotate(rng.uniform(-5, 5)), dtype=float) / 255
    light = 1 - 0.4 * np.linspace(0, 1, 140) * rng.uniform(0.5, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((230 * (1 - 0.7 * ink) * light).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def given(tmp_path):
    for label, shape in enumerate(SHAPES):
        for index in range(3):
            draw(tmp_path / "given" / shape / f"{index}.png", shape, 10 * label + index)
        draw(tmp_path / f"new-{shape}.jpg", shape, 100 + label)
    return "given"


NEW = [f"new-{shape}.jpg" for shape in SHAPES]


def test_prints_a_table_and_writes_a_picture(given, capsys):
    assert main(["classify", "--given", given, *NEW]) == 0
    out = capsys.readouterr().out
    for shape, file in zip(SHAPES, NEW, strict=True):
        row = next(line for line in out.splitlines() if file in line)
        assert shape in row.replace(file, "")
    assert "log p(x)" in out
    with Image.open("classify.png") as picture:
        assert picture.height > 3 * 112
    assert main(["classify", *NEW, "--given", given]) == 2
    assert "--out: classify.png is there already; --overwrite" in capsys.readouterr().err


def test_json_has_the_decisions(given, capsys):
    arguments = ["classify", *NEW, "--given", given, "--pretrained=omniglot", "--json"]
    assert main([*arguments, "--out=new/a.png"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["prepared"] is True
    assert result["classes"] == sorted(SHAPES)
    assert result["examples"] == [3, 3, 3]
    assert [image["best"] for image in result["images"]] == list(SHAPES)
    for image in result["images"]:
        assert image["probability"] + image["second_probability"] <= 1 + 1e-9
        assert image["second"] != image["best"]
        assert image["log_density_given_best"] > image["log_density"]
    assert main([*arguments, "--prepare=none", "--out=b.png"]) == 0
    assert json.loads(capsys.readouterr().out)["prepared"] is False
    assert main([*arguments, "--invert=true", "--out=c.png"]) == 0
    assert json.loads(capsys.readouterr().out)["prepared"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--given=nowhere", "new-ring.jpg"], "--given: nowhere not found"),
        (["--given=given", "nothing.png"], "--files: nothing.png not found"),
        (["--given=given", "blank.png"], "--files: blank.png: expected ink"),
        (["--given=given", "new-ring.jpg", "--out=a.txt"], "--out: expected a picture"),
        (["--given=given", "new-ring.jpg", "--run=given"], "--run: expected a directory"),
        (["--given=one", "new-ring.jpg"], "--given: expected at least 2 class folders, got 1"),
        (["--given=given", "new-ring.jpg", "--pretrained=turntable"], "conditional model"),
        (["--given=given"], "required: classify.files"),
        (["new-ring.jpg"], "required: classify.given"),
        (["--given=given", "new-ring.jpg", "--prepare=scan", "--invert=true"], "--invert: "),
    ],
)
def test_mistakes_are_one_line_and_leave_no_picture(given, tmp_path, capsys, arguments, message):
    Image.new("L", (50, 50), 255).save("blank.png")
    draw(tmp_path / "one" / "ring" / "0.png", "ring", 0)
    assert main(["classify", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "classify.png").exists()


def test_improbable_images_are_named(given):
    model = Bruno.from_pretrained("omniglot")
    prepare = ScanOptions()
    card = {"figures": {"first": {"mean": 1000.0, "std": 100.0}}}
    usual = classify_scans(model, given, NEW, prepare=prepare, card=card)
    assert [decision.is_improbable for decision in usual.decisions] == [
        decision.log_density < -1400 for decision in usual.decisions
    ]
    strict = {"figures": {"first": {"mean": -5000.0, "std": 1.0}}}
    unusual = classify_scans(model, given, [NEW[0]], prepare=prepare, card=strict)
    first, second = unusual.warnings()
    assert NEW[0] in first
    assert "100% of the given images" in second
    unknown = classify_scans(model, given, [NEW[0]], prepare=prepare)
    assert unknown.decisions[0].is_improbable is None
    assert unknown.warnings() == []


def test_typical_density_of_a_card():
    assert typical_density({}) is None
    assert typical_density({"figures": {"first": {"mean": 900.0, "half_width": 3.0}}}) is None
    typical = typical_density({"figures": {"first": {"mean": 900.0, "std": 50.0}}})
    assert typical == TypicalDensity(-900.0, 50.0)
    assert is_improbable(torch.tensor([-900.0, -1101.0]), typical).tolist() == [False, True]


def test_folders_of_pictures_and_none(given, tmp_path):
    model = Bruno.from_pretrained("omniglot")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="files: expected pictures in the folder"):
        classify_scans(model, given, ["empty"])
    with pytest.raises(UserError, match="files: expected at least one picture"):
        classify_scans(model, given, [])
    result = classify_scans(model, given, ["given/ring"], prepare=ScanOptions())
    assert [decision.best for decision in result.decisions] == ["ring"] * 3
    assert result.examples_of("ring").shape == (3, 1, 28, 28)


def test_samples_of_scans(given, capsys):
    arguments = [
        "sample",
        "--pretrained=omniglot",
        "--force",
        "--given",
        "new-ring.jpg",
        "--count=2",
    ]
    assert main([*arguments, "--prepare=scan", "--out=scan.png"]) == 0
    assert main([*arguments, "--out=plain.png"]) == 0
    prepared, plain = (np.asarray(Image.open(f"{name}.png")) for name in ("scan", "plain"))
    # The corner of the given image: paper, which is black once prepared.
    assert prepared[12, 12].max() == 0
    assert plain[12, 12].max() > 50
