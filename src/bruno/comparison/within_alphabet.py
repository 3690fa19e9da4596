"""The within-alphabet task: 20-way one-shot classification among characters of one alphabet.

Lake, Salakhutdinov & Tenenbaum, *Human-level concept learning through probabilistic program
induction*, Science 2015: twenty runs; in each, one drawer gives one example of each of 20
characters of an alphabet, and another drawer one query of each. Upright characters of one alphabet
resemble each other more than those of a random episode.
"""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import Episode
from bruno.errors import MissingDataError, UserError
from bruno.evaluation.streams import Stream
from bruno.seeding import generator_for

RUNS, WAY = 20, 20
IMAGE_SIZE = 28
LISTING = "class_labels.txt"

EVALUATION_ALPHABETS = (
    "Angelic",
    "Atemayar_Qelisayer",
    "Atlantean",
    "Aurek-Besh",
    "Avesta",
    "Ge_ez",
    "Glagolitic",
    "Gurmukhi",
    "Kannada",
    "Keble",
    "Malayalam",
    "Manipuri",
    "Mongolian",
    "Old_Church_Slavonic_(Cyrillic)",
    "Oriya",
    "Sylheti",
    "Syriac_(Serto)",
    "Tengwar",
    "Tibetan",
    "ULOG",
)
"""Alphabets of the evaluation set of Omniglot, from which the official runs are.

The Vinyals split trains on some of them; a system that is measured on the official runs must not.
"""


def alphabet_of(class_name: str) -> str:
    """Return the alphabet of a class named ``"Alphabet/character"``, or nothing.

    Args:
        class_name: Name of a class.
    """
    alphabet, slash, _ = class_name.partition("/")
    return alphabet if slash else ""


def without_evaluation_alphabets(dataset: LabelledImages) -> LabelledImages:
    """Return the classes of a data set whose alphabet is not in the official evaluation set.

    Args:
        dataset: Classes named ``"Alphabet/character"``.

    Raises:
        UserError: If none is left.
    """
    kept = [n for n in dataset.class_names if alphabet_of(n) not in EVALUATION_ALPHABETS]
    return dataset.restrict(kept)


def drawn_runs(dataset: LabelledImages, seed: int = 0, runs: int = RUNS) -> list[Episode]:
    """Draw runs of the task, in turn from every alphabet with at least 20 characters.

    Args:
        dataset: Classes named ``"Alphabet/character"``; image ``d`` of every class is by drawer
            ``d``, as in Omniglot.
        seed: Seed of the choice of characters and drawers.
        runs: Number of runs.

    Returns:
        Episodes of 20 classes, one example and one query each; none if no alphabet is large enough.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(dataset.class_names):
        if alphabet_of(name):
            members[alphabet_of(name)].append(index)
    large = sorted(name for name, classes in members.items() if len(classes) >= WAY)
    drawers = int(dataset.class_sizes.min())
    if not large or drawers < 2:
        return []
    episodes = []
    for run in range(runs):
        generator = generator_for(seed, Stream.COMPARISON, 3, run)
        alphabet = torch.tensor(members[large[run % len(large)]], device="cpu", dtype=torch.int64)
        classes = alphabet[torch.randperm(len(alphabet), generator=generator, device="cpu")[:WAY]]
        first, second = torch.randperm(drawers, generator=generator, device="cpu")[:2].tolist()
        rows = dataset.index_table[classes]
        episodes.append(
            Episode(
                support=dataset.images[rows[:, [first]]],
                query=dataset.images[rows[:, [second]]],
                classes=classes,
            )
        )
    return episodes


def official_runs(path: Path) -> list[Episode]:
    """Read the official runs, as ``all_runs.zip`` or extracted.

    Args:
        path: The archive or folder, which holds ``runNN/class_labels.txt``, whose lines name a
            query and the example of its class, as in
            ``runNN/test/item01.png runNN/training/class01.png``.

    Returns:
        An episode a run, 28 x 28 pixels, ink 255 on 0.

    Raises:
        MissingDataError: If there is no such file or folder.
        UserError: If it does not hold runs, or a file of one is missing or damaged.
    """
    if not path.exists():
        raise MissingDataError(f"lake_runs: {path} not found")
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        return _episodes(path, names, lambda name: (path / name).read_bytes())
    try:
        with zipfile.ZipFile(path) as archive:
            return _episodes(path, archive.namelist(), archive.read)
    except zipfile.BadZipFile as error:
        raise UserError(f"lake_runs: {path} is not a readable zip file ({error})") from None


def _episodes(path: Path, names: list[str], read: Callable[[str], bytes]) -> list[Episode]:
    listings = sorted(name for name in names if name.split("/")[-1] == LISTING)
    if not listings:
        raise UserError(f"lake_runs: {path} holds no runNN/{LISTING}")
    return [_episode(path, listing, read) for listing in listings]


def _episode(path: Path, listing: str, read: Callable[[str], bytes]) -> Episode:
    """Return a run; its names are relative to the folder that holds the folder of the run."""
    folder = listing.removesuffix(LISTING).rstrip("/").rpartition("/")[0]
    root = f"{folder}/" if folder else ""
    try:
        pairs = [line.split() for line in read(listing).decode().splitlines() if line.strip()]
        query = torch.stack([_image(read(root + test)) for test, _ in pairs])
        support = torch.stack([_image(read(root + example)) for _, example in pairs])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"lake_runs: {path}: cannot read {listing} and its images: {error}"
        ) from None
    return Episode(
        support=support.unsqueeze(1),
        query=query.unsqueeze(1),
        classes=torch.arange(len(pairs), device="cpu"),
    )


def _image(content: bytes) -> Tensor:
    with Image.open(io.BytesIO(content)) as drawing:
        ink = ImageOps.invert(drawing.convert("L"))
        scaled = ink.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(scaled, dtype=np.uint8)).unsqueeze(0)
