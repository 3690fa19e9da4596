r"""Memory-augmented network: an LSTM that writes what it saw to an external memory.

Images of a task come one by one; the class of each is predicted before it is shown (Santoro,
Bartunov, Botvinick, Wierstra & Lillicrap, *Meta-Learning with Memory-Augmented Neural Networks*,
ICML 2016). The order of the examples matters. See :mod:`bruno.baselines.memory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from bruno.baselines.interface import (
    Abilities,
    EpisodePlan,
    Predictor,
    System,
    check_further,
    number_of_classes,
)
from bruno.baselines.memory import MemoryController, MemoryState
from bruno.data.dataset import LabelledImages
from bruno.data.sets import Episode, sample_episode

MOST_CLASSES = 20
_TASKS = 16


class MemoryAugmentedNetwork(System):
    """The system of the paper for up to 20 classes, of which a task uses the first outputs.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``.
        num_classes: Number of training classes, which it does not depend on.
    """

    title: ClassVar[str] = "Memory-augmented network"
    abilities: ClassVar[Abilities] = Abilities(streaming=True, order_invariant=False, any_way=False)
    plan: ClassVar[EpisodePlan] = EpisodePlan(ways=(5, 20))

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        self.memory = MemoryController(torch.Size(event_shape).numel(), MOST_CLASSES)

    def draw(self, dataset: LabelledImages, step: int, generator: torch.Generator) -> Episode:
        """Return several tasks at once, ``(B, way, shot, C, H, W)``.

        Args:
            dataset: Training classes.
            step: The step, from 0.
            generator: Source of randomness.
        """
        way = min(self.plan.ways[step % len(self.plan.ways)], dataset.num_classes)
        tasks = min(_TASKS, dataset.num_classes // way)
        drawn = sample_episode(dataset, tasks * way, 1, 2, generator, rotations=True)
        support, query = (p.unflatten(0, (tasks, way)) for p in (drawn.support, drawn.query))
        return Episode(support, query, drawn.classes)

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy over sequences of all images, each in random order.

        Args:
            episode: Tasks from :meth:`draw`.
            generator: Source of the order.
        """
        images = torch.cat([episode.support, episode.query], 2)
        scores, truth = self.presented(images, generator)
        return cross_entropy(scores.flatten(0, 1), truth.flatten())

    def presented(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Present all images of tasks in random order.

        Args:
            images: uint8 ``(B, way, n, C, H, W)``.
            generator: Source of the order.

        Returns:
            Logits of every image before its class is shown, ``(B, way * n, way)``, and the classes.
        """
        tasks, way, number = images.shape[:3]
        keys = torch.rand(
            tasks, way * number, generator=generator, device="cpu", dtype=torch.float32
        )
        order = keys.argsort(1)
        shuffled = images.flatten(1, 2)[torch.arange(tasks, device="cpu").unsqueeze(1), order]
        truth, state, scores = order // number, self.memory.start(tasks), []
        for time in range(way * number):
            state, logits = self.memory.step(state, shuffled[:, time])
            state = self.memory.shown(state, truth[:, time])
            scores.append(logits[:, :way])
        return torch.stack(scores, 1), truth

    @torch.no_grad()
    def accuracy_by_presentation(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the accuracy at the first, second, ... image of a class, ``(n,)``.

        Args:
            images: uint8 ``(B, way, n, C, H, W)``.
            generator: Source of the order.
        """
        scores, truth = self.presented(images, generator)
        member = one_hot(truth, images.shape[1])
        before = (member.cumsum(1) - member).gather(2, truth.unsqueeze(2)).squeeze(2)
        correct = (scores.argmax(2) == truth).double()
        return torch.stack([correct[before == k].mean() for k in range(images.shape[2])])

    @torch.no_grad()
    def adapt(self, support: Tensor, labels: Tensor) -> Predictor:
        """Return a predictor from the state after the examples, in the order given.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        classes = number_of_classes(support, labels, MOST_CLASSES)
        return MemoryPredictor(self, self.memory.start(1), classes).observe(support, labels)


@dataclass(frozen=True, eq=False)
class MemoryPredictor(Predictor):
    """The state after the examples; every query is read from it, and leaves it as it is."""

    system: MemoryAugmentedNetwork
    memory_state: MemoryState
    classes: int

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The state of LSTM and memory."""
        return tuple(self.memory_state)

    @torch.no_grad()
    def predict_log_prob(self, query: Tensor) -> Tensor:
        """Return the log-probabilities of the classes, ``(Q, K)``."""
        state = MemoryState(
            *(part.expand(len(query), *part.shape[1:]) for part in self.memory_state)
        )
        return self.system.memory.step(state, query)[1][:, : self.classes].log_softmax(-1)

    @torch.no_grad()
    def observe(self, support: Tensor, labels: Tensor) -> MemoryPredictor:
        """Return the predictor after further examples.

        Args:
            support: uint8 images, ``(N, C, H, W)``.
            labels: Class of each, int64 ``(N,)``.
        """
        check_further(support, labels, self.classes)
        state, memory = self.memory_state, self.system.memory
        for image, label in zip(support.split(1), labels.split(1), strict=True):
            state = memory.shown(memory.step(state, image)[0], label)
        return MemoryPredictor(self.system, state, self.classes)
