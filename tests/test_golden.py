"""Densities are what they were: see tests/golden.py."""

import json

import pytest

from bruno import Bruno
from tests.golden import FILE, model_figures, process_figures

GOLDEN = json.loads(FILE.read_text())


def test_processes():
    for name, figures in process_figures().items():
        for figure, values in figures.items():
            expected = GOLDEN["processes"][name][figure]
            assert flat(values) == pytest.approx(flat(expected), rel=1e-12, abs=1e-12), figure


@pytest.mark.parametrize("name", Bruno.pretrained())
def test_shipped_models_in_double_precision(name):
    assert model_figures(name) == pytest.approx(GOLDEN["models"][name], rel=1e-9)


def flat(values):
    if not isinstance(values, list):
        return [values]
    return [one for value in values for one in flat(value)]
