r"""LSTM meta-learner: a learnt optimiser that makes the gradient steps of a task.

.. math:: \theta_t = f_t \odot \theta_{t-1} - i_t \odot \nabla_{\theta} L_t

where the forget gate :math:`f_t` and the learning rate :math:`i_t` of every coordinate come from an
LSTM that is shared by all coordinates and reads gradient and loss, and :math:`\theta_0` is learnt
(Ravi & Larochelle, *Optimization as a Model for Few-Shot Learning*, ICLR 2017, eqs. 2-4). As
there, derivatives of the gradients are left out. All examples are one batch, so that their order
does not matter.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bruno.baselines.functional_convnet import Parameters, initial_parameters, logits
from bruno.baselines.interface import (
    Abilities,
    EpisodePlan,
    Predictor,
    System,
    flatten_episode,
    number_of_classes,
)
from bruno.baselines.maml import MOST_CLASSES, FittedPredictor
from bruno.data.sets import Episode
from bruno.flows.bijection import FACTORY_KWARGS

_FILTERS, _HIDDEN, _STEPS = 32, 20, 5
_FORGET_BIAS, _RATE_BIAS = (4.0, 6.0), (-5.0, -4.0)
_PREPROCESSING = 10.0


def preprocess(x: Tensor) -> Tensor:
    r"""Return logarithm and sign of numbers of any scale, ``(*B,) -> (*B, 2)``.

    :math:`(\log|x| / p, \text{sgn} x)` where :math:`|x| \ge e^{-p}`, else :math:`(-1, e^p x)`, with
    p = 10 (Andrychowicz et al., *Learning to learn by gradient descent by gradient descent*, 2016).

    Args:
        x: The numbers.
    """
    p = _PREPROCESSING
    large = x.abs() >= math.exp(-p)
    logarithm = x.abs().clamp_min(math.exp(-p)).log() / p
    return torch.stack([logarithm, torch.where(large, x.sign(), math.exp(p) * x)], -1)


class LstmMetaLearner(System):
    """The system of the paper for up to 20 classes, of which a task uses the first outputs.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes, which it does not depend on.
    """

    title: ClassVar[str] = "LSTM meta-learner"
    abilities: ClassVar[Abilities] = Abilities(any_way=False)
    plan: ClassVar[EpisodePlan] = EpisodePlan(ways=(5, 20), queries=3)

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        self.initial = nn.ParameterDict(initial_parameters(event_shape, _FILTERS, MOST_CLASSES))
        self.cell = nn.LSTMCell(4, _HIDDEN, **FACTORY_KWARGS)
        self.forget = nn.Linear(_HIDDEN + 2, 1, **FACTORY_KWARGS)
        self.rate = nn.Linear(_HIDDEN + 2, 1, **FACTORY_KWARGS)
        nn.init.uniform_(self.forget.bias, *_FORGET_BIAS)
        nn.init.uniform_(self.rate.bias, *_RATE_BIAS)

    def fit(self, support: Tensor, labels: Tensor) -> Parameters:
        """Return parameters of the learner after the steps of the learnt optimiser.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, ``(N,)``.
        """
        classes = int(labels.max()) + 1
        names = list(self.initial)
        shapes = [self.initial[name].shape for name in names]
        theta = torch.cat([self.initial[name].flatten() for name in names])

        def unpacked(flat: Tensor) -> Parameters:
            parts = flat.split([shape.numel() for shape in shapes])
            return {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}

        def loss(flat: Tensor) -> Tensor:
            scores = logits(unpacked(flat), support, len(support))
            return cross_entropy(scores[:, :classes], labels)

        forget, rate = torch.ones_like(theta), torch.zeros_like(theta)
        state = (theta.new_zeros(len(theta), _HIDDEN), theta.new_zeros(len(theta), _HIDDEN))
        for _ in range(_STEPS):
            gradient, value = torch.func.grad_and_value(loss)(theta.detach())
            read = torch.cat([preprocess(gradient), preprocess(value).expand(len(theta), 2)], -1)
            state = self.cell(read, state)
            forget, rate = (
                gate(torch.cat([state[0], theta.unsqueeze(1), last.unsqueeze(1)], 1))
                .squeeze(1)
                .sigmoid()
                for gate, last in ((self.forget, forget), (self.rate, rate))
            )
            theta = forget * theta - rate * gradient
        return unpacked(theta)

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of the queries after adapting to the examples.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """
        support, labels, query, truth = flatten_episode(episode)
        fitted = self.fit(support, labels)
        scores = logits(fitted, torch.cat([support, query]), len(support))
        return cross_entropy(scores[len(support) :, : len(episode.support)], truth)

    @torch.no_grad()
    def adapt(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return a predictor with weights of its own.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        classes = number_of_classes(support, labels, MOST_CLASSES)
        return FittedPredictor(self.fit(support, labels), support, classes)
