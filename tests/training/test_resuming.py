"""Runs that are killed or stopped go on exactly, and checkpoints are whole."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml

from bruno import CheckpointError, UserError
from bruno.training import (
    Interrupted,
    TrainingConfig,
    train,
)
from bruno.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from bruno.training.config import experiment_from_yaml
from bruno.training.stopping import StopSignals
from tests.faults import every_fault
from tests.training.experiments import TINY, shortened, weights


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(finished, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(TINY.to_dict()))))
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "bruno.cli", "train", "--config", str(config)]
    command += ["--out", str(out), "--resume", "--device", "cpu"]
    checkpoint = out / "checkpoint.pt"
    kills = 0
    for wanted in (7, 14):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(0.005)
            if checkpoint.exists() and load_checkpoint(out).step >= wanted:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += process.returncode == -signal.SIGKILL
                break
    assert kills == 2
    assert not (out / "model").exists()
    subprocess.run(command, check=True, capture_output=True)
    resumed, whole = weights(out), weights(finished[1])
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name
    steps = [json.loads(line)["step"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert steps == [10, 10, 20, 20, 30, 30]


def test_an_existing_run_is_neither_overwritten_nor_continued_as_another(finished, digits):
    _, directory, _ = finished
    before = (directory / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match="already holds a run; --resume"):
        train(TINY, *digits, directory, device="cpu")
    other = dataclasses.replace(TINY, seed=5)
    with pytest.raises(UserError, match="is of another experiment, with seed 0 instead of 5;"):
        train(other, *digits, directory, device="cpu", resume=True)
    changed = shortened(30, learning_rate=0.5, rotations=False)
    message = "with training.learning_rate 0.003 instead of 0.5, training.rotations True instead"
    with pytest.raises(UserError, match=message):
        train(changed, *digits, directory, device="cpu", resume=True)
    assert (directory / "checkpoint.pt").read_bytes() == before


def test_a_model_without_its_checkpoint_is_not_replaced(finished, digits, tmp_path):
    shutil.copytree(finished[1] / "model", tmp_path / "model")
    before = weights(tmp_path)
    with pytest.raises(UserError, match="already holds a run"):
        train(TINY, *digits, tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"nothing to resume in .*, which holds a model but no"):
        train(TINY, *digits, tmp_path, device="cpu", resume=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path).items())


def signalling(number, step):
    """Return an ``on_row`` that sends this process a signal at a step."""

    def on_row(row, _progress):
        if row["step"] == step and row["kind"] == "train":
            os.kill(os.getpid(), number)

    return on_row


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_is_saved_and_goes_on_exactly(finished, digits, tmp_path, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    seldom = shortened(30, checkpoint_every=10**6)
    with pytest.raises(Interrupted, match=f"{number.name} after step 10, saved in ") as stop:
        train(seldom, *digits, tmp_path, device="cpu", on_row=signalling(number, 10))
    assert isinstance(stop.value, KeyboardInterrupt)
    assert (stop.value.number, stop.value.step) == (number, 10)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert load_checkpoint(tmp_path).step == 10
    train(seldom, *digits, tmp_path, device="cpu", resume=True)
    for name, tensor in weights(finished[1]).items():
        assert torch.equal(weights(tmp_path)[name], tensor), name


def test_a_second_signal_stops_at_once_and_one_of_a_launcher_does_not(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with StopSignals() as signals:
        assert signals.received == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        now = 0.5
        os.kill(os.getpid(), signal.SIGTERM)  # passed on by what started the process
        now = 2.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == signal.SIGINT


def test_signals_that_were_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_threads_train_without_signals(digits, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, shortened(2), *digits, tmp_path, device="cpu").result()
    assert load_checkpoint(tmp_path).step == 2


def test_checkpoints_come_by_the_clock_too(digits, tmp_path):
    steps = []

    def on_row(row, _progress):
        if (tmp_path / "checkpoint.pt").exists():
            steps.append(load_checkpoint(tmp_path).step)

    often = shortened(20, checkpoint_every=10**6, checkpoint_minutes=1e-9)
    train(often, *digits, tmp_path, device="cpu", on_row=on_row)
    assert steps[0] == 9  # figures of step 10 are shown before it is saved
    assert TrainingConfig().checkpoint_minutes == 2
    seldom = shortened(20, checkpoint_every=10**6)
    with pytest.raises(Interrupted):
        train(seldom, *digits, tmp_path / "s", device="cpu", on_row=signalling(signal.SIGTERM, 10))


def test_what_may_change_is_recorded(digits, tmp_path):
    train(shortened(2), *digits, tmp_path, device="cpu")
    longer = shortened(4, checkpoint_minutes=7.0)
    train(longer, *digits, tmp_path, device="cpu", resume=True)
    assert experiment_from_yaml(tmp_path / "config.yaml") == longer
    assert load_checkpoint(tmp_path).step == 4


def test_whatever_fails_the_old_or_the_new_checkpoint_is_there(tmp_path):
    def save(number):
        save_checkpoint(
            tmp_path, Checkpoint({}, number, 0.0, {"w": torch.ones(9)}, {}, {}, None, [])
        )

    save(0)
    for number in every_fault(tmp_path, save):
        assert load_checkpoint(tmp_path).step in (number - 1, number)
        save(number)
        assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_damaged_checkpoints_are_refused(finished, digits, tmp_path):
    content = (finished[1] / "checkpoint.pt").read_bytes()
    for name, damaged in {
        "cut": content[: len(content) // 2],
        "foreign": b"not a checkpoint at all",
        "empty": b"",
    }.items():
        directory = tmp_path / name
        directory.mkdir()
        (directory / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt: cannot be read"):
            train(TINY, *digits, directory, device="cpu", resume=True)
    (tmp_path / "other").mkdir()
    torch.save({"step": 3}, tmp_path / "other" / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a training checkpoint of this version"):
        load_checkpoint(tmp_path / "other")
    torch.save({"format_version": 1, "step": 3}, tmp_path / "other" / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a complete training checkpoint"):
        load_checkpoint(tmp_path / "other")


def test_checkpoints_never_execute_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"format_version": 1, "step": Attack()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_checkpoint_round_trip(tmp_path):
    checkpoint = Checkpoint({"seed": 1}, 3, 1.5, {"w": torch.ones(2)}, {}, {}, None, [{"step": 1}])
    save_checkpoint(tmp_path, checkpoint)
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 3
    assert loaded.history == [{"step": 1}]
    assert torch.equal(loaded.model["w"], torch.ones(2))
