"""The scripts of the guide run as they are."""

import runpy
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example(script, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", [str(script), str(picture)])
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    runpy.run_path(str(script), run_name="__main__")
    plt.close("all")
    assert not list(temporary.glob(f"{tempfile.gettempprefix()}*"))
    assert capsys.readouterr().out
    with Image.open(picture) as image:
        assert min(image.size) > 50
