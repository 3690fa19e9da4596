"""The interface that all few-shot systems share, and the embedding systems built on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

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
            UserError: If the system cannot.
        """
        raise UserError(f"observe: {type(self).__name__} cannot add examples; adapt to all of them")

    def forget(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return the predictor as if examples had never been seen.

        Args:
            support: Examples that were seen, uint8 ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.

        Raises:
            UserError: If the system cannot.
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
    if labels.shape != support.shape[:1] or labels.dtype != torch.int64 or not len(labels):
        raise UserError(
            f"labels: expected int64 ({len(support)},), one for every example of at least one, "
            f"got {str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        )
    classes = int(labels.max()) + 1
    if int(labels.min()) < 0 or len(labels.unique()) < classes:
        raise UserError(
            "labels: expected 0..K-1, each at least once, got " + str(labels.unique().tolist())
        )
    if most is not None and classes > most:
        raise UserError(f"labels: this system was trained for up to {most} classes, got {classes}")
    return classes


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


class EmbeddingSystem(System):
    """A system that embeds every image and predicts from embeddings alone."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings of uint8 images, ``(N, C, H, W) -> (N, *F)``."""

    @abstractmethod
    def log_prob(self, query: Tensor, support: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return the log-probability of every class given embeddings, ``(Q, K)``.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            support: Embeddings of the examples, ``(N, *F)``.
            labels: Class of each example, ``(N,)``.
            classes: Number of classes K.
        """

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of the queries of an episode.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """
        support, labels, query, truth = flatten_episode(episode)
        embedded = self.embed(torch.cat([support, query]))
        given, asked = embedded.split([len(support), len(query)])
        return nll_loss(self.log_prob(asked, given, labels, len(episode.support)), truth)

    @torch.no_grad()
    def adapt(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return a predictor that keeps the embedding of every example.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        classes = number_of_classes(support, labels)
        return ExamplePredictor(self, self.embed(support), labels, classes)


@dataclass(frozen=True, eq=False)
class ExamplePredictor(Predictor):
    """Embedded examples, all of which are kept.

    Attributes:
        system: The system.
        examples: Embeddings, ``(N, *F)``.
        labels: Class of each, ``(N,)``.
        classes: Number of classes.
    """

    system: EmbeddingSystem
    examples: Tensor
    labels: Tensor
    classes: int

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The embeddings and labels of the examples."""
        return self.examples, self.labels

    @torch.no_grad()
    def predict_log_prob(self, query: Tensor) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``."""
        embedded = self.system.embed(query)
        return self.system.log_prob(embedded, self.examples, self.labels, self.classes)

    @torch.no_grad()
    def observe(self, support: Tensor, labels: Tensor) -> ExamplePredictor:
        """Return the predictor with further examples kept.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        examples = torch.cat([self.examples, self.system.embed(support)])
        return ExamplePredictor(
            self.system, examples, torch.cat([self.labels, labels]), self.classes
        )


class MeanSystem(EmbeddingSystem):
    """An embedding system that represents a class by the mean of its examples."""

    @abstractmethod
    def log_prob_given_means(self, query: Tensor, means: Tensor) -> Tensor:
        """Return the log-probabilities of classes ``(Q, K)`` given their means ``(K, *F)``.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            means: Mean embedding of every class, ``(K, *F)``.
        """

    def log_prob(self, query: Tensor, support: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return the log-probabilities of the classes given the embeddings of examples.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            support: Embeddings of the examples, ``(N, *F)``.
            labels: Class of each example, ``(N,)``.
            classes: Number of classes K.
        """
        sums, counts = _class_sums(support, labels, classes)
        return self.log_prob_given_means(query, _means(sums, counts, support.dtype))

    @torch.no_grad()
    def adapt(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return a predictor that keeps the sum of the embeddings of every class.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        classes = number_of_classes(support, labels)
        return MeanPredictor(self, *_class_sums(self.embed(support), labels, classes))


@dataclass(frozen=True, eq=False)
class MeanPredictor(Predictor):
    """Sums of embeddings, in double precision so that forgetting leaves no trace.

    Attributes:
        system: The system.
        sums: Sum of the embeddings of every class, float64 ``(K, *F)``.
        counts: Number of its examples, float64 ``(K,)``.
    """

    system: MeanSystem
    sums: Tensor
    counts: Tensor

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Sums and counts."""
        return self.sums, self.counts

    @torch.no_grad()
    def predict_log_prob(self, query: Tensor) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``."""
        embedded = self.system.embed(query)
        means = _means(self.sums, self.counts, embedded.dtype)
        return self.system.log_prob_given_means(embedded, means)

    @torch.no_grad()
    def observe(self, support: Tensor, labels: Tensor) -> MeanPredictor:
        """Return the predictor after further examples.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        sums, counts = _class_sums(self.system.embed(support), labels, len(self.counts))
        return MeanPredictor(self.system, self.sums + sums, self.counts + counts)

    @torch.no_grad()
    def forget(self, support: Tensor, labels: Tensor) -> MeanPredictor:
        """Return the predictor without some of its examples.

        Args:
            support: uint8 images that were seen, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.

        Raises:
            UserError: If a class would be left without any.
        """
        sums, counts = _class_sums(self.system.embed(support), labels, len(self.counts))
        if bool((self.counts - counts < 1).any()):
            raise UserError("forget: expected at least one example left of every class")
        return MeanPredictor(self.system, self.sums - sums, self.counts - counts)


def _class_sums(embedded: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    values = embedded.double()
    sums = values.new_zeros(classes, *values.shape[1:]).index_add(0, labels, values)
    return sums, torch.bincount(labels, minlength=classes).double()


def _means(sums: Tensor, counts: Tensor, dtype: torch.dtype) -> Tensor:
    return (sums / counts.view(-1, *[1] * (sums.ndim - 1))).to(dtype)
