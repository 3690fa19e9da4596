"""A folder of images: one sub-folder per class, for data of one's own."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from bruno.data.cache import Arrays, cached_arrays, file_identity
from bruno.data.context import Label, encode_context, read_labels
from bruno.data.dataset import SPLITS, LabelledImages, check_split
from bruno.errors import MissingDataError, UserError
from bruno.paths import user_path
from bruno.progress import track
from bruno.seeding import generator_for

Channels = Literal["grey", "colour"]

DEFAULT_IMAGE_SIZE = 28
LOADER_VERSION = 2
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}

_MODES = {"grey": "L", "colour": "RGB"}
_BAD_FILES_SHOWN = 10


def load_folder(
    root: str | Path,
    split: str = "all",
    *,
    image_size: int = DEFAULT_IMAGE_SIZE,
    channels: Channels = "grey",
    invert: bool = False,
    skip_bad: bool = False,
    labels: str | Path | None = None,
    angles: Sequence[str] = (),
    seed: int = 0,
) -> LabelledImages:
    """Load a folder with one sub-folder of images per class.

    If the folder has a sub-folder ``train``, ``val`` or ``test``, these are the splits and the
    class folders are inside them. Otherwise 70 % of the classes are for training, 10 % for
    validation and 20 % for testing. Hidden files and folders, whose names begin with a dot, are
    left out.

    Args:
        root: The folder.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` of them.
        image_size: Height and width to bring every image to, in pixels.
        channels: ``"grey"`` or ``"colour"``.
        invert: Turn dark ink on white paper into bright ink on black.
        skip_bad: Leave out files that are no readable images, with a warning, instead of failing.
        labels: CSV file with a header and a row for every image: a column ``file``, the path
            relative to ``root``, and one for every label that makes up the context.
        angles: Which of these labels are angles in degrees.
        seed: Seed of the split of the classes.

    Returns:
        Images uint8 ``(N, 1 or 3, image_size, image_size)``, classes in alphabetical order.

    Raises:
        MissingDataError: If the folder or the split is not there.
        UserError: If it is not a folder, holds no class folders or no images, has too few classes
            to split, or holds unreadable files; if an image has no labels or one that is no
            number; or if an option is not as above.
    """
    root = user_path(root, "root")
    check_split("folder", split, (*SPLITS, "all"))
    _check_options(image_size, channels)
    if seed < 0:
        raise UserError(f"seed: expected a non-negative integer, got {seed}")
    if angles and labels is None:
        raise UserError("angles: expected labels to name columns of, got no labels")
    files = _list_files(root, split, seed)
    arrays = cached_arrays(
        "folder",
        [
            "folder",
            LOADER_VERSION,
            split,
            image_size,
            channels,
            invert,
            skip_bad,
            file_identity(path for paths in files.values() for path in paths),
        ],
        lambda: _decode(root, files, image_size, channels, invert, skip_bad),
    )
    bad = arrays["bad"].tolist()
    if bad:
        warnings.warn(f"folder: {root}: left out {_listing(bad)}", stacklevel=2)
    known: tuple[Label, ...] = ()
    context = None
    if labels is not None:
        names = [_relative(path, root) for paths in files.values() for path in paths]
        kept = [name for name in names if name not in bad]
        known, values = read_labels(user_path(labels, "labels"), angles, kept)
        context = encode_context(known, values)
    return LabelledImages(
        images=torch.from_numpy(arrays["images"]),
        labels=torch.from_numpy(arrays["labels"]),
        class_names=tuple(arrays["class_names"].tolist()),
        name="folder",
        split=split,
        context=context,
        context_labels=known,
    )


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def load_image(
    path: str | Path,
    *,
    image_size: int = DEFAULT_IMAGE_SIZE,
    channels: Channels = "grey",
    invert: bool = False,
) -> Tensor:
    """Load one image as :func:`load_folder` does, uint8 ``(1 or 3, image_size, image_size)``.

    The image is turned as its EXIF orientation says, laid on black where it is transparent (on
    white before ``invert``), scaled until its shorter side fits, and cut to its central square.

    Args:
        path: A file of any format that Pillow reads; the first frame, if it has several.
        image_size: Height and width of the result, in pixels.
        channels: ``"grey"`` or ``"colour"``.
        invert: Turn dark ink on white paper into bright ink on black.

    Raises:
        MissingDataError: If the file is not there.
        UserError: If it is no readable image, or an option is not as above.
    """
    path = user_path(path)
    _check_options(image_size, channels)
    if not path.exists():
        raise MissingDataError(f"path: {path} not found")
    try:
        return torch.from_numpy(_read(path, image_size, channels, invert))
    except UNREADABLE as error:
        raise UserError(f"path: {path} is not a readable image ({error})") from error


# What Pillow raises for files that are damaged, foreign or bombs; SyntaxError is from its PNG code.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def _check_options(image_size: int, channels: str) -> None:
    if image_size < 1:
        raise UserError(f"image_size: expected at least 1 pixel, got {image_size}")
    if channels not in _MODES:
        raise UserError(f"channels: expected 'grey' or 'colour', got {channels!r}")


def _list_files(root: Path, split: str, seed: int) -> dict[str, list[Path]]:
    """Return the files of every class of a split."""
    if not root.exists():
        raise MissingDataError(f"root: {root} not found")
    if not root.is_dir():
        raise UserError(f"root: expected a folder with one sub-folder per class, {root} is a file")
    given = [name for name in SPLITS if (root / name).is_dir()]
    if not given:
        classes = _class_folders(root)
        names = _split_classes(sorted(classes), split, seed, root)
        return {name: classes[name] for name in names}
    if split != "all" and split not in given:
        raise MissingDataError(
            f"split: {root} has the splits {', '.join(given)}, but no folder {root / split}"
        )
    files: dict[str, list[Path]] = {}
    for part in given if split == "all" else [split]:
        for name, paths in _class_folders(root / part).items():
            files.setdefault(name, []).extend(paths)
    return dict(sorted(files.items()))


def _class_folders(root: Path) -> dict[str, list[Path]]:
    classes = {}
    for folder in _visible(root):
        if folder.is_dir():
            files = [path for path in _visible(folder) if path.is_file()]
            if not files:
                raise UserError(f"root: class folder {folder} holds no images")
            classes[folder.name] = files
    if not classes:
        raise UserError(f"root: expected one sub-folder of images per class, {root} has none")
    return classes


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _split_classes(names: Sequence[str], split: str, seed: int, root: Path) -> list[str]:
    if split == "all":
        return list(names)
    if len(names) < len(SPLITS):
        raise UserError(
            f"split: {root} has {len(names)} classes, too few for train, val and test; "
            f"put the class folders into folders of these names, or use the split 'all'"
        )
    # Telling classes apart takes two of them, as long as training keeps as many.
    least = 2 if len(names) >= 2 * len(SPLITS) else 1
    held_out = {part: max(least, round(SHARES[part] * len(names))) for part in ("val", "test")}
    order = torch.randperm(len(names), generator=generator_for(seed)).tolist()
    train_end = len(names) - held_out["val"] - held_out["test"]
    val_end = train_end + held_out["val"]
    bounds = {"train": (0, train_end), "val": (train_end, val_end), "test": (val_end, len(names))}
    first, last = bounds[split]
    return sorted(names[index] for index in order[first:last])


def _decode(
    root: Path,
    files: dict[str, list[Path]],
    image_size: int,
    channels: Channels,
    invert: bool,
    skip_bad: bool,
) -> Arrays:
    images, labels, bad = [], [], []
    listed = [(label, path) for label, paths in enumerate(files.values()) for path in paths]
    for label, path in track(listed, "Decoding images"):
        try:
            images.append(_read(path, image_size, channels, invert))
            labels.append(label)
        except UNREADABLE:
            bad.append(_relative(path, root))
    if bad and not skip_bad:
        raise UserError(
            f"root: {root} has {_listing(bad)}; remove them, or set skip_bad to leave them out"
        )
    empty = [name for label, name in enumerate(files) if label not in set(labels)]
    if empty:
        raise UserError(f"root: no readable image in the class folders {', '.join(empty)}")
    return {
        "images": np.stack(images),
        "labels": np.array(labels, dtype=np.int64),
        "class_names": np.array(list(files)),
        "bad": np.array(bad, dtype=np.str_),
    }


def _listing(bad: Sequence[str]) -> str:
    shown = ", ".join(bad[:_BAD_FILES_SHOWN])
    more = len(bad) - _BAD_FILES_SHOWN
    return f"{len(bad)} unreadable images: {shown}" + (f" and {more} more" if more > 0 else "")


def _read(path: Path, image_size: int, channels: Channels, invert: bool) -> NDArray[np.uint8]:
    with Image.open(path) as file:
        image = _flatten(ImageOps.exif_transpose(file), paper=255 if invert else 0)
    image = image.convert(_MODES[channels])
    if invert:
        image = ImageOps.invert(image)
    image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    pixels = np.array(image, dtype=np.uint8).reshape(image_size, image_size, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _flatten(image: Image.Image, paper: int) -> Image.Image:
    """Lay an image on paper where it is transparent, and bring 16-bit grey to 8 bits."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (paper, paper, paper, 255))
        return Image.alpha_composite(background, image).convert("RGB")
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow's own conversion clips at 255, which turns most 16-bit images white.
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image
