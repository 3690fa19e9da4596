"""Subjects and settings of evaluation protocols, and the form of their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bruno.data.dataset import LabelledImages
from bruno.evaluation.generation import Judge
from bruno.model import Bruno
from bruno.validation import check_counts, check_whole


class Result(Protocol):
    """Result of a protocol: figures for programs and rows of a table for people."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""

    def rows(self) -> list[list[str]]:
        """Return rows of text below the header of the protocol."""


@dataclass(frozen=True)
class Subject:
    """The model that is measured, its data and its competitors.

    Attributes:
        model: The model.
        dataset: Images of classes it was not trained on.
        training: The images it was trained on, for competitors of conditional models; ``None``
            leaves these out.
        unconditional: A model of the same images without context, as a competitor.
        judge: Names samples; needed for generation.
    """

    model: Bruno
    dataset: LabelledImages
    training: LabelledImages | None = None
    unconditional: Bruno | None = None
    judge: Judge | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether the model takes a context."""
        return self.model.flow.context_dim > 0


@dataclass(frozen=True)
class Settings:
    """Settings of the protocols.

    Attributes:
        ways: Numbers of classes to choose from; by default 5 and 20, if there are enough classes.
        shots: Numbers of examples per class; by default 1 and 5, if there are enough images.
        trials: How often every class is queried.
        rotations: Count each class in four rotations, in few-shot classification.
        average_rotations: Average posteriors over rotations of query and support together there.
        lake_runs: Official runs of the within-alphabet task, ``all_runs.zip`` or extracted; by
            default runs are drawn from the data.
        set_size: Images in a set; by default 20, or fewer where the smallest class has fewer.
        sets_per_class: Number of sets of every class whose likelihood is measured.
        importance_samples: Noise draws of the importance-weighted likelihood; 0 leaves it out.
        probes: Measure the likelihood of unusual sets, too.
        judged_episodes: Episodes of 20 classes whose samples are judged.
        streams: Streams whose anomalies are detected; classes take turns.
        view_samples: Samples of a new view that its mean picture is the mean of.
        seed: Seed of sets, episodes and noise.

    Raises:
        UserError: If a number is out of its range.
    """

    ways: tuple[int, ...] | None = None
    shots: tuple[int, ...] | None = None
    trials: int = 20
    rotations: bool = False
    average_rotations: bool = False
    lake_runs: str | None = None
    set_size: int | None = None
    sets_per_class: int = 1
    importance_samples: int = 0
    probes: bool = False
    streams: int = 200
    view_samples: int = 64
    judged_episodes: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"ways": 2, "shots": 1}.items():
            if getattr(self, name) is not None:
                check_counts(name, getattr(self, name), least)
        if self.set_size is not None:
            check_whole("set_size", self.set_size, 1)
        least_of = {"trials": 1, "sets_per_class": 1, "streams": 1, "view_samples": 1}
        least_of |= {"judged_episodes": 1, "importance_samples": 0, "seed": 0}
        for name, least in least_of.items():
            check_whole(name, getattr(self, name), least)
