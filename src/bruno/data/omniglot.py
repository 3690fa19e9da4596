"""Omniglot: 1623 handwritten characters of 50 alphabets, each drawn by 20 people.

Images and split are the usual ones of few-shot learning: 28 x 28 pixels, and the division of the
characters of Vinyals et al. (2016).

References:
    Lake, Salakhutdinov, Tenenbaum. Human-level concept learning through probabilistic program
    induction. Science 2015.
    Vinyals et al. Matching networks for one shot learning. NeurIPS 2016.
"""

import io
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bruno.data.cache import Arrays, cached_arrays, file_identity
from bruno.data.dataset import LabelledImages, check_split
from bruno.data.folder import UNREADABLE
from bruno.data.locations import missing_data
from bruno.data.progress import track
from bruno.errors import UserError

FOLDER = "omniglot"
PARTS = ("images_background", "images_evaluation")
SPLITS = ("train", "val", "trainval", "test")
IMAGE_SIZE = 28
LOADER_VERSION = 1

ReadImage = Callable[[], bytes]


def load_omniglot(data_dir: Path, split: str) -> LabelledImages:
    """Load one split of Omniglot; a class is a character, named ``"Alphabet/characterNN"``.

    The split files list every character in four rotations; rotations are made when sets are
    sampled, so they are read as one character here.

    Args:
        data_dir: Folder that holds ``omniglot/``, with ``images_background`` and
            ``images_evaluation`` as the official zip files or extracted, and the split files
            ``vinyals/{train,val,trainval,test}.txt``.
        split: ``"train"`` (1028 characters), ``"val"`` (172), ``"trainval"`` (1200) or
            ``"test"`` (423).

    Returns:
        Images uint8 ``(N, 1, 28, 28)``, ink 255 on 0.

    Raises:
        MissingDataError: If a file is not there.
        UserError: If the split is unknown, or a file is damaged.
    """
    check_split("omniglot", split, SPLITS)
    root = data_dir / FOLDER
    listing = root / "vinyals" / f"{split}.txt"
    sources = [_find_part(root, part) for part in PARTS]
    if not listing.is_file():
        raise missing_data("omniglot", listing)
    arrays = cached_arrays(
        f"omniglot-{split}",
        ["omniglot", LOADER_VERSION, IMAGE_SIZE, file_identity([listing, *sources])],
        lambda: _decode(listing, sources),
    )
    return LabelledImages(
        images=torch.from_numpy(arrays["images"]),
        labels=torch.from_numpy(arrays["labels"]),
        class_names=tuple(arrays["class_names"].tolist()),
        name="omniglot",
        split=split,
    )


def _find_part(root: Path, part: str) -> Path:
    for candidate in (root / f"{part}.zip", root / part):
        if candidate.exists():
            return candidate
    raise missing_data("omniglot", root / f"{part}.zip")


def _decode(listing: Path, sources: list[Path]) -> Arrays:
    class_names = read_characters(listing)
    drawings: dict[str, dict[str, ReadImage]] = defaultdict(dict)
    archives = []
    try:
        for source in sources:
            if source.is_dir():
                _index_folder(source, drawings)
            else:
                archives.append(_open_archive(source))
                _index_archive(archives[-1], drawings)
        lost = [name for name in class_names if name not in drawings]
        if lost:
            raise UserError(
                f"omniglot: {listing.name} lists {len(lost)} characters that are not in "
                f"{' or '.join(str(source) for source in sources)}, such as {lost[0]!r}"
            )
        images, labels = [], []
        for label, name in enumerate(track(class_names, "Decoding omniglot")):
            for file_name, read in sorted(drawings[name].items()):
                images.append(_decode_image(f"{name}/{file_name}", read))
                labels.append(label)
    finally:
        for archive in archives:
            archive.close()
    return {
        "images": np.stack(images)[:, None],
        "labels": np.array(labels, dtype=np.int64),
        "class_names": np.array(class_names),
    }


def read_characters(listing: Path) -> list[str]:
    """Return the characters of a split file, ``"Alphabet/characterNN"``, in its order.

    Args:
        listing: Text file of lines ``Alphabet/characterNN/rotDDD``.

    Raises:
        UserError: If the file holds anything else, or nothing.
    """
    characters: dict[str, None] = {}
    for line in listing.read_text(encoding="utf-8").split():
        parts = line.split("/")
        if len(parts) != 3 or not parts[2].startswith("rot"):
            raise UserError(
                f"omniglot: {listing} should hold lines like 'Greek/character01/rot000', "
                f"found {line!r}"
            )
        characters["/".join(parts[:2])] = None
    if not characters:
        raise UserError(f"omniglot: {listing} lists no characters")
    return list(characters)


def _open_archive(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise UserError(f"omniglot: {source} is not a readable zip file ({error})") from error


def _index_archive(archive: zipfile.ZipFile, drawings: dict[str, dict[str, ReadImage]]) -> None:
    for entry in archive.namelist():
        parts = entry.split("/")
        if len(parts) == 4 and parts[3].endswith(".png"):
            _, alphabet, character, file_name = parts

            def read(entry: str = entry) -> bytes:
                return archive.read(entry)

            drawings[f"{alphabet}/{character}"][file_name] = read


def _index_folder(source: Path, drawings: dict[str, dict[str, ReadImage]]) -> None:
    for path in source.glob("*/*/*.png"):
        name = f"{path.parent.parent.name}/{path.parent.name}"
        drawings[name][path.name] = path.read_bytes


def _decode_image(name: str, read: ReadImage) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(read())) as drawing:
            ink = ImageOps.invert(drawing.convert("L"))
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"omniglot: cannot read {name} ({error})") from error
    resized = ink.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)
