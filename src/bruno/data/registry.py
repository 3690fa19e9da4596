"""Data sets by name."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bruno.data.blocks import load_blocks
from bruno.data.dataset import LabelledImages
from bruno.data.digits import load_digits
from bruno.data.folder import load_folder
from bruno.data.glyphs import load_glyphs
from bruno.data.idx import load_fashion, load_mnist
from bruno.data.image_file import DEFAULT_IMAGE_SIZE
from bruno.data.locations import data_directory
from bruno.data.omniglot import load_omniglot
from bruno.data.turntable import DEFAULT_FILE, FOLDER, load_turntable
from bruno.errors import UserError

_NAMES = ("glyphs", "digits", "blocks", "omniglot", "mnist", "fashion", "turntable", "folder")
_ON_DISK = {"mnist": load_mnist, "fashion": load_fashion}


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from.

    Attributes:
        name: Data set: glyphs, digits, blocks (built in), omniglot, mnist, fashion (after
            ``bruno download``), turntable (an archive of views) or folder (your own images).
        root: Folder with one sub-folder of images per class, for folder; archive of views, for
            turntable.
        data_dir: Folder that holds the downloaded data sets; by default that of the environment
            variable BRUNO_DATA_DIR, or the user's data folder.
        image_size: Height and width to bring images to, in pixels, 28 by default; for folder only.
        channels: Grey or colour images; for folder only.
        invert: Turn dark ink on white paper into bright ink on black; for folder only.
        skip_bad: Leave out files that are no readable images, with a warning; for folder only.
        labels: CSV file with a row per image: its ``file``, relative to ``root``, and a column for
            every label a conditional model is told; for folder only.
        angles: Which of these labels are angles in degrees; for folder only.
        seed: Seed of glyphs and blocks, and of the split of the classes of a folder.
        train_classes: Names of the classes to keep for training; all by default.
        val_classes: Names of the classes to keep for validation; all by default.
        test_classes: Names of the classes to keep for testing; all by default.
        unlabelled: Leave out what a conditional model would be told, for an unconditional one.
        redrawings: Versions of every training image, deformed at its full size; for omniglot only.
        also: Other data sets whose training classes are learnt from too, such as glyphs.
        learn_val: Learn from the validation classes too; for a last run, whose length and settings
            were chosen without them: its own validation is then of classes it has seen.
    """

    name: str = "glyphs"
    root: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    channels: Literal["grey", "colour"] = "grey"
    invert: bool = False
    skip_bad: bool = False
    labels: str | None = None
    angles: list[str] | None = None
    seed: int = 0
    train_classes: list[str] | None = None
    val_classes: list[str] | None = None
    test_classes: list[str] | None = None
    unlabelled: bool = False
    redrawings: int = 0
    also: list[str] | None = None
    learn_val: bool = False


def dataset_names() -> tuple[str, ...]:
    """Return the names that :class:`DataConfig` knows."""
    return _NAMES


def load_dataset(config: DataConfig | str, split: str) -> LabelledImages:
    """Load one split of a data set.

    Args:
        config: Which data; a name stands for the defaults with that name.
        split: ``"train"``, ``"val"`` or ``"test"``; ``"trainval"`` of omniglot and ``"all"`` of a
            folder too.

    Raises:
        MissingDataError: If its files are not on this machine.
        UserError: If the data set, the split or a class is unknown, an option does not belong to
            the data set, or a file is damaged.
    """
    if isinstance(config, str):
        config = DataConfig(name=config)
    dataset = _load(config, split)
    chosen = {
        "train": config.train_classes,
        "val": config.val_classes,
        "test": config.test_classes,
    }.get(split)
    if chosen is not None:
        dataset = dataset.restrict(chosen)
    if config.unlabelled:
        dataset = replace(dataset, context=None, context_labels=())
    if split == "train":
        if config.learn_val:
            dataset = dataset.joined(load_dataset(config, "val"))
        for name in config.also or ():
            dataset = dataset.joined(_load(DataConfig(name, data_dir=config.data_dir), split))
    return dataset


def _load(config: DataConfig, split: str) -> LabelledImages:
    if config.name not in _NAMES:
        raise UserError(f"name: expected one of {', '.join(_NAMES)}, got {config.name!r}")
    if config.name == "folder":
        return _load_folder(config, split)
    _check_folder_options_unused(config)
    if config.redrawings and config.name != "omniglot":
        raise UserError(
            f"redrawings: only for the data set 'omniglot', got {config.redrawings} with "
            f"{config.name!r}"
        )
    if config.name == "glyphs":
        return load_glyphs(split, seed=config.seed)
    if config.name == "digits":
        return load_digits(split)
    if config.name == "blocks":
        return load_blocks(split, seed=config.seed)
    directory = data_directory(config.data_dir)
    if config.name == "turntable":
        file = Path(config.root) if config.root else directory / FOLDER / DEFAULT_FILE
        return load_turntable(file.expanduser(), split)
    if config.name == "omniglot":
        redrawings = config.redrawings if split in {"train", "trainval"} else 0
        return load_omniglot(directory, split, redrawings)
    return _ON_DISK[config.name](directory, split)


def _load_folder(config: DataConfig, split: str) -> LabelledImages:
    if config.root is None:
        raise UserError("root: name a folder with one sub-folder of images per class, got none")
    return load_folder(
        config.root,
        split,
        image_size=DEFAULT_IMAGE_SIZE if config.image_size is None else config.image_size,
        channels=config.channels,
        invert=config.invert,
        skip_bad=config.skip_bad,
        labels=config.labels,
        angles=config.angles or (),
        seed=config.seed,
    )


def _check_folder_options_unused(config: DataConfig) -> None:
    unset = DataConfig(name=config.name)
    for option in ("root", "image_size", "channels", "invert", "skip_bad", "labels", "angles"):
        if option == "root" and config.name == "turntable":
            continue
        if getattr(config, option) != getattr(unset, option):
            raise UserError(
                f"{option}: only for the data set 'folder', got "
                f"{getattr(config, option)!r} with {config.name!r}"
            )
