"""Conditional models from the command line: train, evaluate, draw."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bruno import Bruno
from bruno.cli import main
from bruno.data import blocks

TINY = [
    "--data.name=blocks",
    "--model.filters=[8,8]",
    "--model.couplings=[1,1]",
    "--model.dense_units=16",
    "--model.dense_couplings=2",
    "--objective.discriminative_weight=0",
    "--training.sets_per_batch=4",
    "--training.images_per_set=4",
    "--training.steps=10",
    "--training.validate_every=10",
    "--training.validation_batches=1",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture(scope="module", autouse=True)
def few_objects():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "OBJECTS", {"train": 6, "val": 4, "test": 5})
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("conditional") / "run"
    assert main(["train", *TINY, "--model.steering=true", "--out", str(directory)]) == 0
    return directory


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory):
    directory = tmp_path_factory.mktemp("unconditional") / "run"
    assert main(["train", *TINY, "--data.drop_context=true", "--out", str(directory)]) == 0
    return directory


def test_evaluation_measures_views_and_poses_and_draws_them(run, unconditional, capsys):
    arguments = ["evaluate", "--run", str(run), "--unconditional", str(unconditional)]
    assert main([*arguments, "--view-samples=4", "--out=out/figures.json"]) == 0
    out = capsys.readouterr().out
    for shown in ("mean training view", "unconditional model", "median error", "gain"):
        assert shown in out
    figures = json.loads(Path("out/figures.json").read_text())
    assert "few_shot" not in figures
    assert figures["unconditional"] == str(unconditional)
    rows = figures["views"]["rows"]
    assert [row["given"] for row in rows] == [0, 1, 2, 4, 8, 16]
    nats = rows[1]["nll"]["mean"]
    assert rows[1]["bits_per_dim"]["mean"] == pytest.approx(nats / 1024 / math.log(2))
    assert [row["given"] for row in figures["pose"]] == [1, 4, 16]
    for name in ("views.png", "prior.png", "likelihood.png"):
        with Image.open(Path("out") / f"figures-{name}") as picture:
            assert min(picture.size) > 100
    with Image.open("out/figures-turntable.gif") as animation:
        assert animation.n_frames == 36


def test_samples_with_labels_given_and_guessed(run, capsys):
    photo = np.zeros((40, 40), np.uint8)
    photo[10:30, 15:25] = 200
    Image.fromarray(photo).save("photo.png")
    command = ["sample", "--run", str(run), "--context", "azimuth=0,90,180", "--count=4"]
    assert main([*command, "--out=prior.png"]) == 0
    assert "12 drawn images" in capsys.readouterr().out
    assert main([*command, "--given", "photo.png", "photo.png", "--out=guessed.png"]) == 0
    err = capsys.readouterr().err
    assert "azimuth of the given images, counted from the first and estimated: 0, " in err
    front = ["--given", "photo.png", "--given-context", "azimuth=0", "--out=front.png"]
    assert main([*command, *front]) == main([*command, *front[:2], "--out=untold.png"]) == 0
    assert Path("front.png").read_bytes() == Path("untold.png").read_bytes()
    told = ["--given", "photo.png", "photo.png", "--given-context", "azimuth=10,350"]
    assert main([*command, *told, "--out=told.png"]) == 0
    assert main([*command, *told[:3], "--given-context", "azimuth=10", "--out=one.png"]) == 0
    assert len({Path(name).read_bytes() for name in ("prior.png", "guessed.png", "told.png")}) == 3


def test_mistakes_about_labels(run, unconditional, tmp_path, capsys):
    Image.new("L", (32, 32)).save("photo.png")
    given = ["--given", "photo.png", "--context", "azimuth=1"]
    for model, arguments, message in (
        (run, [], "context: expected azimuth=NUMBER, got nothing"),
        (run, ["--context", "azimuth"], "context: expected azimuth=NUMBER, got 'azimuth'"),
        (run, ["--context", "azimuth=north"], "expected azimuth=NUMBER, got 'azimuth=north'"),
        (run, ["--context", "azimuth=nan"], "expected finite numbers for azimuth"),
        (run, ["--context", "height=1"], "expected azimuth=NUMBER, got height=1"),
        (run, [*given, "--given-context", "azimuth=1,2"], "given_context: expected 1 value or 1"),
        (run, [*given[2:], "--given-context", "azimuth=1"], "given_context: expected the images"),
        (run, ["--context", "azimuth=0", "azimuth=9"], "context: expected one azimuth=NUMBER"),
        (unconditional, ["--context", "azimuth=1"], "context: this model takes no context"),
        (unconditional, ["--given-context", "azimuth=1", "--given", "photo.png"], "takes no"),
    ):
        assert main(["sample", "--run", str(model), *arguments]) == 2
        assert message in capsys.readouterr().err
    for model, arguments, message in (
        (
            unconditional,
            ["--unconditional", str(unconditional)],
            "expected a conditional model to compare with",
        ),
        (run, ["--unconditional", str(run)], "expected a model without context"),
        (run, ["--unconditional=omniglot"], "expected a model of images of shape (1, 32, 32)"),
        (run, ["--data.name=digits"], "expected images of shape (1, 32, 32)"),
        (run, ["--data.drop_context=true"], "takes a context of 2 numbers, blocks has 0"),
    ):
        assert main(["evaluate", "--run", str(model), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["photo.png"]


def test_labels_and_images_are_permuted_together(run):
    model = Bruno.from_pretrained(run / "model")
    dataset = blocks.load_blocks("val")
    x = dataset.images[:6].double() + 0.5
    model.flow.double()
    with torch.no_grad():
        joint = model.log_prob(x, dataset.context[:6].double())
        order = torch.tensor([4, 2, 5, 0, 1, 3])
        permuted = model.log_prob(x[order], dataset.context[:6][order].double())
        apart = model.log_prob(x[order], dataset.context[:6].double())
        first = model.prior().log_prob(x[0], dataset.context[0].double())
        alone = model.condition(x[:0], dataset.context[:0].double())
    torch.testing.assert_close(permuted, joint, rtol=1e-9, atol=0)
    assert abs(float(apart - joint)) > 1e-3
    torch.testing.assert_close(alone.log_prob(x[0], dataset.context[0].double()), first)


def test_a_folder_of_labelled_images(tmp_path, capsys):
    rows = ["file,azimuth,height"]
    for index in range(6):
        (tmp_path / "mine" / f"object{index}").mkdir(parents=True)
        for view in range(6):
            name = f"object{index}/{view}.png"
            Image.new("L", (16, 16), 30 * index + view).save(tmp_path / "mine" / name)
            rows.append(f"{name},{60 * view},{index}")
    (tmp_path / "context.csv").write_text("\n".join(rows))
    own = [
        *TINY[1:],
        "--data.name=folder",
        "--data.root=mine",
        "--data.image_size=16",
        "--training.sets_per_batch=2",
        "--out=run",
    ]
    features = ["--data.context_file=context.csv", '--data.angles=["azimuth"]']
    assert main(["train", *own, *features[:1], '--data.angles=["azimut"]']) == 2
    assert "has the features azimuth, height, but not azimut" in capsys.readouterr().err
    assert main(["train", *own, *features, "--training.reflections=true"]) == 2
    assert "reflections: expected false for images with a context" in capsys.readouterr().err
    assert main(["train", *own, *features, "--model.steering=true"]) == 0
    assert main(["sample", "--run=run", "--context", "azimuth=30", "height=2", "--count=2"]) == 0
    again = ["sample", "--run=run", "--count=2", "--overwrite", "--context", "azimuth=30"]
    assert main(again) == 2
    assert "expected azimuth=NUMBER height=NUMBER" in capsys.readouterr().err
    assert main(["evaluate", "--run=run"]) == 0
    assert "pose" not in json.loads(Path("run/evaluation.json").read_text())
    text = Path("context.csv").read_text()
    Path("other.csv").write_text(text.replace("azimuth,height", "height,azimuth"))
    for wrong in ("--data.context_file=other.csv", '--data.angles=["height"]'):
        assert main(["evaluate", "--run=run", wrong]) == 2
        err = " ".join(capsys.readouterr().err.split())
        assert "data: expected images with azimuth (an angle), height, got" in err
    assert main(["train", *own[:5], "--data.name=blocks", "--model.pretrained=run/model"]) == 2
