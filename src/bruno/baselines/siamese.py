r"""Siamese network: a learnt distance that predicts whether two images are of one class.

.. math:: p(\text{same} \mid a, b) = \sigma(w^\top |f(a) - f(b)| + w_0)

(Koch, Zemel & Salakhutdinov, *Siamese Neural Networks for One-shot Image Recognition*, ICML
workshop 2015). Training weighs pairs of one class and of two equally, so that the odds of a pair
are the likelihood ratio of the query under the class; with one class for every query they are
normalised to the probability of the class. Of several examples the best match counts.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from bruno.baselines.embedding import EmbeddingSystem
from bruno.baselines.encoder import Conv4
from bruno.baselines.interface import Abilities, flatten_episode
from bruno.data.sets import Episode
from bruno.flows.bijection import FACTORY_KWARGS


class SiameseNetwork(EmbeddingSystem):
    """The system, with Conv4 where the paper has its own larger encoder.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes, which it does not depend on.
    """

    title: ClassVar[str] = "Siamese network"
    abilities: ClassVar[Abilities] = Abilities(streaming=True)

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        self.encoder = Conv4(event_shape)
        self.head = nn.Linear(self.encoder.dim, 1, **FACTORY_KWARGS)

    def log_odds(self, query: Tensor, support: Tensor) -> Tensor:
        """Return the log-odds that two images are of one class, for every pair.

        Args:
            query: Embeddings, ``(Q, F)``.
            support: Embeddings, ``(N, F)``.

        Returns:
            ``(Q, N)``.
        """
        odds: Tensor = self.head((query.unsqueeze(1) - support).abs())
        return odds.squeeze(-1)

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of all pairs of a query and an example.

        Pairs of one class have as much weight as pairs of different classes.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """
        support, labels, query, truth = flatten_episode(episode)
        embedded = self.embed(torch.cat([support, query]))
        given, asked = embedded.split([len(support), len(query)])
        odds = self.log_odds(asked, given)
        same = truth.unsqueeze(1) == labels
        return (softplus(-odds[same]).mean() + softplus(odds[~same]).mean()) / 2

    def log_prob(self, query: Tensor, support: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            support: Embeddings of the examples, ``(N, *F)``.
            labels: Class of each example, ``(N,)``.
            classes: Number of classes K.
        """
        odds = self.log_odds(query, support).unsqueeze(-1)
        member = one_hot(labels, classes).bool()
        best = odds.masked_fill(~member, -torch.inf).amax(1)
        return best.log_softmax(-1)
