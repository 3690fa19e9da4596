"""The scripts of the guides run as they are."""

import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example(script, tmp_path, monkeypatch, capfd):
    picture = tmp_path / "picture.png"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    source = script.read_text(encoding="utf-8")
    if "ProcessPoolExecutor" in source:  # whose processes import the script by its path
        subprocess.run([sys.executable, str(script)], check=True)
    else:
        monkeypatch.setattr(sys, "argv", [str(script), str(picture)])
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        runpy.run_path(str(script), run_name="__main__")
        plt.close("all")
    assert not list(temporary.glob(f"{tempfile.gettempprefix()}*"))
    assert capfd.readouterr().out
    if "[PICTURE]" in source:
        with Image.open(picture) as image:
            assert min(image.size) > 50


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
