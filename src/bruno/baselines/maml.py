r"""Model-agnostic meta-learning: initial weights from which a few gradient steps suffice.

.. math:: \theta_{t+1} = \theta_t - \alpha \nabla_\theta L_\text{support}(\theta_t), \quad
          \min_{\theta_0} \sum_\text{tasks} L_\text{query}(\theta_T)

(Finn, Abbeel & Levine, *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks*, ICML
2017, eq. 1), by ``torch.func``: the outer gradient passes through the inner ones, or leaves out
their derivatives in the first-order system.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from bruno.data.sets import Episode

MOST_CLASSES = 20
# As published (appendix A.1): with 5 classes one step of 0.4 in meta-training and three in a new
# task; with 20 classes five steps of 0.1 in both.
_FEW_CLASSES, _FEW_STEPS, _FEW_RATE, _FEW_STEPS_AT_TEST = 5, 1, 0.4, 3
_MANY_STEPS, _MANY_RATE = 5, 0.1


class Maml(System):
    """The system of the paper for up to 20 classes, of which a task uses the first outputs.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes, which it does not depend on.
    """

    title: ClassVar[str] = "MAML (second order)"
    abilities: ClassVar[Abilities] = Abilities(any_way=False)
    plan: ClassVar[EpisodePlan] = EpisodePlan(ways=(5, 20), queries=3, tasks=4)
    first_order: ClassVar[bool] = False

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        self.initial = nn.ParameterDict(initial_parameters(event_shape, 64, MOST_CLASSES))

    def fit(
        self, parameters: Parameters, support: Tensor, labels: Tensor, *, training: bool
    ) -> Parameters:
        """Return parameters after the gradient steps of a task.

        Args:
            parameters: The initial ones.
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, ``(N,)``.
            training: Take the number of steps of the meta-training, not that of a new task.
        """
        classes = int(labels.max()) + 1
        few = _FEW_STEPS if training else _FEW_STEPS_AT_TEST
        steps, rate = (few, _FEW_RATE) if classes <= _FEW_CLASSES else (_MANY_STEPS, _MANY_RATE)

        def loss(parameters: Parameters) -> Tensor:
            return cross_entropy(logits(parameters, support, len(support))[:, :classes], labels)

        for _ in range(steps):
            gradient = torch.func.grad(loss)(parameters)
            parameters = {
                name: value
                - rate * (gradient[name].detach() if self.first_order else gradient[name])
                for name, value in parameters.items()
            }
        return parameters

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of the queries after adapting to the examples.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """
        support, labels, query, truth = flatten_episode(episode)
        fitted = self.fit(dict(self.initial.items()), support, labels, training=True)
        scores = logits(fitted, torch.cat([support, query]), len(support))
        return cross_entropy(scores[len(support) :, : len(episode.support)], truth)

    def adapt(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return a predictor with weights of its own.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        classes = number_of_classes(support, labels, MOST_CLASSES)
        initial = {name: value.detach() for name, value in self.initial.items()}
        with torch.enable_grad():
            fitted = self.fit(initial, support, labels, training=False)
        return FittedPredictor(fitted, support, classes)


class FirstOrderMaml(Maml):
    """The system without second derivatives."""

    title: ClassVar[str] = "MAML (first order)"
    first_order: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class FittedPredictor(Predictor):
    """A network fitted to a task; its batch norm needs the examples.

    Attributes:
        parameters: Parameters of the network.
        support: The examples.
        classes: Number of classes.
    """

    parameters: Parameters
    support: Tensor
    classes: int

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Parameters and examples."""
        return (*self.parameters.values(), self.support)

    @torch.no_grad()
    def predict_log_prob(self, query: Tensor) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``."""
        given = len(self.support)
        scores = logits(self.parameters, torch.cat([self.support, query]), given)
        return scores[given:, : self.classes].log_softmax(-1)
