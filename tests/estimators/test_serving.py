"""Predictions of several processes, by the lines of the guide."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "estimators.md"
FORKED = """
import os
import torch
from sklearn.datasets import load_digits
from bruno import BrunoClassifier

torch.set_num_threads(2)
X, y = load_digits(return_X_y=True)
classifier = BrunoClassifier(temperature=1.0).fit(X[:200], y[:200])
expected = classifier.predict(X).tolist()
if not (child := os.fork()):
    torch.set_num_threads(1)
    as_before = classifier.predict(X).tolist() == expected
    classifier.partial_fit(X[:1], y[:1]).forget(X[:1], y[:1])
    os._exit(0 if as_before else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(folder, code):
    (folder / "serve.py").write_text(code, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "serve.py"], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_the_guide_serves_from_several_processes(tmp_path):
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
        if "ProcessPoolExecutor" in block
    )
    finished = run(tmp_path, code)
    assert finished.stdout == "150 predicted\n", finished.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_with_one_thread_predicts_and_learns(tmp_path):
    finished = run(tmp_path, FORKED)
    assert finished.returncode == 0, finished.stderr
