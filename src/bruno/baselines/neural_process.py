r"""Conditional neural process for classification.

A class is represented by the mean :math:`r_k` of the embeddings of its examples; a network decides
from it and the embedding of the query:

.. math:: p(y = k \mid x) \propto \exp g(f(x), r_k)

(Garnelo et al., *Conditional Neural Processes*, ICML 2018, section 4.3). For functions, the
observations are pairs of argument and value; see
:mod:`bruno.baselines.neural_process_regression`.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from bruno.baselines.embedding import MeanSystem
from bruno.baselines.encoder import Conv4
from bruno.baselines.interface import Abilities
from bruno.flows.bijection import FACTORY_KWARGS

_HIDDEN = 128


class NeuralProcess(MeanSystem):
    """The system with Conv4 as its encoder.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes, which it does not depend on.
    """

    title: ClassVar[str] = "Conditional neural process"
    abilities: ClassVar[Abilities] = Abilities(streaming=True, forgetting=True)

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        self.encoder = Conv4(event_shape)
        self.of_class = nn.Linear(self.encoder.dim, _HIDDEN, **FACTORY_KWARGS)
        self.of_query = nn.Linear(self.encoder.dim, _HIDDEN, bias=False, **FACTORY_KWARGS)
        self.decide = nn.Sequential(
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN, **FACTORY_KWARGS),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 1, **FACTORY_KWARGS),
        )

    def log_prob_given_means(self, query: Tensor, means: Tensor) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``.

        The first layer of the decoder acts on a pair, and is the sum of a layer of each.

        Args:
            query: Embeddings of queries, ``(Q, F)``.
            means: Mean embedding of every class, ``(K, F)``.
        """
        pairs = self.of_query(query).unsqueeze(1) + self.of_class(means)
        scores: Tensor = self.decide(pairs)
        return scores.squeeze(-1).log_softmax(-1)
