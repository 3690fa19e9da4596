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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import Episode
from bruno.errors import MissingDataError, UserError
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.scoring import is_correct
from bruno.evaluation.streams import Stream
from bruno.few_shot import classify
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for

RUNS, WAY = 20, 20
IMAGE_SIZE = 28
LISTING = "class_labels.txt"
PEOPLE = 95.5
"""Accuracy of people on the official runs, in per cent (Lake et al. 2015)."""

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


@dataclass(frozen=True)
class WithinAlphabetResult:
    """Accuracy in the within-alphabet task.

    Attributes:
        dataset: Data set and split, such as ``"omniglot/test"``.
        official: Whether the runs are those of Lake et al.; otherwise they are drawn in the same
            way from the characters of the data set.
        accuracy: Mean over the runs, in per cent, with the interval over runs.
        cross_entropy: Mean of −log p(true class | query), in nats; chance is log(20).
        by_run: Accuracy of every run, in per cent.
        seed: Seed of drawn runs.
    """

    dataset: str
    official: bool
    accuracy: Estimate
    cross_entropy: Estimate
    by_run: tuple[float, ...]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return self.__dict__ | {
            "accuracy": self.accuracy.to_dict(),
            "cross_entropy": self.cross_entropy.to_dict(),
            "by_run": list(self.by_run),
        }

    def rows(self) -> list[list[str]]:
        """Return the runs; per cent right of the model, by chance and by people; the extremes."""
        kind = "official" if self.official else "drawn"
        levels = [f"{self.accuracy}", f"{100 / WAY:.0f}", f"{PEOPLE}"]
        extremes = [f"{min(self.by_run):.0f}", f"{max(self.by_run):.0f}"]
        return [[f"{len(self.by_run)} {kind}", *levels, *extremes]]


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


def large_alphabets(dataset: LabelledImages) -> dict[str, list[int]]:
    """Return the classes of every alphabet with at least 20 characters, by its name, sorted.

    Args:
        dataset: Classes named ``"Alphabet/character"``; others are of no alphabet.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(dataset.class_names):
        if alphabet_of(name):
            members[alphabet_of(name)].append(index)
    return {name: members[name] for name in sorted(members) if len(members[name]) >= WAY}


def within_alphabet_accuracy(
    model: Bruno,
    dataset: LabelledImages,
    *,
    lake_runs: Path | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> WithinAlphabetResult:
    """Measure 20-way one-shot accuracy among characters of one alphabet.

    A decision is right only if the true class scores strictly higher than every other.

    Args:
        model: A model without context.
        dataset: Classes named ``"Alphabet/character"`` that it was not trained on; see
            :func:`drawn_runs`.
        lake_runs: The official runs of Lake et al., ``all_runs.zip`` or extracted, in place of
            runs drawn from ``dataset``. They are from :data:`EVALUATION_ALPHABETS`.
        seed: Seed of drawn runs.
        progress: Told the number of runs done.

    Returns:
        Accuracy and cross-entropy, with intervals clustered by run.

    Raises:
        UserError: If no alphabet has 20 characters of at least two images each, the official runs
            cannot be read, or the model does not take their images.
    """
    episodes = drawn_runs(dataset, seed) if lake_runs is None else official_runs(lake_runs)
    if not episodes:
        raise UserError(
            f"data: expected an alphabet with at least {WAY} characters of two images each, "
            f"{dataset.name}/{dataset.split} has none"
        )
    log_posteriors = []
    for index, episode in enumerate(episodes):
        log_posteriors.append(_true_class_first(model, episode))
        if progress is not None:
            progress("runs within an alphabet", index + 1, len(episodes))
    return _summarised(log_posteriors, dataset, lake_runs is not None, seed)


def _true_class_first(model: Bruno, episode: Episode) -> Tensor:
    """Return log p(class | query) of every query, ``(way, way)``, its own class in column 0."""
    way = torch.arange(len(episode.classes), device="cpu")
    log_p, _ = classify(model, episode.support[:, 0], way, episode.query[:, 0])
    columns = (way.unsqueeze(1) + way) % len(way)
    return log_p.cpu().gather(1, columns)


def _summarised(
    log_posteriors: Sequence[Tensor], dataset: LabelledImages, official: bool, seed: int
) -> WithinAlphabetResult:
    by_run = [100.0 * is_correct(one) for one in log_posteriors]
    sizes = torch.tensor([len(one) for one in log_posteriors], device="cpu", dtype=torch.int64)
    runs = torch.arange(len(sizes), device="cpu").repeat_interleave(sizes)
    return WithinAlphabetResult(
        dataset=f"{dataset.name}/{dataset.split}",
        official=official,
        accuracy=estimate(torch.cat(by_run), runs),
        cross_entropy=estimate(torch.cat([-one[:, 0] for one in log_posteriors]), runs),
        by_run=tuple(float(one.mean()) for one in by_run),
        seed=seed,
    )


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
    large = list(large_alphabets(dataset).values())
    drawers = int(dataset.class_sizes.min())
    if not large or drawers < 2:
        return []
    episodes = []
    for run in range(runs):
        generator = generator_for(seed, Stream.COMPARISON, 3, run)
        alphabet = torch.tensor(large[run % len(large)], device="cpu", dtype=torch.int64)
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
