"""The interface that all few-shot systems share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bruno.data.dataset import LabelledImages
from bruno.data.sets import Episode, sample_episode
from bruno.errors import UserError


@dataclass(frozen=True)
class Abilities:
    """Abilities of a system beyond the class of a query.

    Attributes:
        density: Exact densities of images given a few examples.
        sampling: Images drawn given a few examples.
        streaming: Examples are added one by one, at a cost independent of how many were seen.
        forgetting: Examples are removed as if they had never been seen.
        order_invariant: Predictions do not depend on the order of the examples, but for rounding.
        any_way: Any number of classes, also more than in training.
    """

    density: bool = False
    sampling: bool = False
    streaming: bool = False
    forgetting: bool = False
    order_invariant: bool = True
    any_way: bool = True


@dataclass(frozen=True)
class EpisodePlan:
    """Training episodes of a system; lists are cycled through from step to step.

    Attributes:
        ways: Numbers of classes.
        shots: Numbers of examples of each class.
        queries: Queries of each class.
        tasks: Episodes over which the gradient of a step is averaged.
    """

    ways: tuple[int, ...] = (20,)
    shots: tuple[int, ...] = (1,)
    queries: int = 5
    tasks: int = 1


class Predictor(ABC):
    """A system after it has seen a few labelled examples of each of K classes. Immutable."""

    @property
    @abstractmethod
    def state(self) -> tuple[Tensor, ...]:
        """The tensors that hold all that was learnt from the examples."""

    @abstractmethod
    def predict_log_prob(self, query: Tensor) -> Tensor:
        """Return the log-probability of every class, in nats.

        Args:
            query: uint8 images, ``(Q, C, H, W)``.

        Returns:
            ``(Q, K)``; no query has an influence on another.
        """

    def observe(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return the predictor after further examples of the same classes.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)`` in 0..K−1.

        Raises:
            UserError: If the system cannot, or a label is another.
        """
        raise UserError(f"observe: {type(self).__name__} cannot add examples; adapt to all of them")

    def forget(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return the predictor as if examples had never been seen.

        Args:
            support: Examples that were seen, uint8 ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)`` in 0..K−1.

        Raises:
            UserError: If the system cannot, or a label is another.
        """
        raise UserError(f"forget: {type(self).__name__} cannot remove examples; adapt to the rest")


class System(nn.Module, ABC):
    """A few-shot system: a network to meta-train, which then adapts to tasks of new classes.

    Args:
        event_shape: Shape ``(C, H, W)`` of an image.
        num_classes: Number of training classes, for systems that classify them.
    """

    title: ClassVar[str]
    abilities: ClassVar[Abilities] = Abilities()
    plan: ClassVar[EpisodePlan] = EpisodePlan()
    learning_rate: ClassVar[float] = 1e-3
    warmup_steps: ClassVar[int] = 0

    def __init__(self, event_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.event_shape, self.num_classes = tuple(event_shape), num_classes

    @abstractmethod
    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the loss of a training episode, a scalar.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """

    @abstractmethod
    def adapt(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return a predictor from labelled examples of new classes.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``: 0..K−1, each at least once.

        Raises:
            UserError: If the labels are others, or too many for the system.
        """

    def draw(self, dataset: LabelledImages, step: int, generator: torch.Generator) -> Episode:
        """Return the training episode of a step.

        Args:
            dataset: Training classes; each is also learnt in three rotations.
            step: The step, from 0.
            generator: Source of randomness.

        Raises:
            UserError: If the classes have too few images.
        """
        plan = self.plan
        way = plan.ways[step % len(plan.ways)]
        shot = plan.shots[step // len(plan.ways) % len(plan.shots)]
        way = min(way, dataset.num_classes)
        return sample_episode(dataset, way, shot, plan.queries, generator, rotations=True)

    def optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser of the meta-training at its peak learning rate."""
        return torch.optim.Adam(self.parameters(), self.learning_rate)

    def prepare(self, dataset: LabelledImages, generator: torch.Generator) -> None:
        """Initialise what depends on the training data; most systems have nothing that does.

        Args:
            dataset: Training classes.
            generator: Source of randomness.
        """

    def after_step(self, step: int) -> None:
        """Update what is not updated by the gradient, after a step.

        Args:
            step: Steps done.
        """


def number_of_classes(support: Tensor, labels: Tensor, most: int | None = None) -> int:
    """Return the number of classes K of a support set.

    Args:
        support: Examples, ``(N, ...)``.
        labels: Class of each, int64 ``(N,)``.
        most: Largest number of classes that the system takes, if it has one.

    Raises:
        UserError: If the labels are not 0..K−1, each at least once, or there are too many.
    """
    _check_shape(support, labels)
    classes = int(labels.max()) + 1
    if int(labels.min()) < 0 or len(labels.unique()) < classes:
        raise UserError(
            "labels: expected 0..K-1, each at least once, got " + str(labels.unique().tolist())
        )
    if most is not None and classes > most:
        raise UserError(f"labels: this system was trained for up to {most} classes, got {classes}")
    return classes


def check_further(support: Tensor, labels: Tensor, classes: int) -> None:
    """Raise if further examples are not of the classes of a predictor.

    Args:
        support: Examples, ``(N, ...)``.
        labels: Class of each, int64 ``(N,)``.
        classes: Number of classes K.

    Raises:
        UserError: If a label is not one of 0..K−1, or there is not one for every example.
    """
    _check_shape(support, labels)
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(
            f"labels: expected 0..{classes - 1}, the classes adapted to, got "
            f"{labels.unique().tolist()}"
        )


def _check_shape(support: Tensor, labels: Tensor) -> None:
    if labels.shape != support.shape[:1] or labels.dtype != torch.int64 or not len(labels):
        raise UserError(
            f"labels: expected int64 ({len(support)},), one for every example of at least one, "
            f"got {str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        )


def flatten_episode(episode: Episode) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return support, its labels, queries and their labels: an image of every class in turn.

    Args:
        episode: The episode.

    Returns:
        Images ``(n·K, C, H, W)``, labels ``(n·K,)``, images ``(q·K, C, H, W)``, labels ``(q·K,)``.
    """
    classes = torch.arange(len(episode.support), device=episode.support.device)
    return (
        episode.support.transpose(0, 1).flatten(0, 1),
        classes.repeat(episode.support.shape[1]),
        episode.query.transpose(0, 1).flatten(0, 1),
        classes.repeat(episode.query.shape[1]),
    )
