"""Data sets by name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from bruno.data.remote import FASHION_FILES, MNIST_FILES, OMNIGLOT_FILES, RemoteFile
from bruno.data.turntable import DEFAULT_FILE, FOLDER, load_turntable
from bruno.errors import UserError
from bruno.paths import user_path
from bruno.validation import check_choice


@dataclass(frozen=True)
class DataConfig:
    """The data set and its options.

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
        skip_unreadable: Leave out files that are no readable images, with a warning; for folder
            only.
        context_file: CSV file with a row per image: its ``file``, relative to ``root``, and a
            column for every context feature of a conditional model; for folder only.
        angles: Which of these features are angles in degrees; for folder only.
        seed: Seed of glyphs and blocks, and of the split of the classes of a folder.
        train_classes: Names of the classes to keep for training; all by default.
        val_classes: Names of the classes to keep for validation; all by default.
        test_classes: Names of the classes to keep for testing; all by default.
        drop_context: Leave out the context of the images, to train an unconditional model.
        offline_augmentations: Number of augmented copies of every training image, deformed at its
            full size; for omniglot only.
        train_on_val: Train on the validation classes, too; for a last run, whose length and
            settings were chosen without them: its own validation is then of training classes.
    """

    name: str = "glyphs"
    root: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    channels: Literal["grey", "colour"] = "grey"
    invert: bool = False
    skip_unreadable: bool = False
    context_file: str | None = None
    angles: list[str] | None = None
    seed: int = 0
    train_classes: list[str] | None = None
    val_classes: list[str] | None = None
    test_classes: list[str] | None = None
    drop_context: bool = False
    offline_augmentations: int = 0
    train_on_val: bool = False


def dataset_names() -> tuple[str, ...]:
    """Return the names that :class:`DataConfig` takes."""
    return tuple(SOURCES)


def load_dataset(config: DataConfig | str, split: str) -> LabelledImages:
    """Load one split of a data set.

    Args:
        config: Which data; a name stands for the defaults with that name.
        split: ``"train"``, ``"val"`` or ``"test"``; ``"trainval"`` of omniglot and ``"all"`` of a
            folder too.

    Returns:
        The images of the split.

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
    if config.drop_context:
        dataset = replace(dataset, context=None, context_features=())
    if split == "train" and config.train_on_val:
        dataset = dataset.joined(load_dataset(config, "val"))
    return dataset


def _load(config: DataConfig, split: str) -> LabelledImages:
    check_choice("name", config.name, SOURCES)
    unset = DataConfig()
    for option in sorted(set().union(*(source.options for source in SOURCES.values()))):
        value = getattr(config, option)
        if value != getattr(unset, option) and option not in SOURCES[config.name].options:
            takers = (repr(name) for name, source in SOURCES.items() if option in source.options)
            raise UserError(
                f"{option}: only for the data set {' or '.join(takers)}, got {value!r} with "
                f"{config.name!r}"
            )
    return SOURCES[config.name].load(config, split)


def _load_omniglot(config: DataConfig, split: str) -> LabelledImages:
    offline_augmentations = config.offline_augmentations if split in {"train", "trainval"} else 0
    return load_omniglot(data_directory(config.data_dir), split, offline_augmentations)


def _load_turntable(config: DataConfig, split: str) -> LabelledImages:
    directory = data_directory(config.data_dir)
    file = user_path(config.root) if config.root else directory / FOLDER / DEFAULT_FILE
    return load_turntable(file, split)


def _load_folder(config: DataConfig, split: str) -> LabelledImages:
    if config.root is None:
        raise UserError("root: name a folder with one sub-folder of images per class, got none")
    return load_folder(
        config.root,
        split,
        image_size=DEFAULT_IMAGE_SIZE if config.image_size is None else config.image_size,
        channels=config.channels,
        invert=config.invert,
        skip_unreadable=config.skip_unreadable,
        context_file=config.context_file,
        angles=config.angles or (),
        seed=config.seed,
    )


@dataclass(frozen=True)
class Source:
    """A data set by name.

    Attributes:
        load: Returns one split, given the configuration and the name of the split.
        built_in: Whether it needs no files.
        files: Files that can be downloaded; none where it is built in or the user's own.
        options: Fields of :class:`DataConfig` that only some data sets take, this one among them.
    """

    load: Callable[[DataConfig, str], LabelledImages]
    built_in: bool = False
    files: tuple[RemoteFile, ...] = ()
    options: frozenset[str] = frozenset()


SOURCES = {
    "glyphs": Source(lambda config, split: load_glyphs(split, seed=config.seed), built_in=True),
    "digits": Source(lambda _, split: load_digits(split), built_in=True),
    "blocks": Source(lambda config, split: load_blocks(split, seed=config.seed), built_in=True),
    "omniglot": Source(
        _load_omniglot, files=OMNIGLOT_FILES, options=frozenset({"offline_augmentations"})
    ),
    "mnist": Source(
        lambda config, split: load_mnist(data_directory(config.data_dir), split), files=MNIST_FILES
    ),
    "fashion": Source(
        lambda config, split: load_fashion(data_directory(config.data_dir), split),
        files=FASHION_FILES,
    ),
    "turntable": Source(_load_turntable, options=frozenset({"root"})),
    "folder": Source(
        _load_folder,
        options=frozenset(
            {
                "root",
                "image_size",
                "channels",
                "invert",
                "skip_unreadable",
                "context_file",
                "angles",
            }
        ),
    ),
}
"""Every data set there is."""
