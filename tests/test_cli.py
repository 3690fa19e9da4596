import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from bruno.cli import main
from bruno.recipes import recipe_names, recipe_path
from bruno.training.config import experiment_from_yaml

TINY = [
    "--data.name=digits",
    "--model.filters=[8,8]",
    "--model.dense_units=16",
    "--model.dense_couplings=2",
    "--training.sets_per_batch=10",
    "--training.steps=20",
    "--training.validate_every=10",
    "--training.validation_batches=1",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *TINY, "--out", str(directory)]) == 0
    return directory


def test_train_reports_the_last_validation_as_json(capsys):
    assert main(["train", *TINY, "--training.steps=10", "--out=here", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["out"] == "here"
    assert result["step"] == 10
    assert result["kind"] == "validation"


def test_evaluate_writes_and_prints_the_same_figures(run, capsys):
    assert main(["evaluate", "--run", str(run), "--trials", "2", "--ways", "5", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((run / "evaluation.json").read_text())
    assert [(r["way"], r["shot"]) for r in printed["few_shot"]] == [(5, 1), (5, 5)]
    assert printed["likelihood"]["dataset"] == "digits/test"
    assert {"date", "machine", "seconds"} <= printed.keys()


def test_evaluate_prints_a_table_and_takes_a_split(run, capsys):
    arguments = ["--run", str(run), "--trials=1", "--ways", "3", "--shots", "2", "--split=val"]
    assert main(["evaluate", *arguments, "--sets-per-class=3", "--out=figures.json"]) == 0
    out = capsys.readouterr().out
    assert "3-way 2-shot" in out
    assert "bits/dim" in out
    assert "digits/val" in out
    nats = json.loads(Path("figures.json").read_text())["likelihood"]
    assert (nats["dataset"], nats["sets"]) == ("digits/val", 30)


def test_evaluate_finds_the_newest_run(capsys):
    assert main(["evaluate"]) == 2
    assert "no trained model in runs/" in capsys.readouterr().err
    assert main(["train", *TINY, "--training.steps=10"]) == 0
    assert main(["evaluate", "--trials=1", "--ways", "3", "--shots", "1"]) == 0
    assert "runs/digits/model" in capsys.readouterr().out


def test_sample_from_the_prior_and_given_pictures(run, tmp_path, capsys):
    assert main(["sample", "--run", str(run), "--count", "12", "--out", "prior.png"]) == 0
    folder = tmp_path / "given"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    arguments = ["sample", "--run", str(run), "--given", str(folder), "--out", "more.png"]
    assert main([*arguments, "--json"]) == 0
    printed = capsys.readouterr().out
    assert len(json.loads(printed[printed.index("{") :])["given"]) == 3
    prior, more = Image.open("prior.png"), Image.open("more.png")
    assert prior.width == more.width
    assert prior.size != more.size
    assert main([*arguments[:-1], "again.png"]) == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "more.png").read_bytes()


def test_info_lists_the_installation_and_a_model(run, capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["recipes"] == list(recipe_names())
    assert facts["data sets"]["digits"] == "ready, 10 test classes"
    assert main(["info", "--run", str(run)]) == 0
    out = capsys.readouterr().out
    assert "process: gaussian" in out
    assert "filters: 8, 8" in out


def test_demo_writes_a_report_and_figures(capsys):
    assert main(["demo", "--minutes", "0.03", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["report"] == "runs/demo/report.html"
    assert {(r["way"], r["shot"]) for r in figures["few_shot"]} == {
        (5, 1),
        (5, 5),
        (20, 1),
        (20, 5),
    }
    html = Path("runs/demo/report.html").read_text(encoding="utf-8")
    assert "683 characters of the scripts Latin" in html
    assert html.count("data:image/png;base64") >= 5
    assert main(["demo", "--minutes", "0.03"]) == 2
    assert "already holds a run; --overwrite replaces it" in capsys.readouterr().err


def test_config_flags_and_files_agree(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", "glyphs-demo", "--seed", "3", "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["seed"] == 3
    assert printed["data"]["name"] == "glyphs"
    for form in ("recipes/glyphs-demo.yaml", str(recipe_path("glyphs-demo"))):
        assert recipe_path(form) == recipe_path("glyphs-demo")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid(name):
    experiment_from_yaml(recipe_path(name))


def test_own_images_with_a_broken_file(tmp_path, capsys):
    for name in "abcdefghij":
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng(i).integers(0, 256, (9, 9), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{i}.png")
    (tmp_path / "mine" / "a" / "broken.png").write_bytes(b"no image")
    command = ["train", *TINY, "--data.name=folder", "--data.root=mine", "--data.image_size=8"]
    command += ["--training.steps=10", "--out=run"]
    assert main(command) == 2
    assert "broken.png" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*command, "--skip-bad"]) == 0
    assert "batches of 6 sets, one a class, not 10" in (err := capsys.readouterr().err)
    assert "warning" in err
    assert "broken.png" in err


MISTAKES = {
    "unknown command": (["dance"], "invalid choice: 'dance'"),
    "unknown flag": (["info", "--dance"], "dance"),
    "unknown recipe": (["train", "--config", "dance"], "one of the recipes blocks, fashion"),
    "unknown data set": (["train", "--data.name=dance"], "one of glyphs, digits, blocks, omniglot"),
    "unknown preset": (
        ["train", *TINY, "--model.preset=dance"],
        "one of paper, conditional-paper, compact, lattice, spectral, dense",
    ),
    "unknown process": (["train", *TINY, "--model.process=dance"], "one of gaussian, student_t"),
    "unknown device": (["train", *TINY, "--device=dance"], "expected auto, cpu or cuda"),
    "not a number": (["train", "--training.steps=many"], "training.steps"),
    "out of range": (["train", "--training.steps=-1"], "steps: expected at least 1"),
    "missing data": (["train", "--data.name=omniglot", "--data-dir=nowhere"], "bruno download"),
    "too many images": (
        ["train", *TINY, "--training.images_per_set=999"],
        "class '8' of digits/val has 17 images, too few for sets of 999",
    ),
    "unknown model": (["evaluate", "--pretrained=dance"], "pretrained model"),
    "two models": (["evaluate", "--pretrained=a", "--run=b"], "not both"),
    "nothing to download": (["download", "digits"], "built in"),
    "unknown download": (["download", "dance"], "omniglot"),
    "no name": (["download"], "required"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_in_one_line_and_exit_code_2(name, tmp_path, capsys):
    arguments, message = MISTAKES[name]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "bruno: error: " in captured.err
    assert "Traceback" not in captured.err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_mistakes_about_a_model(run, tmp_path, capsys):
    for arguments, message in (
        (["evaluate", "--ways", "11"], "11-way"),
        (["evaluate", "--shots", "999"], "999"),
        (["evaluate", "--data.name=glyphs"], "expected images of shape (1, 8, 8)"),
        (["evaluate", "--split=dance"], "dance"),
        (["evaluate", "--importance_samples=-1"], "importance_samples: expected at least 0"),
        (["sample", "--out=samples.psd"], "out: expected a picture"),
        (["sample", "--count=0"], "count: expected at least 1"),
        (["sample", "--seed=-1"], "seed: expected a non-negative integer, got -1"),
        (["evaluate", "--seed=-1"], "seed: expected a non-negative integer, got -1"),
        (["evaluate", f"--out={tmp_path}"], "out: expected a file for the figures"),
        (["sample", "--out=samples.dance"], "out: expected a picture"),
        (["sample", "--given", "nowhere.png"], "nowhere.png not found"),
    ):
        assert main([arguments[0], "--run", str(run), *arguments[1:]]) == 2
        assert message in capsys.readouterr().err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_damaged_models_and_checkpoints(run, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    for name in ("checkpoint.pt", "model/model.safetensors"):
        content = (damaged / name).read_bytes()
        (damaged / name).write_bytes(content[:-100])
    assert main(["evaluate", "--run", str(damaged)]) == 2
    assert "SHA-256 differs" in capsys.readouterr().err
    assert main(["train", *TINY, "--out", str(damaged), "--resume"]) == 2
    assert "cannot be read as a checkpoint" in capsys.readouterr().err


def test_places_that_cannot_be_written(run, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    for arguments in (
        ["train", *TINY, "--out=file/run"],
        ["evaluate", "--run", str(run), "--trials=1", "--ways", "3", "--out=file/figures.json"],
    ):
        assert main(arguments) == 2
        assert "bruno: error: " in capsys.readouterr().err


def test_a_mistake_leaves_an_earlier_demo_alone(capsys):
    Path("runs/demo").mkdir(parents=True)
    for name in ("checkpoint.pt", "notes.txt"):
        Path("runs/demo", name).write_text("mine")
    assert main(["demo", "--overwrite", "--minutes=-1"]) == 2
    assert "max_minutes" in capsys.readouterr().err
    assert Path("runs/demo/checkpoint.pt").read_text() == "mine"
    assert main(["demo", "--overwrite", "--minutes=0.01"]) == 0
    assert Path("runs/demo/notes.txt").read_text() == "mine"


def test_the_importance_weighted_figure_is_a_column_of_its_own(run, capsys):
    command = ["evaluate", "--run", str(run), "--trials=1", "--ways", "3", "--shots", "1", "--json"]
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)["likelihood"]
    assert main([*command, "--importance_samples=8"]) == 0
    weighted = json.loads(capsys.readouterr().out)["likelihood"]
    assert "importance_weighted" not in plain
    assert weighted["nats"] == plain["nats"]
    # A mean over draws inside the logarithm can only tighten the bound, but for their noise.
    assert weighted["importance_weighted"]["mean"] < plain["nats"]["mean"] + 0.5


def test_the_installed_command_exits_with_its_code():
    command = [sys.executable, "-m", "bruno.cli", "info", "--pretrained", "dance"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("bruno: error: ")
    assert torch.__version__ not in result.stderr
