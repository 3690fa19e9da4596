"""Data sets by name."""

from dataclasses import dataclass
from typing import Literal

from bruno.data.dataset import LabelledImages
from bruno.data.digits import load_digits
from bruno.data.folder import DEFAULT_IMAGE_SIZE, load_folder
from bruno.data.glyphs import load_glyphs
from bruno.data.idx import load_fashion, load_mnist
from bruno.data.locations import data_directory
from bruno.data.omniglot import load_omniglot
from bruno.errors import UserError

_NAMES = ("glyphs", "digits", "omniglot", "mnist", "fashion", "folder")
_ON_DISK = {"omniglot": load_omniglot, "mnist": load_mnist, "fashion": load_fashion}


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from.

    Attributes:
        name: Data set: glyphs, digits (both built in), omniglot, mnist, fashion (after
            ``bruno download``) or folder (your own images).
        root: Folder with one sub-folder of images per class; for folder only.
        data_dir: Folder that holds the downloaded data sets; by default that of the environment
            variable BRUNO_DATA_DIR, or the user's data folder.
        image_size: Height and width to bring images to, in pixels, 28 by default; for folder only.
        channels: Grey or colour images; for folder only.
        invert: Turn dark ink on white paper into bright ink on black; for folder only.
        skip_bad: Leave out files that are no readable images, with a warning; for folder only.
        seed: Seed of the drawings of glyphs, and of the split of the classes of a folder.
        train_classes: Names of the classes to keep for training; all by default.
        val_classes: Names of the classes to keep for validation; all by default.
        test_classes: Names of the classes to keep for testing; all by default.
    """

    name: str = "glyphs"
    root: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    channels: Literal["grey", "colour"] = "grey"
    invert: bool = False
    skip_bad: bool = False
    seed: int = 0
    train_classes: list[str] | None = None
    val_classes: list[str] | None = None
    test_classes: list[str] | None = None


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
    return dataset if chosen is None else dataset.restrict(chosen)


def _load(config: DataConfig, split: str) -> LabelledImages:
    if config.name not in _NAMES:
        raise UserError(f"name: expected one of {', '.join(_NAMES)}, got {config.name!r}")
    if config.name == "folder":
        return _load_folder(config, split)
    _check_folder_options_unused(config)
    if config.name == "glyphs":
        return load_glyphs(split, seed=config.seed)
    if config.name == "digits":
        return load_digits(split)
    return _ON_DISK[config.name](data_directory(config.data_dir), split)


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
        seed=config.seed,
    )


def _check_folder_options_unused(config: DataConfig) -> None:
    unset = DataConfig(name=config.name)
    for option in ("root", "image_size", "channels", "invert", "skip_bad"):
        if getattr(config, option) != getattr(unset, option):
            raise UserError(
                f"{option}: only for the data set 'folder', got "
                f"{getattr(config, option)!r} with {config.name!r}"
            )
