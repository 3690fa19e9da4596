r"""Baseline classifier: features of a classifier of the training classes.

No episode is seen in training. A new class is recognised by the nearest example in feature space
(the *baseline classifier* of Vinyals et al. 2016), or by a linear layer that is fitted to the
features of the examples (*Baseline* of Chen, Liu, Kira, Wang & Huang, *A Closer Look at Few-shot
Classification*, ICLR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from bruno.baselines.embedding import EmbeddingSystem
from bruno.baselines.encoder import Conv4
from bruno.baselines.interface import Abilities, EpisodePlan, Predictor, number_of_classes
from bruno.data.dataset import LabelledImages
from bruno.data.sets import Episode, rotate, sample_sets
from bruno.errors import UserError
from bruno.flows.bijection import FACTORY_KWARGS

_CLASSES, _IMAGES = 60, 5
_COSINE_SCALE = 10.0
_FIT_STEPS, _FIT_RATE, _WEIGHT_DECAY = 50, 0.05, 1e-3


class NearestNeighbourClassifier(EmbeddingSystem):
    """Features of a classifier, and the class of the nearest example by the cosine.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes; each is learnt in four rotations.

    Raises:
        UserError: If there is no training class.
    """

    title: ClassVar[str] = "Baseline classifier (nearest neighbour)"
    abilities: ClassVar[Abilities] = Abilities(streaming=True)
    plan: ClassVar[EpisodePlan] = EpisodePlan(ways=(_CLASSES,), shots=(1,), queries=_IMAGES - 1)

    def __init__(self, event_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(event_shape, num_classes)
        if num_classes < 1:
            raise UserError(f"num_classes: expected at least 1 training class, got {num_classes}")
        self.encoder = Conv4(event_shape)
        self.head = nn.Linear(self.encoder.dim, 4 * num_classes, **FACTORY_KWARGS)

    def draw(self, dataset: LabelledImages, step: int, generator: torch.Generator) -> Episode:
        """Return training images with the index of their class, among all in four rotations.

        Args:
            dataset: Training classes.
            step: The step, from 0.
            generator: Source of randomness.
        """
        sets = sample_sets(dataset, min(_CLASSES, dataset.num_classes), _IMAGES, generator)
        turns = torch.randint(4, (len(sets.classes),), generator=generator, device="cpu").tolist()
        images = torch.stack(
            [rotate(images, turn) for images, turn in zip(sets.images, turns, strict=True)]
        )
        classes = 4 * sets.classes + torch.tensor(turns, device="cpu", dtype=torch.int64)
        return Episode(support=images[:, :1], query=images[:, 1:], classes=classes)

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of the training classes of all images.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """
        images = torch.cat([episode.support, episode.query], 1)
        truth = episode.classes.repeat_interleave(images.shape[1])
        return cross_entropy(self.head(self.encoder(images.flatten(0, 1))), truth)

    def embed(self, images: Tensor) -> Tensor:
        """Return normalised features of uint8 images, ``(N, C, H, W) -> (N, F)``."""
        return normalize(self.encoder(images), dim=-1)

    def log_prob(self, query: Tensor, support: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return a softmax of the cosine to the nearest example of every class, ``(Q, K)``.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            support: Embeddings of the examples, ``(N, *F)``.
            labels: Class of each example, ``(N,)``.
            classes: Number of classes K.
        """
        cosine = (query @ support.T).unsqueeze(-1)
        member = one_hot(labels, classes).bool()
        nearest = cosine.masked_fill(~member, -torch.inf).amax(1)
        return (_COSINE_SCALE * nearest).log_softmax(-1)


class FineTunedClassifier(NearestNeighbourClassifier):
    """The same features, and a linear layer that is fitted to the examples of a task."""

    title: ClassVar[str] = "Baseline classifier (fine-tuned)"
    abilities: ClassVar[Abilities] = Abilities()

    def adapt(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return a linear layer on the features, fitted from the class means by gradient steps.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        classes = number_of_classes(support, labels)
        features = self.embed(support).detach()
        member = one_hot(labels, classes).to(features)
        weight = (normalize(member.T @ features, dim=-1) * _COSINE_SCALE).requires_grad_()
        bias = weight.new_zeros(classes).requires_grad_()
        optimiser = torch.optim.SGD(
            [weight, bias], _FIT_RATE, momentum=0.9, weight_decay=_WEIGHT_DECAY
        )
        with torch.enable_grad():
            for _ in range(_FIT_STEPS):
                optimiser.zero_grad()
                cross_entropy(features @ weight.T + bias, labels).backward()
                optimiser.step()
        return LinearPredictor(self, weight.detach(), bias.detach())


@dataclass(frozen=True, eq=False)
class LinearPredictor(Predictor):
    """A linear layer on features: weight ``(K, F)`` and bias ``(K,)``."""

    system: NearestNeighbourClassifier
    weight: Tensor
    bias: Tensor

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Weight and bias."""
        return self.weight, self.bias

    @torch.no_grad()
    def predict_log_prob(self, query: Tensor) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``."""
        return (self.system.embed(query) @ self.weight.T + self.bias).log_softmax(-1)
