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
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bruno.data.cache import Arrays, cached_arrays, file_identity
from bruno.data.dataset import LabelledImages, check_split
from bruno.data.folder import is_data
from bruno.data.locations import missing_data
from bruno.errors import UserError
from bruno.progress import track
from bruno.validation import check_whole

FOLDER = "omniglot"
PARTS = ("images_background", "images_evaluation")
SPLITS = ("train", "val", "trainval", "test")
IMAGE_SIZE = 28
LOADER_VERSION = 1

# Largest offline augmentation: degrees, relative change of size and of slant, pixels of the 105.
_TURN, _STRETCH, _SLANT, _SHIFT = 6.0, 0.08, 0.08, 5

ReadImage = Callable[[], bytes]


def load_omniglot(data_dir: Path, split: str, offline_augmentations: int = 0) -> LabelledImages:
    """Load one split of Omniglot; a class is a character, named ``"Alphabet/characterNN"``.

    The split files list every character in four rotations; rotations are made when sets are
    sampled, so they are read as one character here.

    Args:
        data_dir: Folder that holds ``omniglot/``, with ``images_background`` and
            ``images_evaluation`` as the official zip files or extracted, and the split files
            ``vinyals/{train,val,trainval,test}.txt``.
        split: ``"train"`` (1028 characters), ``"val"`` (172), ``"trainval"`` (1200) or
            ``"test"`` (423).
        offline_augmentations: Number of augmented copies of every image, moved a little, every
            second one also turned and stretched, at its full size of 105 x 105 before it is scaled
            down: they have the greys of a scaled drawing, which a small image that is deformed has
            lost.

    Returns:
        Images uint8 ``(N, 1, 28, 28)``, ink 255 on 0.

    Raises:
        MissingDataError: If a file is not there.
        UserError: If the split is unknown, ``offline_augmentations`` negative, or a file is
            damaged.
    """
    check_split("omniglot", split, SPLITS)
    check_whole("offline_augmentations", offline_augmentations, 0)
    root = data_dir / FOLDER
    listing = root / "vinyals" / f"{split}.txt"
    sources = [_find_part(root, part) for part in PARTS]
    if not listing.is_file():
        raise missing_data("omniglot", listing)
    arrays = cached_arrays(
        f"omniglot-{split}",
        [
            "omniglot",
            LOADER_VERSION,
            IMAGE_SIZE,
            offline_augmentations,
            file_identity([listing, *sources]),
        ],
        lambda: _decode(listing, sources, offline_augmentations),
    )
    images = torch.from_numpy(arrays["images"])
    return LabelledImages(
        images=images[0],
        labels=torch.from_numpy(arrays["labels"]),
        class_names=tuple(arrays["class_names"].tolist()),
        name="omniglot",
        split=split,
        augmented_images=images[1:] if offline_augmentations else None,
    )


def _find_part(root: Path, part: str) -> Path:
    for candidate in (root / f"{part}.zip", root / part):
        if candidate.exists():
            return candidate
    raise missing_data("omniglot", root / f"{part}.zip")


def _decode(listing: Path, sources: list[Path], offline_augmentations: int) -> Arrays:
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
        images: list[list[NDArray[np.uint8]]] = []
        labels: list[int] = []
        for label, name in enumerate(track(class_names, "Decoding omniglot")):
            for file_name, read in sorted(drawings[name].items()):
                ink = _read_ink(f"{name}/{file_name}", read)
                generator = np.random.default_rng(len(labels))
                augmented = [
                    _augmented(ink, generator, bool(i % 2)) for i in range(offline_augmentations)
                ]
                images.append([_scaled(drawing) for drawing in (ink, *augmented)])
                labels.append(label)
    finally:
        for archive in archives:
            archive.close()
    return {
        "images": np.array(images, dtype=np.uint8).swapaxes(0, 1)[:, :, None],
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
        if len(parts) == 4 and parts[3].endswith(".png") and all(map(is_data, parts)):
            _, alphabet, character, file_name = parts

            def read(entry: str = entry) -> bytes:
                return archive.read(entry)

            drawings[f"{alphabet}/{character}"][file_name] = read


def _index_folder(source: Path, drawings: dict[str, dict[str, ReadImage]]) -> None:
    for path in source.glob("*/*/*.png"):
        alphabet, character, file_name = path.relative_to(source).parts
        if all(map(is_data, (alphabet, character, file_name))):
            drawings[f"{alphabet}/{character}"][file_name] = path.read_bytes


def _read_ink(name: str, read: ReadImage) -> Image.Image:
    """Return a drawing as it was stored, ink 255 on 0."""
    try:
        with Image.open(io.BytesIO(read())) as drawing:
            return ImageOps.invert(drawing.convert("L"))
    except Exception as error:  # decoders have exceptions of their own for damaged files
        raise UserError(f"omniglot: cannot read {name} ({error})") from error


def _augmented(ink: Image.Image, generator: np.random.Generator, bent: bool) -> Image.Image:
    """Return a drawing moved by whole pixels and, if bent, turned and stretched about its middle.

    One that is only moved keeps the greys that straight lines along an axis have.
    """
    matrix = np.eye(2)
    if bent:
        turn = np.deg2rad(generator.uniform(-_TURN, _TURN))
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        slanted = np.eye(2) + generator.uniform(-_SLANT, _SLANT, (2, 2)) * [[0, 1], [1, 0]]
        stretched = np.diag(1 + generator.uniform(-_STRETCH, _STRETCH, 2))
        matrix = turned @ slanted @ stretched
    middle = np.array(ink.size) / 2
    shift = middle - matrix @ middle + generator.integers(-_SHIFT, _SHIFT, 2, endpoint=True)
    rows = np.column_stack([matrix, shift]).ravel().tolist()
    moved = ink.transform(
        ink.size, Image.Transform.AFFINE, rows, resample=Image.Resampling.BILINEAR
    )
    # A pen leaves ink or none.
    return moved.point(lambda grey: 255 if grey >= 128 else 0)


def _scaled(ink: Image.Image) -> NDArray[np.uint8]:
    resized = ink.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)
