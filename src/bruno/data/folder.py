"""A folder of images: one sub-folder per class, for data of one's own."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bruno.data.cache import Arrays, cached_arrays, file_identity
from bruno.data.context import ContextFeature, encode_context, read_context_file
from bruno.data.dataset import SPLITS, LabelledImages, check_split
from bruno.data.image_file import (
    DEFAULT_IMAGE_SIZE,
    Channels,
    UnreadableImageError,
    check_options,
    decode,
    paper_warning,
)
from bruno.data.scans import SCANS_VERSION, ScanOptions, UnpreparableScanError
from bruno.errors import MissingDataError, UserError
from bruno.paths import user_path
from bruno.pixels import check_levels
from bruno.progress import track
from bruno.seeding import generator_for
from bruno.validation import check_whole

LOADER_VERSION = 3
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}

_MOST_SHOWN = 10
# Files that systems put into folders of images, besides those whose names begin with a dot.
_SYSTEM_FILES = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
# Pillow also lists documents and data of other kinds that may well lie beside images.
_NO_IMAGES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF"})


def load_folder(
    root: str | Path,
    split: str = "all",
    *,
    image_size: int = DEFAULT_IMAGE_SIZE,
    channels: Channels = "grey",
    invert: bool = False,
    skip_unreadable: bool = False,
    context_file: str | Path | None = None,
    angles: Sequence[str] = (),
    seed: int = 0,
    prepare: ScanOptions | None = None,
) -> LabelledImages:
    """Load a folder with one sub-folder of images per class.

    If the folder has a sub-folder ``train``, ``val`` or ``test``, these are the splits and the
    class folders are inside them. Otherwise 70 % of the classes are for training, 10 % for
    validation and 20 % for testing. Hidden files and folders, whose names begin with a dot, and
    those that systems make (such as ``Thumbs.db`` and ``__MACOSX``) are left out. Every image must
    be in a class folder itself: one in a folder further down, or beside the class folders, is an
    error. Images are read as :func:`~bruno.data.image_file.load_image` does.

    Args:
        root: The folder.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` of them.
        image_size: Height and width to bring every image to, in pixels.
        channels: ``"grey"`` or ``"colour"``.
        invert: Turn dark ink on white paper into bright ink on black.
        skip_unreadable: Leave out files that are no readable images, with a warning, instead of
            failing.
        context_file: CSV file with a header and a row for every image: a column ``file``, the path
            relative to ``root``, and one for every context feature.
        angles: Which of these features are angles in degrees.
        seed: Seed of the split of the classes.
        prepare: Prepare every image as a scan of handwriting, as
            :func:`~bruno.data.image_file.load_image` does.

    Returns:
        Images uint8 ``(N, 1 or 3, image_size, image_size)``, classes in alphabetical order.

    Raises:
        MissingDataError: If the folder or the split is not there.
        UserError: If it is not a folder, holds no class folders or no images, has too few classes
            to split, images outside of class folders, unreadable files, or only masks of 0 and 1;
            if an image has no row or a value that is no number; or if an option is not as above.
    """
    root = user_path(root, "root")
    check_split("folder", split, (*SPLITS, "all"))
    check_options(image_size, channels, invert, prepare)
    check_whole("seed", seed, 0)
    if angles and context_file is None:
        raise UserError("angles: expected a context_file to name columns of, got none")
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
            skip_unreadable,
            # Links: classes may change while the files that they lead to stay the same.
            {name: [_relative(path, root) for path in paths] for name, paths in files.items()},
            file_identity(path for paths in files.values() for path in paths),
            *([SCANS_VERSION, asdict(prepare)] if prepare else []),
        ],
        lambda: _decode(root, files, image_size, channels, invert, skip_unreadable, prepare),
    )
    bad = arrays["bad"].tolist()
    if bad:
        warnings.warn(
            f"folder: {root}: left out {_listing(bad, 'unreadable images')}", stacklevel=2
        )
    on_other_paper = arrays["on_other_paper"].tolist()
    if on_other_paper:
        named = f"folder: {root}: {_listing(on_other_paper, 'images')}"
        warnings.warn(paper_warning(named, invert), stacklevel=2)
    known: tuple[ContextFeature, ...] = ()
    context = None
    if context_file is not None:
        names = [_relative(path, root) for paths in files.values() for path in paths]
        kept = [name for name in names if name not in bad]
        known, values = read_context_file(user_path(context_file, "context_file"), angles, kept)
        context = encode_context(known, values)
    images = torch.from_numpy(arrays["images"])
    check_levels("root", images)
    return LabelledImages(
        images=images,
        labels=torch.from_numpy(arrays["labels"]),
        class_names=tuple(arrays["class_names"].tolist()),
        name="folder",
        split=split,
        context=context,
        context_features=known,
    )


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _list_files(root: Path, split: str, seed: int) -> dict[str, list[Path]]:
    """Return the files of every class of a split."""
    if not root.exists():
        raise MissingDataError(f"root: {root} not found")
    if not root.is_dir():
        raise UserError(f"root: expected a folder with one sub-folder per class, {root} is a file")
    given = [name for name in SPLITS if (root / name).is_dir()]
    if not given:
        classes = _class_folders(root)
        _check_places(root, given)
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
    _check_places(root, given)
    return dict(sorted(files.items()))


def _class_folders(root: Path) -> dict[str, list[Path]]:
    classes = {}
    for folder in data_in(root):
        if folder.is_dir():
            files = [path for path in data_in(folder) if path.is_file()]
            if not files and not any(_images_below(folder)):
                raise UserError(f"root: class folder {folder} holds no images")
            classes[folder.name] = files
    if not classes:
        raise UserError(f"root: expected one sub-folder of images per class, {root} has none")
    return classes


def data_in(folder: Path) -> list[Path]:
    """Return the content of a folder, in alphabetical order, without hidden and system files."""
    return sorted(path for path in folder.iterdir() if is_data(path.name))


def is_data(name: str) -> bool:
    """Return whether a file or folder of this name is neither hidden nor one of a system."""
    return not name.startswith(".") and name.lower() not in _SYSTEM_FILES


def _check_places(root: Path, splits: Sequence[str]) -> None:
    """Raise if there are images anywhere but in class folders, where nothing would read them."""
    names = [path.relative_to(root) for path in _images_below(root)]
    depth = 3 if splits else 2
    misplaced = sorted(
        name.as_posix()
        for name in names
        if len(name.parts) != depth or (splits and name.parts[0] not in splits)
    )
    if misplaced:
        place = f"{{{','.join(splits)}}}/CLASS/IMAGE" if splits else "CLASS/IMAGE"
        raise UserError(
            f"root: expected every image of {root} as {place}, got "
            f"{_listing(misplaced, 'images elsewhere')}"
        )


def _images_below(folder: Path) -> Iterator[Path]:
    """Return all files in and below a folder whose names are those of images."""
    extensions = {
        extension
        for extension, kind in Image.registered_extensions().items()
        if kind not in _NO_IMAGES
    }
    entered: set[str] = set()  # for links may lead in a circle
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if is_data(name) and real not in entered]
        entered.add(real)
        for name in files:
            if is_data(name) and Path(name).suffix.lower() in extensions:
                yield Path(place, name)


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
    order = torch.randperm(len(names), generator=generator_for(seed), device="cpu").tolist()
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
    skip_unreadable: bool,
    prepare: ScanOptions | None,
) -> Arrays:
    images, labels, on_other_paper = [], [], []
    bad: dict[str, str] = {}
    listed = [(label, path) for label, paths in enumerate(files.values()) for path in paths]
    for label, path in track(listed, "Decoding images"):
        try:
            image = decode(path, image_size, channels, invert, prepare)
        except UnpreparableScanError as error:
            bad[_relative(path, root)] = error.reason
            continue
        except UnreadableImageError as error:
            bad[_relative(path, root)] = str(error)
            continue
        images.append(image.pixels)
        labels.append(label)
        if image.other_paper:
            on_other_paper.append(_relative(path, root))
    if bad and not skip_unreadable:
        reason = next(iter(bad.values()))
        raise UserError(
            f"root: {root} has {_listing(list(bad), 'unreadable images')}; remove them, or set "
            f"skip_unreadable to leave them out (the first: {reason})"
        )
    empty = [name for label, name in enumerate(files) if label not in set(labels)]
    if empty:
        raise UserError(f"root: no readable image in the class folders {', '.join(empty)}")
    return {
        "images": np.stack(images),
        "labels": np.array(labels, dtype=np.int64),
        "class_names": np.array(list(files)),
        "bad": np.array(list(bad), dtype=np.str_),
        "on_other_paper": np.array(on_other_paper, dtype=np.str_),
    }


def _listing(names: Sequence[str], kind: str) -> str:
    shown = ", ".join(names[:_MOST_SHOWN])
    more = len(names) - _MOST_SHOWN
    return f"{len(names)} {kind}: {shown}" + (f" and {more} more" if more > 0 else "")
