"""A folder of its own for every test, and a short run that they share."""

import pytest

from bruno.cli import main

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


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *TINY, "--out", str(directory)]) == 0
    return directory
