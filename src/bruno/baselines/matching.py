r"""Matching networks: attention over the examples.

.. math:: p(y = k \mid x) = \sum_i a(x, x_i) [y_i = k], \quad a = \text{softmax}_i\, c(f(x), f(x_i))

(Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra, *Matching Networks for One Shot Learning*,
NeurIPS 2016, eq. 1), without their full-context embeddings, which do not help on Omniglot. The
similarity :math:`c` is the cosine, as published, or the negative squared distance. A softmax of
cosines, which lie in [−1, 1], can never be certain: with 20 classes no probability exceeds
:math:`e / (e + 19 e^{-1})`, 28 %.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from bruno.baselines.embedding import EmbeddingSystem
from bruno.baselines.encoder import Conv4
from bruno.baselines.interface import Abilities


class MatchingNetwork(EmbeddingSystem):
    """The system with the cosine similarity.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes, which it does not depend on.
    """

    title: ClassVar[str] = "Matching network (cosine)"
    abilities: ClassVar[Abilities] = Abilities(streaming=True)

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        self.encoder = Conv4(event_shape)

    def similarity(self, query: Tensor, support: Tensor) -> Tensor:
        """Return the similarity of every query to every example, ``(Q, N)``.

        Args:
            query: Embeddings, ``(Q, F)``.
            support: Embeddings, ``(N, F)``.
        """
        return normalize(query, dim=-1) @ normalize(support, dim=-1).T

    def log_prob(self, query: Tensor, support: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return the log of the attention that the examples of every class get, ``(Q, K)``.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            support: Embeddings of the examples, ``(N, *F)``.
            labels: Class of each example, ``(N,)``.
            classes: Number of classes K.
        """
        attention = self.similarity(query, support).log_softmax(-1).unsqueeze(-1)
        member = one_hot(labels, classes).bool()
        return attention.masked_fill(~member, -torch.inf).logsumexp(1)


class SquaredDistanceMatchingNetwork(MatchingNetwork):
    """The system with the negative squared distance as its similarity."""

    title: ClassVar[str] = "Matching network (squared distance)"

    def similarity(self, query: Tensor, support: Tensor) -> Tensor:
        """Return the negative squared distance of every query to every example, ``(Q, N)``.

        Args:
            query: Embeddings, ``(Q, F)``.
            support: Embeddings, ``(N, F)``.
        """
        return -(query.unsqueeze(1) - support).square().sum(-1)
