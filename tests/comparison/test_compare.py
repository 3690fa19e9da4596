"""The command, on built-in characters and on a tiny data set."""

import json

import pytest

import bruno.comparison.run
from bruno import UserError
from bruno.cli import main
from bruno.cli.compare import minutes_of
from bruno.comparison.run import (
    ComparisonConfig,
    load_comparison_data,
    open_comparison,
    read_comparison,
    run_system,
)
from bruno.comparison.summary import accuracy_table, as_markdown, cost_table, figure
from tests.baselines.squares import squares


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(bruno.comparison.run, "load_dataset", lambda _, split: squares(split))


def compare(*arguments):
    return main(["compare", "--episodes", "2", *arguments])


def test_the_quick_form_on_built_in_characters(tmp_path, capsys):
    out = tmp_path / "comparison"
    arguments = ["--systems", "prototypical", "--dataset", "glyphs", "--budget", "3s"]
    assert compare(*arguments, "--out", str(out), "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == read_comparison(out)
    assert [row["kind"] for row in rows[-2:]] == ["measurement", "cost"]
    measured = rows[-2]
    assert 0.05 <= measured["cpu_minutes"] < 0.2
    tasks = [(task["way"], task["shot"]) for task in measured["tasks"]]
    assert tasks == [(5, 1), (5, 5), (20, 1), (20, 5)]
    assert measured["within_alphabet"]["accuracy"]["count"] == 400
    assert measured["tasks"][1]["accuracy"]["mean"] > 30  # chance is 20
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    tables = (out / "tables.md").read_text()
    assert "| prototypical |" in tables
    assert "| trained with one example a class for all tasks |" in tables


def test_what_is_done_is_not_done_again_and_more_is_added(tiny, tmp_path, capsys):
    out = tmp_path / "comparison"
    arguments = ["--dataset", "glyphs", "--budget", "1s", "--out", str(out)]
    assert compare("--systems", "prototypical", *arguments) == 0
    before = (out / "prototypical-seed0.jsonl").read_bytes()
    assert compare("--systems", "prototypical", "--seeds", "2", *arguments) == 0
    assert (out / "prototypical-seed0.jsonl").read_bytes() == before
    assert sorted(file.name for file in out.glob("*.jsonl")) == [
        "prototypical-seed0.jsonl",
        "prototypical-seed1.jsonl",
    ]
    assert not list(out.glob("*.state"))
    capsys.readouterr()
    assert compare("--systems", "siamese", *arguments, "--queries", "3") == 2
    assert "holds a comparison with queries 5, not 3" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on(tiny, tmp_path):
    config = ComparisonConfig("glyphs", budget=1 / 60, episodes=2)
    data = load_comparison_data(config)
    out = tmp_path / "comparison"
    open_comparison(out, config)

    class StoppedError(Exception):
        pass

    calls = []

    def stop(_label, done, _total):
        calls.append(done)
        if len(calls) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        run_system("prototypical", 0, data, config, out, stop)
    assert (out / "prototypical-seed0.state").is_file()
    file = out / "prototypical-seed0.jsonl"
    file.write_text(file.read_text() + '{"kind": "valid')  # cut short
    rows = run_system("prototypical", 0, data, config, out)
    assert [row["kind"] for row in rows].count("cost") == 1
    steps = [row["step"] for row in rows if row["kind"] == "validation"]
    assert len(steps) >= 4
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems", "prototypicall"], "systems: expected one of all, classifier"),
        (["--budget", "soon"], "budget: expected a length of time such as 90s, 15m or 1h"),
        (["--budget", "0m"], "budget: expected a length of time"),
        (["--budget", "0.001s", "--systems", "siamese"], "budget: one validation of siamese takes"),
        (["--seeds", "0"], "seeds: expected a whole number of at least 1"),
        (["--lake_runs", "none.zip"], "lake_runs: only for the data set 'omniglot'"),
        (["--queries", "15"], "a comparison needs at least 5 classes of 16 images"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    tiny, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert compare("--dataset", "glyphs", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_mixed_with_a_comparison(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds other files than a comparison"):
        open_comparison(tmp_path, ComparisonConfig())


def test_lengths_of_time():
    assert minutes_of("90s") == 1.5
    assert minutes_of("15m") == 15
    assert minutes_of("1h") == 60
    assert ComparisonConfig(budget=15).marks == (1, 5, 15)
    assert ComparisonConfig(budget=0.5).marks == (0.5,)


def test_intervals_over_seeds_and_over_episodes():
    one = figure([{"mean": 90.0, "half_width": 1.5}])
    assert (one.mean, one.half_width) == (90.0, 1.5)
    three = figure([{"mean": m, "half_width": 1.0} for m in (88.0, 90.0, 92.0)])
    assert three.mean == 90.0
    assert three.half_width == pytest.approx(4.303 * 2 / 3**0.5, abs=1e-2)


def test_a_system_that_is_not_finished_is_in_no_table():
    task = {"way": 5, "shot": 1, "accuracy": {"mean": 50.0, "half_width": 1.0}}
    row = {"kind": "measurement", "system": "bruno", "seed": 0, "step": 1, "tasks": [task]}
    assert accuracy_table([row])[2] == []
    assert cost_table([row])[2] == []
    assert as_markdown(("t", ["a", "b"], [["1", "2"]])) == (
        "**t**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
