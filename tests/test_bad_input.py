"""Data that cannot be measured get one clear error, in the command and in Python."""

import numpy as np
import pytest
from PIL import Image

from bruno import UserError
from bruno.cli import main
from bruno.data import load_dataset, load_folder
from bruno.evaluation.suite import Settings, Subject, check_subject, evaluate
from tests.evaluation.conftest import make_dataset, make_model


def write_images(folder, classes, images):
    generator = np.random.default_rng(0)
    for label in range(classes):
        directory = folder / "test" / f"class {label}"
        directory.mkdir(parents=True)
        for index in range(images):
            pixels = generator.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(directory / f"{index}.png")
    return folder


def error_of(capsys, *arguments):
    code = main([*arguments])
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("bruno: error: ")]
    assert (code, len(errors)) == (2, 1), lines
    return errors[0].removeprefix("bruno: error: ")


def measure(folder, *further):
    data = ("--data.name", "folder", "--data.root", str(folder))
    return ("evaluate", "--pretrained", "glyphs", *data, "--out", str(folder / "e.json"), *further)


def test_a_set_longer_than_a_class(tmp_path, capsys):
    folder = write_images(tmp_path, 2, 3)
    error = error_of(capsys, *measure(folder, "--set-size", "4", "--protocols", "likelihood"))
    assert error.startswith("--set_size: expected 1 to 3, the images of class 'class 0'")
    assert not (folder / "e.json").exists()
    dataset = make_dataset(classes=2, size=3)
    with pytest.raises(UserError, match=r"^set_size: expected 1 to 3"):
        evaluate(Subject(make_model(), dataset), Settings(set_size=4), protocols=["likelihood"])


def test_a_class_with_one_image(tmp_path, capsys):
    folder = write_images(tmp_path, 2, 1)
    error = error_of(capsys, *measure(folder, "--protocols", "few_shot"))
    assert "class 'class 0'" in error
    assert "has 1 image, too few for 1 support images and a query" in error
    subject = Subject(make_model(), make_dataset(classes=2, size=1))
    with pytest.raises(UserError, match="too few for 1 support images"):
        evaluate(subject, Settings(), protocols=["few_shot"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("anomalies", "data: class 'class 0' of .* has one image; streams need at least 2"),
        ("generation", "protocols: 'generation' needs .* at least 11 images each; got .*, 1$"),
        ("robustness", "protocols: 'robustness' needs .* at least 2 images each; got .*, 1$"),
    ],
)
def test_what_a_protocol_needs_is_named(name, message):
    subject = Subject(make_model(), make_dataset(classes=2, size=1))
    with pytest.raises(UserError, match=message):
        evaluate(subject, Settings(), protocols=[name])


def test_data_of_one_class(tmp_path, capsys):
    folder = write_images(tmp_path, 1, 3)
    error = error_of(capsys, *measure(folder, "--protocols", "few_shot"))
    assert error == "--data: folder/test has one class; classification needs at least 2"
    with pytest.raises(UserError, match=r"^data: .* has one class; classification needs"):
        evaluate(Subject(make_model(), make_dataset(classes=1)), Settings(), protocols=["few_shot"])


def test_an_empty_folder(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    error = error_of(capsys, *measure(empty))
    assert str(empty) in error
    with pytest.raises(UserError, match="empty"):
        load_folder(empty)
    assert list(empty.iterdir()) == []


def test_images_without_labels(tmp_path, capsys):
    for index in range(3):
        Image.new("L", (28, 28)).save(tmp_path / f"{index}.png")
    error = error_of(capsys, *measure(tmp_path))
    assert "class" in error
    with pytest.raises(UserError, match="class"):
        load_folder(tmp_path)


def test_a_checkpoint_of_another_size(tmp_path, capsys):
    model = make_model()
    model.save_pretrained(tmp_path / "small")
    arguments = ("--run", str(tmp_path / "small"), "--data.name", "glyphs")
    error = error_of(capsys, "evaluate", *arguments)
    assert "expected images of shape (1, 8, 8), which the model takes, got (1, 28, 28)" in error
    with pytest.raises(UserError, match=r"expected images of shape \(1, 8, 8\)"):
        check_subject(Subject(model, load_dataset("glyphs", "test")))
    with pytest.raises(UserError, match=r"^data: expected images of shape \(1, 8, 8\)"):
        evaluate(Subject(model, load_dataset("glyphs", "test")), Settings())
    error = error_of(capsys, "report", str(tmp_path / "small"), "--data.name", "glyphs")
    assert "expected images of shape (1, 8, 8)" in error


def test_a_report_of_no_run(tmp_path, capsys):
    error = error_of(capsys, "report", str(tmp_path / "nothing"))
    assert error.startswith("--run: expected a directory with config.json or a pretrained model")
