"""Systems that embed every image: their predictors keep the embeddings, or the mean of a class."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from bruno.baselines.interface import (
    Predictor,
    System,
    check_further,
    flatten_episode,
    number_of_classes,
)
from bruno.data.sets import Episode
from bruno.errors import UserError


class EmbeddingSystem(System):
    """A system that embeds every image and predicts from embeddings alone.

    Attributes:
        encoder: The network that embeds, in systems that do not override :meth:`embed`.
    """

    encoder: nn.Module

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings of uint8 images, ``(N, C, H, W) -> (N, *F)``."""
        embedded: Tensor = self.encoder(images)
        return embedded

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
        check_further(support, labels, self.classes)
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
        sums, counts = self._sums_of(support, labels)
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
        sums, counts = self._sums_of(support, labels)
        if bool((self.counts - counts < 1).any()):
            raise UserError("forget: expected at least one example left of every class")
        return MeanPredictor(self.system, self.sums - sums, self.counts - counts)

    def _sums_of(self, support: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        check_further(support, labels, len(self.counts))
        return _class_sums(self.system.embed(support), labels, len(self.counts))


def _class_sums(embedded: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    values = embedded.double()
    sums = values.new_zeros(classes, *values.shape[1:]).index_add(0, labels, values)
    return sums, torch.bincount(labels, minlength=classes).double()


def _means(sums: Tensor, counts: Tensor, dtype: torch.dtype) -> Tensor:
    return (sums / counts.view(-1, *[1] * (sums.ndim - 1))).to(dtype)
