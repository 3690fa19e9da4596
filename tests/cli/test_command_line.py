import io
import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import bruno
from bruno import Bruno
from bruno.cli import main
from bruno.cli.console import TrainingDisplay, progress_console
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
    assert "--out: runs/demo already holds a run; --overwrite" in capsys.readouterr().err


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
    assert main([*command, "--skip-unreadable"]) == 0
    assert "batches of 6 sets, one a class, not 10" in (err := capsys.readouterr().err)
    assert "warning" in err
    assert "broken.png" in err


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
    assert main(["demo", "--overwrite", "--minutes=0.01"]) == 0
    assert Path("runs/demo/notes.txt").read_text() == "mine"


def test_the_importance_weighted_figure_is_a_column_of_its_own(run, capsys):
    command = ["evaluate", "--run", str(run), "--trials=1", "--ways", "3", "--shots", "1", "--json"]
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)["likelihood"]
    assert main([*command, "--importance_samples=8"]) == 0
    weighted = json.loads(capsys.readouterr().out)["likelihood"]
    assert "importance_weighted" not in plain
    assert weighted["nll"] == plain["nll"]
    # A mean over draws inside the logarithm can only tighten the bound, but for their noise.
    assert weighted["importance_weighted"]["mean"] < plain["nll"]["mean"] + 0.5


def test_the_installed_command_exits_with_its_code():
    command = [sys.executable, "-m", "bruno.cli", "info", "--pretrained", "dance"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("bruno: error: ")
    assert torch.__version__ not in result.stderr


def test_the_version_and_help_without_a_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"bruno {bruno.__version__}\n"
    assert bruno.__version__ == version("bruno-sets")
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: bruno ")
    assert "measure likelihood and few-shot accuracy" in out


def test_one_number_of_filters_is_taken_for_all(capsys):
    assert main(["train", *TINY, "--model.filters", "8", "--training.steps=2", "--out=run"]) == 0
    assert Bruno.from_pretrained("run/model").flow.config["filters"] == 8


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


def test_a_link_to_a_picture_stays_a_link(run):
    Path("pictures").mkdir()
    Path("link.png").symlink_to("pictures/samples.png")
    assert main(["sample", "--run", str(run), "--out=link.png"]) == 0
    assert Path("link.png").is_symlink()
    assert Path("pictures/samples.png").is_file()


def test_the_home_directory_can_be_written_as_a_tilde(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(run / "model", tmp_path / "home" / "model")
    assert main(["sample", "--run=~/model", "--count=1", "--out=~/one.png"]) == 0
    assert main(["sample", "--run=~/model", "--given", "~/one.png", "--out=~/a/two.png"]) == 0
    assert main(["train", *TINY, "--training.steps=1", "--out=~/run"]) == 0
    assert sorted(p.name for p in (tmp_path / "home").iterdir()) == ["a", "model", "one.png", "run"]
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("name", ["é.png", "[bold]x[/red].png", ":smile:.png", "\udcff.png"])
def test_every_name_of_a_file_can_be_printed(run, monkeypatch, name):
    for switch in ([], ["--json", "--overwrite"]):
        out = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["sample", "--run", str(run), "--count=1", f"--out={name}", *switch]) == 0
        out.seek(0)
        printed = out.read()
        assert Path(name).is_file()
        if switch:
            assert json.loads(printed)["out"] == name
        else:
            assert name.encode("ascii", "backslashreplace").decode() in printed


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


def test_a_run_that_was_stopped_goes_on_with_its_own_configuration(run, monkeypatch, capsys):
    show = TrainingDisplay.__call__

    def stop(display, row, progress):
        show(display, row, progress)
        if row["step"] == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "__call__", stop)
        assert main(["train", *TINY, "--out=stopped"]) == 128 + signal.SIGTERM
    err = capsys.readouterr().err
    assert "bruno: stopped by SIGTERM after step 10, saved in stopped; bruno train --resume" in err
    assert main(["train", "--out=stopped", "--resume", "--training.checkpoint_every=7"]) == 0
    assert "going on with the run in stopped after step 10" in capsys.readouterr().err
    resumed, whole = (
        Bruno.from_pretrained(directory / "model").state_dict()
        for directory in (Path("stopped"), run)
    )
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    recorded = experiment_from_yaml(Path("stopped/config.yaml"))
    assert (recorded.training.checkpoint_every, recorded.data.name) == (7, "digits")


def test_a_recipe_is_started_where_there_is_nothing_to_resume(capsys):
    Path("tiny.yaml").write_text(
        "data: {name: digits}\nmodel: {filters: 8, dense_units: 16, dense_couplings: 2}\n"
        "training: {steps: 2, sets_per_batch: 10, validation_batches: 1}\n"
    )
    assert main(["train", "--config=tiny.yaml", "--out=run", "--resume"]) == 0
    assert "nothing to resume in run yet: starting" in capsys.readouterr().err
    assert main(["train", "--out=run", "--resume", "--training.steps=3"]) == 0
    assert experiment_from_yaml(Path("run/config.yaml")).training.steps == 3
    Path("run/config.yaml").unlink()
    assert main(["train", "--out=run", "--resume"]) == 2
    assert "which holds no config.yaml" in capsys.readouterr().err
