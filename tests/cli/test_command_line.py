"""The command: what it prints, writes and goes on with."""

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
from bruno.cli.console import TrainingDisplay
from bruno.recipes import recipe_names, recipe_path
from bruno.training.config import experiment_from_yaml
from tests.cli.conftest import TINY

pytestmark = pytest.mark.usefixtures("elsewhere")


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


def test_the_report_of_a_data_set_split_by_image_does_not_call_its_classes_new(run):
    arguments = ["report", str(run), "--protocols", "correlation", "--out", "page.html"]
    assert main(arguments) == 0
    html = Path("page.html").read_text(encoding="utf-8")
    assert "10 classes of digits/test that were also trained on" in html


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
    assert facts["data sets"]["digits"] == "built in"
    assert main(["info", "--run", str(run)]) == 0
    out = capsys.readouterr().out
    assert "process: gaussian" in out
    assert "filters: 8, 8" in out


def test_demo_writes_a_report_and_figures(capsys):
    Path("runs/demo").mkdir(parents=True)
    for name in ("checkpoint.pt", "notes.txt"):
        Path("runs/demo", name).write_text("earlier")
    assert main(["demo", "--minutes", "0.03", "--json", "--overwrite"]) == 0
    assert Path("runs/demo/notes.txt").read_text() == "earlier"
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
