import math

import pytest
import torch
from PIL import Image

from bruno.data import load_dataset
from bruno.data.context import ContextFeature, encode_context, features_of_model, read_context_file
from bruno.data.folder import load_folder
from bruno.data.registry import DataConfig
from bruno.errors import MissingDataError, UserError

AZIMUTH, HEIGHT = ContextFeature("azimuth", is_angle=True), ContextFeature("height")


def test_angles_become_sine_and_cosine_and_numbers_stay():
    degrees = torch.tensor([0.0, 90.0, 180.0, 350.0])
    context = encode_context([HEIGHT, AZIMUTH], {"azimuth": degrees, "height": 3.0})
    assert context.dtype == torch.float32
    radians = math.radians(350)
    expected = [[3, 0, 1], [3, 1, 0], [3, 0, -1], [3, math.sin(radians), math.cos(radians)]]
    torch.testing.assert_close(context, torch.tensor(expected))
    full_turn = encode_context([AZIMUTH], {"azimuth": degrees + 360})
    torch.testing.assert_close(full_turn, context[:, 1:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "expected a value of azimuth, height, got no feature"),
        ({"azimuth": 1.0}, "expected a value of azimuth, height, got azimuth"),
        ({"azimuth": 1.0, "height": 2.0, "zoom": 1.0}, "got azimuth, height, zoom"),
        ({"azimuth": math.nan, "height": 2.0}, "expected finite numbers for azimuth"),
    ],
)
def test_context_features_must_be_those_of_the_model(values, message):
    with pytest.raises(UserError, match=message):
        encode_context([AZIMUTH, HEIGHT], values)


@pytest.fixture
def folder(tmp_path):
    rows = ["file,azimuth,height"]
    for index, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        for view in range(2):
            Image.new("L", (9, 9), 10 * index + view).save(tmp_path / name / f"{view}.png")
            rows.append(f"{name}/{view}.png,{90 * view},{index}.5")
    # The order of the rows does not matter.
    (tmp_path / "context.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")
    return tmp_path


def test_a_folder_with_a_context_file(folder):
    config = DataConfig(
        "folder",
        root=str(folder),
        context_file=str(folder / "context.csv"),
        angles=["azimuth"],
        image_size=4,
    )
    dataset = load_dataset(config, "all")
    assert dataset.context_features == (ContextFeature("azimuth", True), ContextFeature("height"))
    for image, label, context in zip(
        dataset.images[:, 0, 0, 0].tolist(), dataset.labels.tolist(), dataset.context, strict=True
    ):
        view = image % 10
        torch.testing.assert_close(context, torch.tensor([float(view), 1.0 - view, label + 0.5]))


def test_a_file_saved_by_a_spreadsheet_has_a_mark_in_front(folder):
    file = folder / "context.csv"
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert read_context_file(file, [], ["b/1.png"])[1]["height"].tolist() == [1.5]


def test_bad_files_have_no_context(folder):
    (folder / "a" / "0.png").write_text("bad")
    with pytest.warns(UserWarning, match=r"0\.png"):
        dataset = load_folder(
            folder, context_file=folder / "context.csv", skip_unreadable=True, image_size=4
        )
    assert dataset.context[:, 1].tolist() == [0.5, 1.5, 1.5, 2.5, 2.5]


def test_bad_files_are_the_same_by_any_path_to_the_folder(folder, monkeypatch):
    (folder / "a" / "0.png").write_text("bad")
    context_file = folder / "context.csv"
    with pytest.warns(UserWarning, match=r"0\.png"):
        first = load_folder(folder, context_file=context_file, skip_unreadable=True, image_size=4)
    monkeypatch.chdir(folder.parent)
    with pytest.warns(UserWarning, match=r"0\.png"):
        again = load_folder(
            folder.name, context_file=context_file, skip_unreadable=True, image_size=4
        )
    assert again.context.equal(first.context)


def test_the_context_features_of_a_model_are_those_it_was_saved_with():
    kept = {"metadata": {"context_features": {"azimuth": True, "height": False}}}
    assert features_of_model(kept) == (AZIMUTH, HEIGHT)
    kept = {"metadata": {"context_labels": kept["metadata"]["context_features"]}}
    assert features_of_model(kept) == (AZIMUTH, HEIGHT)
    assert features_of_model({}) == features_of_model({"metadata": {"context_features": 3}}) == ()


def test_context_features_say_what_is_missing(folder):
    file = folder / "context.csv"
    text = file.read_text()
    with pytest.raises(
        UserError, match=r"angles: .* has the features azimuth, height, but not roll"
    ):
        read_context_file(file, ["roll"], [])
    with pytest.raises(UserError, match=r"no row for 1 images, such as d/0\.png"):
        read_context_file(file, [], ["a/0.png", "d/0.png"])
    with pytest.raises(MissingDataError, match=r"nowhere\.csv not found"):
        read_context_file(folder / "nowhere.csv", [], [])
    for bad in ("north", "nan", ""):
        file.write_text(text.replace("a/1.png,90", f"a/1.png,{bad}"))
        with pytest.raises(UserError, match=rf"a number for azimuth of a/1\.png in .* got '{bad}'"):
            read_context_file(file, [], ["a/1.png"])
    file.write_text(text + "a/1.png,3,4\n")
    with pytest.raises(UserError, match=r"more than one row for a/1\.png"):
        read_context_file(file, [], ["a/1.png"])
    file.write_bytes("file,größe\na/0.png,1\n".encode("latin-1"))
    with pytest.raises(UserError, match="expected CSV in UTF-8"):
        read_context_file(file, [], [])
    file.write_text("image,azimuth\na/0.png,1\n")
    with pytest.raises(UserError, match=r"expected a column file and .* got 'image', 'azimuth'"):
        read_context_file(file, [], [])
    for header in ("file,azimuth,azimuth", "file,azimuth,"):
        file.write_text(f"{header}\na/0.png,1,2\n")
        with pytest.raises(UserError, match="one for every feature, with names of their own"):
            read_context_file(file, [], [])
    file.write_text("file,azimuth\na/0.png,1,2\n")
    with pytest.raises(UserError, match=r"more columns for a/0\.png than names"):
        read_context_file(file, [], [])
    file.write_text("file,azimuth\na/0.png,1e300\n")
    with pytest.raises(UserError, match=r"a number for azimuth of a/0\.png in .* got '1e300'"):
        read_context_file(file, [], ["a/0.png"])
    file.write_text("file, azimuth\na/0.png, 90\n")
    assert read_context_file(file, ["azimuth"], ["a/0.png"])[1]["azimuth"].tolist() == [90.0]
    with pytest.raises(UserError, match="angles: expected a context_file"):
        load_folder(folder, angles=["azimuth"])
