"""MNIST and Fashion-MNIST, in the IDX format of their original homes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bruno.data.dataset import SPLITS, LabelledImages, check_split
from bruno.data.locations import missing_data
from bruno.errors import UserError

VALIDATION_IMAGES = 5000
"""The last images of the official training set, which make the split ``"val"``."""

FOLDERS = {"mnist": "mnist", "fashion": "fashion_mnist"}

CLASS_NAMES = {
    "mnist": tuple(str(digit) for digit in range(10)),
    "fashion": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}

_UNSIGNED_BYTE = 0x08


def load_mnist(data_dir: Path, split: str) -> LabelledImages:
    """Load one split of MNIST, 70,000 handwritten digits (LeCun et al. 1998).

    Args:
        data_dir: Folder that holds ``mnist/`` with the four official files, gzipped or not.
        split: ``"train"`` (55,000 images), ``"val"`` (5,000) or ``"test"`` (10,000).

    Returns:
        Images uint8 ``(N, 1, 28, 28)``, ink 255 on 0; classes ``"0"`` to ``"9"``.

    Raises:
        MissingDataError: If a file is not there.
        UserError: If the split is unknown, or a file is damaged.
    """
    return _load("mnist", data_dir, split)


def load_fashion(data_dir: Path, split: str) -> LabelledImages:
    """Load one split of Fashion-MNIST, 70,000 articles of clothing (Xiao et al. 2017).

    Args:
        data_dir: Folder that holds ``fashion_mnist/`` with the four official files, gzipped or not.
        split: ``"train"`` (55,000 images), ``"val"`` (5,000) or ``"test"`` (10,000).

    Returns:
        Images uint8 ``(N, 1, 28, 28)``, cloth bright on 0.

    Raises:
        MissingDataError: If a file is not there.
        UserError: If the split is unknown, or a file is damaged.
    """
    return _load("fashion", data_dir, split)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    The format: two zero bytes, the type of the numbers, the number of dimensions, the dimensions
    as big-endian 32-bit integers, the numbers.

    Args:
        path: The file; gzipped if its name ends with ``.gz``.

    Returns:
        uint8, of the shape that the file states.

    Raises:
        UserError: If the file is not such a file, or shorter or longer than it states.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); download it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise UserError(
            f"{path}: expected an IDX file of unsigned bytes, which starts with 00 00 08, "
            f"found {content[:3].hex(' ') or 'nothing'}"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise UserError(f"{path}: ends within its header; download it again")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path}: its header states {' x '.join(map(str, shape))} bytes, "
            f"found {len(content) - start}; download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _load(name: str, data_dir: Path, split: str) -> LabelledImages:
    check_split(name, split, SPLITS)
    folder = data_dir / FOLDERS[name]
    part = "t10k" if split == "test" else "train"
    image_file = _find(name, folder / f"{part}-images-idx3-ubyte")
    label_file = _find(name, folder / f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise UserError(
            f"{name}: {image_file} and {label_file} do not belong together: "
            f"images {images.shape}, labels {labels.shape}"
        )
    if split != "test":
        if len(images) <= VALIDATION_IMAGES:
            raise UserError(
                f"{name}: {image_file} should hold more than {VALIDATION_IMAGES} images, "
                f"found {len(images)}"
            )
        kept = slice(-VALIDATION_IMAGES) if split == "train" else slice(-VALIDATION_IMAGES, None)
        images, labels = images[kept], labels[kept]
    return LabelledImages(
        images=torch.from_numpy(images[:, None].copy()),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=CLASS_NAMES[name],
        name=name,
        split=split,
    )


def _find(name: str, path: Path) -> Path:
    zipped = path.with_name(f"{path.name}.gz")
    for candidate in (zipped, path):
        if candidate.is_file():
            return candidate
    raise missing_data(name, zipped)
