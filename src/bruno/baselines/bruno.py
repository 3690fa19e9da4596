r"""BRUNO as a few-shot system: the class whose predictive density of the query is the highest.

.. math:: p(y = k \mid x) \propto p(x \mid \text{examples of } k)

(Korshunova et al., *BRUNO: A Deep Recurrent Model for Exchangeable Data*, NeurIPS 2018). The
generative system maximises the likelihood of sets alone; the fine-tuned one of the paper also
minimises the cross-entropy of the class of a query; here both are minimised at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from bruno.baselines.encoder import IMAGES_AT_ONCE, computes_in_bfloat16
from bruno.baselines.interface import (
    Abilities,
    EpisodePlan,
    Predictor,
    System,
    check_further,
    number_of_classes,
)
from bruno.data.dataset import LabelledImages
from bruno.data.sets import Episode, dequantise, sample_sets
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.training.config import ModelConfig
from bruno.training.objectives import Objective, ObjectiveConfig
from bruno.training.optimisation import warmed_up_average

_PROCESS_LEARNING_RATE = 1e-2
_EMA_DECAY = 0.995


class FineTunedBruno(System):
    """BRUNO with the ``compact`` flow, trained for likelihood and classification at once."""

    title: ClassVar[str] = "BRUNO (fine-tuned)"
    abilities: ClassVar[Abilities] = Abilities(True, True, streaming=True, forgetting=True)
    plan: ClassVar[EpisodePlan] = EpisodePlan(ways=(30,), queries=2)
    learning_rate: ClassVar[float] = 2e-3
    warmup_steps: ClassVar[int] = 30
    weights: ClassVar[ObjectiveConfig] = ObjectiveConfig(generative_weight=0.1)

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        model = ModelConfig(preset="compact").build(self.event_shape, 0)
        self.objective = Objective(model, self.weights, autocast=computes_in_bfloat16())
        self.average = AveragedModel(model, multi_avg_fn=warmed_up_average(_EMA_DECAY))

    @property
    def model(self) -> Bruno:
        """The model with averaged weights, which predicts."""
        return cast("Bruno", self.average.module)

    def optimiser(self) -> torch.optim.Optimizer:
        """Return AdamW with a rate of its own for the process, which has few parameters."""
        model = self.objective.model
        groups = [
            {"params": list(model.flow.parameters()), "lr": self.learning_rate},
            {"params": list(model.process.parameters()), "lr": _PROCESS_LEARNING_RATE},
        ]
        return torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)

    def prepare(self, dataset: LabelledImages, generator: torch.Generator) -> None:
        """Set the scales of the flow from training images.

        Args:
            dataset: Training classes.
            generator: Source of randomness.
        """
        images = sample_sets(dataset, min(60, dataset.num_classes), 5, generator, rotations=True)
        x = dequantise(images.images.flatten(0, 1), generator)
        self.objective.model.flow.initialise(x, None)
        self.average.module.load_state_dict(self.objective.model.state_dict())

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the weighted sum of the losses of the objectives.

        Args:
            episode: The episode.
            generator: Source of further randomness.
        """
        x = dequantise(torch.cat([episode.support, episode.query], 1), generator)
        return cast("Tensor", self.objective(x, episode.support.shape[1]).loss)

    def after_step(self, step: int) -> None:
        """Average the weights."""
        self.average.update_parameters(self.objective.model)

    def adapt(self, support: Tensor, labels: Tensor) -> BrunoPredictor:
        """Return a predictor that keeps the evidence of every class: count, mean and scatter.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        number_of_classes(support, labels)
        return BrunoPredictor(self, Evidence.by_class(self.encode(support), labels))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the latent vectors of uint8 images, ``(N, C, H, W) -> (N, D)``."""
        return torch.cat([self.model.encode(part) for part in images.split(IMAGES_AT_ONCE)])


class GenerativeBruno(FineTunedBruno):
    """BRUNO with the ``compact`` flow, trained for likelihood alone."""

    title: ClassVar[str] = "BRUNO (generative)"
    weights: ClassVar[ObjectiveConfig] = ObjectiveConfig(discriminative_weight=0.0)


@dataclass(frozen=True, eq=False)
class BrunoPredictor(Predictor):
    """Evidence of the latent vectors of every class, batch shape ``(K,)``."""

    system: FineTunedBruno
    evidence: Evidence

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Counts, means and scatters."""
        return self.evidence.count, self.evidence.mean, self.evidence.scatter

    @torch.no_grad()
    def predict_log_prob(self, query: Tensor) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``."""
        z = self.system.encode(query)
        return self.system.model.process.log_prob_given(z, self.evidence).log_softmax(-1)

    def observe(self, support: Tensor, labels: Tensor) -> BrunoPredictor:
        """Return the predictor after further examples.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        return replace(self, evidence=self.evidence + self._evidence_of(support, labels))

    def forget(self, support: Tensor, labels: Tensor) -> BrunoPredictor:
        """Return the predictor without some of its examples.

        Args:
            support: uint8 images that were seen, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        return replace(self, evidence=self.evidence - self._evidence_of(support, labels))

    def _evidence_of(self, support: Tensor, labels: Tensor) -> Evidence:
        classes = len(self.evidence.count)
        check_further(support, labels, classes)
        z = self.system.encode(support)
        return Evidence.stack([Evidence.of(z[labels == k]) for k in range(classes)])
