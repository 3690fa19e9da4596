"""The README's code, run as a newcomer would."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from bruno.data import load_dataset

README = Path(__file__).parents[1] / "README.md"


def code_blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_every_picture_is_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        assert (README.parent / picture).is_file()


def test_the_example_for_own_images_runs(tmp_path, monkeypatch, capsys):
    code = code_blocks()[0]
    monkeypatch.chdir(tmp_path)
    glyphs = load_dataset("glyphs", "test")
    for label in range(3):
        folder = tmp_path / "my-images" / f"class {label}"
        folder.mkdir(parents=True)
        for i, image in enumerate(glyphs.images[glyphs.indices_of(label)][:5]):
            Image.fromarray(255 - image[0].numpy().astype(np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "my-images" / "class 1" / "4.png").rename(tmp_path / "new.png")
    capsys.readouterr()
    exec(compile(code, str(README), "exec"), {})  # noqa: S102
    name, shape = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"class \d [01]\.\d+(e-\d+)?", name)
    assert shape == "torch.Size([3, 1, 28, 28])"


def test_the_example_for_feature_vectors_runs(capsys):
    _, code = code_blocks()
    exec(compile(code, str(README), "exec"), {})  # noqa: S102
    score, unknown, sample = capsys.readouterr().out.splitlines()
    assert float(score.removeprefix("[0 1 2] ")) > 0.85
    assert unknown == "[-1]"
    assert sample.startswith("(3, 13) [-")
