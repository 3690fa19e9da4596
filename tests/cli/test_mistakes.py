"""Mistakes of users: one line each, and nothing is written."""

import shutil
from pathlib import Path

import pytest

from bruno.cli import main
from bruno.cli.console import progress_console
from tests.cli.conftest import TINY

pytestmark = pytest.mark.usefixtures("elsewhere")


MISTAKES = {
    "unknown command": (["dance"], "invalid choice: 'dance'"),
    "unknown flag": (["info", "--dance"], "dance"),
    "unknown recipe": (
        ["train", "--config", "dance"],
        "--config: expected a YAML file or one of the recipes blocks, fashion",
    ),
    "unknown data set": (
        ["train", "--data.name=dance"],
        "--data.name: expected one of glyphs, digits, blocks, omniglot",
    ),
    "home of nobody": (
        ["train", "--data.name=folder", "--data.root=~nobody-of-this-name/x"],
        "~nobody-of-this-name/x",
    ),
    "picture of nobody": (
        ["sample", "--pretrained=glyphs", "--given", "~nobody-of-this-name/x.png"],
        "~nobody-of-this-name/x.png not found",
    ),
    "unknown preset": (
        ["train", *TINY, "--model.preset=dance"],
        "--model.preset: expected one of paper, conditional-paper, compact, lattice, spectral",
    ),
    "unknown process": (["train", *TINY, "--model.process=dance"], "one of gaussian, student_t"),
    "unknown device": (["train", *TINY, "--device=dance"], "--device: expected auto, cpu or cuda"),
    "shortened flag": (["train", "--data.nam", "digits"], "unrecognized arguments: --data.nam"),
    "not a number": (
        ["train", "--training.steps=many"],
        "--training.steps: expected a whole number or null, got many",
    ),
    "not one of a few": (
        ["train", "--training.precision=half"],
        "--training.precision: expected one of 'float32', 'bfloat16', got half",
    ),
    "not a list": (
        ["train", "--data.train_classes=glyphs"],
        "--data.train_classes: expected a list as in [1,2]",
    ),
    "out of range": (
        ["train", "--training.steps=-1"],
        "--training.steps: expected a whole number of at least 1",
    ),
    "out of range in a demo": (["demo", "--minutes=-1"], "--minutes: expected a positive number"),
    "missing data": (["train", "--data.name=omniglot", "--data-dir=nowhere"], "bruno download"),
    "too many images": (
        ["train", *TINY, "--training.images_per_set=999"],
        "class '8' of digits/val has 17 images, too few for sets of 999",
    ),
    "unknown model": (["evaluate", "--pretrained=dance"], "--pretrained: expected a directory"),
    "unknown run": (["sample", "--run=dance"], "--run: expected a directory with config.json"),
    "two models": (["evaluate", "--pretrained=a", "--run=b"], "not both"),
    "nothing to download": (["download", "digits"], "built in"),
    "unknown download": (["download", "dance"], "omniglot"),
    "no name": (["download"], "required"),
    "nothing to resume": (["train", "--resume"], "--resume: nothing to resume in runs/glyphs"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_in_one_line_and_exit_code_2(name, tmp_path, capsys):
    arguments, message = MISTAKES[name]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.splitlines()[-1].startswith("bruno: error: ")
    assert captured.err.count("bruno: error: ") == 1
    assert "Traceback" not in captured.err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_mistakes_about_a_model(run, tmp_path, capsys):
    for arguments, message in (
        (["evaluate", "--ways", "11"], "11-way"),
        (["evaluate", "--shots", "999"], "999"),
        (["evaluate", "--data.name=glyphs"], "expected images of shape (1, 8, 8)"),
        (["evaluate", "--split=dance"], "dance"),
        (
            ["evaluate", "--importance_samples=-1"],
            "importance_samples: expected a whole number of at least 0",
        ),
        (["sample", "--out=samples.psd"], "out: expected a picture"),
        (["sample", "--count=0"], "count: expected a whole number of at least 1"),
        (["sample", "--seed=-1"], "seed: expected a whole number of at least 0, got -1"),
        (["evaluate", "--seed=-1"], "seed: expected a whole number of at least 0, got -1"),
        (["evaluate", f"--out={tmp_path}"], "--out: expected a file, "),
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
    assert "--minutes: expected a positive number" in capsys.readouterr().err
    assert Path("runs/demo/checkpoint.pt").read_text() == "mine"
    assert Path("runs/demo/notes.txt").read_text() == "mine"


def test_what_needs_no_data_is_checked_before_they_are_loaded(run, tmp_path, monkeypatch, capsys):
    def loaded(*_arguments):
        raise AssertionError("too late")

    monkeypatch.setattr("bruno.training.runs.load_dataset", loaded)
    monkeypatch.setattr("bruno.cli.demo.train_with_display", loaded)
    monkeypatch.setattr("bruno.training.locate.LocatedModel.load", loaded)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    Path("file").write_text("mine")
    Path("samples.png").write_text("mine")
    shutil.copytree(run, "runs/demo")
    for arguments, message in (
        (["train", "--model.preset=dance"], "--model.preset: expected one of"),
        (["train", "--model.process=dance"], "--model.process: expected one of"),
        (["train", "--model.pretrained=dance"], "--model.pretrained: expected a directory"),
        (["train", "--device=cuda"], "--device: cuda was asked for"),
        (["train", "--out=file/run"], "--out: cannot write file/run, because "),
        (["train", f"--out={run}"], "already holds a run; --resume goes on with it"),
        (
            ["train", f"--out={run}", "--resume", "--model.filters=9", "--training.steps=99"],
            "of another experiment, with model.filters [8, 8] instead of 9; go on",
        ),
        (["demo"], "--out: runs/demo already holds a run; --overwrite replaces it"),
        (["demo", "--out=file/run"], "--out: cannot write file/run"),
        (["sample", f"--run={run}"], "--out: samples.png is there already; --overwrite"),
        (["sample", f"--run={run}", "--out=file/x.png"], "--out: cannot write file/x.png"),
        (["sample", f"--run={run}", "--out=x.png", "--device=cuda"], "--device: cuda"),
        (["evaluate", f"--run={run}", "--out=file"], "--out: file is there already; --overwrite"),
        (["evaluate", f"--run={run}", "--device=cuda"], "--device: cuda was asked for"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert Path("file").read_text() == Path("samples.png").read_text() == "mine"


def test_files_are_replaced_only_when_asked_to(run):
    command = ["sample", "--run", str(run), "--count=1"]
    assert main(command) == 0
    first = Path("samples.png").read_bytes()
    assert main([*command, "--seed=1"]) == 2
    assert Path("samples.png").read_bytes() == first
    assert main([*command, "--seed=1", "--overwrite"]) == 0
    assert Path("samples.png").read_bytes() != first
    command = ["evaluate", "--run", str(run), "--trials=1", "--ways=3", "--out=figures.json"]
    assert [main(command), main(command), main([*command, "--overwrite"])] == [0, 2, 0]


def test_errors_are_printed_by_every_process_and_progress_by_the_first(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert main(["sample", "--pretrained=dance"]) == 2
    assert capsys.readouterr().err.startswith("bruno: error: --pretrained: expected")
    progress_console().print("progress")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "")
    progress_console().print("progress")
    assert capsys.readouterr().err == "progress\n"


def test_a_launch_of_one_of_two_processes_is_an_error_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", *TINY, "--device=cpu", "--out=run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("bruno: error: the environment (WORLD_SIZE=2) asks for one of several")
    assert err.count("\n") == 1
    assert not Path("run").exists()
