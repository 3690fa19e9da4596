"""Data on disk and data made up for the tests."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from bruno.data import LabelledImages


@pytest.fixture(autouse=True)
def cache_dir(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BRUNO_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def toy():
    """Six classes of ten 1 x 4 x 4 images; every pixel of an image is its index."""
    labels = torch.arange(6).repeat(10)
    pixels = torch.arange(60, dtype=torch.uint8)
    return LabelledImages(
        images=pixels[:, None, None, None].expand(60, 1, 4, 4).clone(),
        labels=labels,
        class_names=tuple("abcdef"),
        name="toy",
        split="train",
        context=torch.arange(60).float()[:, None] * torch.tensor([1.0, -1.0]),
    )


def save(path, colour=(200, 0, 0), size=(40, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_dir(tmp_path):
    """A small MNIST: 5,010 images for training and 6 for testing; pixels tell the place."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, count in (("train", 5010), ("t10k", 6)):
        places = np.arange(count) % 251
        images = np.broadcast_to(places[:, None, None], (count, 28, 28))
        labels = np.arange(count) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_bytes(array), compresslevel=1))
    return tmp_path


def drawing(seed: int) -> bytes:
    """A 105 x 105 1-bit PNG, black ink on white, with the ink in a place of its own."""
    ink = np.ones((105, 105), dtype=bool)
    row = 10 + 8 * (seed % 10)
    ink[row : row + 12, 20:80] = False
    file = io.BytesIO()
    Image.fromarray(ink).save(file, format="PNG")
    return file.getvalue()


OMNIGLOT_CHARACTERS = {
    "images_background": ["Greek/character01", "Greek/character02", "Latin/character01"],
    "images_evaluation": ["Tengwar/character01", "Tengwar/character02"],
}
OMNIGLOT_SPLITS = {
    "train": ["Tengwar/character01", "Greek/character01"],
    "val": ["Greek/character02"],
    "trainval": ["Tengwar/character01", "Greek/character01", "Greek/character02"],
    "test": ["Latin/character01", "Tengwar/character02"],
}


@pytest.fixture
def omniglot_dir(tmp_path):
    """A small Omniglot: five characters, three drawings of each."""
    root = tmp_path / "omniglot"
    (root / "vinyals").mkdir(parents=True)
    number = 0
    for part, characters in OMNIGLOT_CHARACTERS.items():
        with zipfile.ZipFile(root / f"{part}.zip", "w") as archive:
            for character in characters:
                number += 1
                for drawer in (2, 1, 3):
                    name = f"{part}/{character}/{number:04}_{drawer:02}.png"
                    archive.writestr(name, drawing(drawer))
    for split, characters in OMNIGLOT_SPLITS.items():
        lines = [f"{name}/rot{turn:03}" for name in characters for turn in (0, 90, 180, 270)]
        (root / "vinyals" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path
