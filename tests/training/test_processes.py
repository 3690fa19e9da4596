"""Several processes reach the weights of one with as many batches a step, killed and resumed."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from bruno import UserError
from bruno.data import DataConfig, load_dataset
from bruno.training import Experiment, ModelConfig, ObjectiveConfig, TrainingConfig, train

EXPERIMENT = Experiment(
    data=DataConfig("digits"),
    model=ModelConfig(preset="dense", dense_units=8, dense_couplings=2),
    objective=ObjectiveConfig(shots=(1,)),
    training=TrainingConfig(
        steps=12,
        sets_per_batch=4,
        images_per_set=3,
        batches_per_step=2,
        warmup_steps=2,
        validate_every=6,
        validation_batches=1,
        checkpoint_every=4,
    ),
)

# The second process kills itself after step 10, two steps after the second checkpoint.
WORKER = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from bruno.data import load_dataset
from bruno.training import train
from bruno.training.config import experiment_from_yaml

torch.set_num_threads(1)
directory, task = Path(sys.argv[1]), sys.argv[2]
experiment = experiment_from_yaml(directory / "experiment.yaml")
parts = load_dataset("digits", "train"), load_dataset("digits", "val")

def on_row(row, _):
    if task == "die" and os.environ["RANK"] == "1" and row["step"] >= 10:
        os.kill(os.getpid(), signal.SIGKILL)

train(experiment, *parts, directory / "run", device="cpu", resume=True, on_row=on_row)
by_clock = replace(experiment.training, steps=None, max_minutes=0.01)
model = train(replace(experiment, training=by_clock), *parts, directory / "clock", device="cpu")
total = float(sum(parameter.double().sum() for parameter in model.parameters()))
(directory / ("rank" + os.environ["RANK"])).write_text(repr(total))
"""


def launch(directory, task):
    (directory / "worker.py").write_text(WORKER)
    (directory / "experiment.yaml").write_text(yaml.safe_dump(plain(EXPERIMENT.to_dict())))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node", "2", directory / "worker.py", directory, task]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def plain(value):
    """Return nested dictionaries without tuples, which YAML lacks."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def test_two_processes_that_are_killed_and_resumed_equal_one(tmp_path):
    parts = load_dataset("digits", "train"), load_dataset("digits", "val")
    train(EXPERIMENT, *parts, tmp_path / "one", device="cpu")
    killed = launch(tmp_path, "die")
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert not (tmp_path / "run" / "model").exists()
    resumed = launch(tmp_path, "finish")
    assert resumed.returncode == 0, resumed.stderr
    one, two = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "run")
    )
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        scale = float(tensor.abs().max())
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6 * max(scale, 1e-3))
    # Both processes ended after the same step by the clock of the first.
    assert (tmp_path / "rank0").read_text() == (tmp_path / "rank1").read_text()


def test_batches_of_a_step_are_averaged(tmp_path):
    parts = load_dataset("digits", "train"), load_dataset("digits", "val")
    once = dataclasses.replace(EXPERIMENT.training, steps=2, batches_per_step=None)
    first = train(
        dataclasses.replace(EXPERIMENT, training=once), *parts, tmp_path / "a", device="cpu"
    )
    two = dataclasses.replace(once, batches_per_step=2)
    second = train(
        dataclasses.replace(EXPERIMENT, training=two), *parts, tmp_path / "b", device="cpu"
    )
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    with pytest.raises(UserError, match="batches_per_step: expected a whole number of at least 1"):
        TrainingConfig(batches_per_step=0)
