r"""Relation network: a convolutional network that compares feature maps.

.. math:: r_k = g([\bar f_k, f(x)]) \in (0, 1), \quad \text{loss} = \sum_k (r_k - [y = k])^2

(Sung, Yang, Zhang, Xiang, Torr & Hospedales, *Learning to Compare: Relation Network for Few-Shot
Learning*, CVPR 2018, eqs. 1-2). The squared error is least where :math:`r_k` is the probability of
class k, so that scores are normalised to probabilities. The published figures take the largest.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from bruno.baselines.embedding import MeanSystem
from bruno.baselines.encoder import Conv4, computes_in_bfloat16, conv_block
from bruno.baselines.interface import Abilities, flatten_episode
from bruno.data.sets import Episode
from bruno.flows.bijection import FACTORY_KWARGS

_HIDDEN = 8
_PAIRS_AT_ONCE = 4096


class RelationNetwork(MeanSystem):
    """The system of the paper; the means of feature maps stand for their sums.

    The first convolution of the comparing network acts on a pair of feature maps side by side; it
    is the sum of a convolution of each, which is computed once an image and not once a pair.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes, which it does not depend on.
        filters: Width of all convolutions.
    """

    title: ClassVar[str] = "Relation network"
    abilities: ClassVar[Abilities] = Abilities(streaming=True, forgetting=True)

    def __init__(
        self, event_shape: tuple[int, ...], num_classes: int = 0, filters: int = 64
    ) -> None:
        super().__init__(event_shape, num_classes)
        self.encoder = Conv4(event_shape, filters, pooled=2, flatten=False)
        self.of_class = nn.Conv2d(filters, filters, 3, padding=1, **FACTORY_KWARGS)
        self.of_query = nn.Conv2d(filters, filters, 3, padding=1, bias=False, **FACTORY_KWARGS)
        _, height, width = self.encoder.map_shape
        self.compare = nn.Sequential(
            *conv_block(filters, filters)[1:],
            *conv_block(filters, filters),
            nn.Flatten(),
            nn.Linear(filters * (height // 4) * (width // 4), _HIDDEN, **FACTORY_KWARGS),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 1, **FACTORY_KWARGS),
        )

    def relation_logits(self, query: Tensor, means: Tensor) -> Tensor:
        """Return the logits of the relation scores of every query and class, ``(Q, K)``.

        Args:
            query: Feature maps of queries, ``(Q, F, h, w)``.
            means: Mean feature maps of the classes, ``(K, F, h, w)``.
        """
        of_query, of_class = self.of_query(query), self.of_class(means)
        if self.training:  # batch norm needs all pairs at once
            return self._compared(of_query, of_class)
        parts = of_query.split(max(1, _PAIRS_AT_ONCE // len(means)))
        return torch.cat([self._compared(part, of_class) for part in parts])

    def _compared(self, of_query: Tensor, of_class: Tensor) -> Tensor:
        pairs = (of_query.unsqueeze(1) + of_class).flatten(0, 1)
        pairs = pairs.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.compare(pairs)
        return logits.view(len(of_query), len(of_class))

    def log_prob_given_means(self, query: Tensor, means: Tensor) -> Tensor:
        """Return the log of the normalised relation scores, ``(Q, K)``.

        Args:
            query: Embeddings of queries, ``(Q, *F)``.
            means: Mean embedding of every class, ``(K, *F)``.
        """
        scores = logsigmoid(self.relation_logits(query, means))
        return scores - scores.logsumexp(-1, keepdim=True)

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the mean over queries of the squared error of the scores, summed over classes.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """
        support, _, query, truth = flatten_episode(episode)
        way, shot = episode.support.shape[:2]
        maps = self.embed(torch.cat([support, query]))
        given, asked = maps.split([len(support), len(query)])
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16()):
            logits = self.relation_logits(asked, given.unflatten(0, (shot, way)).mean(0))
        scores = logits.to(maps).sigmoid()
        return (scores - one_hot(truth, way)).square().sum(-1).mean()
