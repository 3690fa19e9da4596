"""Data of the short training run, and the run itself, which is done once."""

import pytest

from bruno.data import load_dataset
from bruno.training import train
from tests.training.experiments import TINY


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits", "train"), load_dataset("digits", "val")


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "whole"
    rows = []
    model = train(
        TINY, *digits, directory, device="cpu", on_row=lambda row, p: rows.append((row, p))
    )
    return model, directory, rows
