"""Figures of a trained few-shot system: accuracy, log-loss, calibration, cost, order, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from bruno.baselines.interface import Predictor, System, flatten_episode
from bruno.baselines.registry import SETTINGS
from bruno.data.dataset import LabelledImages
from bruno.data.sets import Episode, sample_episode
from bruno.errors import UserError
from bruno.evaluation.interval import estimate
from bruno.evaluation.streams import Stream
from bruno.seeding import generator_for

_BINS = 15
_ORDERS = 100
_TIMES = 11
_ORDER_TASK, _TEMPERATURE_TASK = (5, 5), (20, 1)
_TEMPERATURES = np.geomspace(0.02, 50, 120)


@dataclass(frozen=True)
class MeasureConfig:
    """The test episodes.

    Attributes:
        episodes: Number of episodes of each task.
        queries: Queries of each class in an episode.
        seed: Seed of the episodes, which are the same for all systems.
    """

    episodes: int = 100
    queries: int = 5
    seed: int = 0


@torch.no_grad()
def measure(
    system: System,
    test_set: LabelledImages,
    validation_set: LabelledImages,
    config: MeasureConfig,
    within_alphabet: Sequence[Episode] = (),
) -> dict[str, Any]:
    """Return the figures of a trained system on classes it was not trained on.

    Args:
        system: The system, in evaluation mode.
        test_set: Test classes, each in four rotations.
        validation_set: Classes to choose the temperature on.
        config: The episodes.
        within_alphabet: Episodes of characters of one alphabet, if there are some.

    Returns:
        ``tasks``, one dictionary for each way and shot, and ``within_alphabet``, with accuracy in
        per cent, log-loss in nats as predicted and after one temperature was chosen on validation
        classes, and expected calibration error in per cent.
    """
    temperature = _temperature(system, validation_set, config)
    tasks = [
        {
            "way": way,
            "shot": shot,
            **_figures(system, _episodes(test_set, way, shot, config), temperature),
        }
        for way, shot in settings_for(test_set, config)
    ]
    figures: dict[str, Any] = {"temperature": temperature, "tasks": tasks}
    if within_alphabet:
        figures["within_alphabet"] = _figures(system, within_alphabet, temperature)
    return figures


def settings_for(dataset: LabelledImages, config: MeasureConfig) -> list[tuple[int, int]]:
    """Return the usual tasks (way, shot) that a data set has classes and images for.

    Args:
        dataset: Test classes.
        config: The episodes.

    Raises:
        UserError: If there are none.
    """
    images = int(dataset.class_sizes.min())
    fitting = [
        (way, shot)
        for way, shot in SETTINGS
        if way <= dataset.num_classes and shot + config.queries <= images
    ]
    if not fitting:
        raise UserError(
            f"dataset: {dataset.name}/{dataset.split} has {dataset.num_classes} classes and "
            f"{images} images of the smallest; a comparison needs at least 5 classes of "
            f"{1 + config.queries} images"
        )
    return fitting


@torch.no_grad()
def measure_cost(
    system: System, test_set: LabelledImages, config: MeasureConfig
) -> dict[str, float | list[int]]:
    """Return what adapting and deciding cost, and how much the order of examples matters.

    Args:
        system: The system, in evaluation mode.
        test_set: Test classes.
        config: The episodes.

    Returns:
        CPU milliseconds to adapt to a task and to decide on one query (medians), bytes kept a
        class, and the permutation spread: over 100 orders of the examples of a task, the range of
        log p(true class) in nats, largest of all queries.
    """
    way, shot = settings_for(test_set, config)[-1]
    support, labels, query, _ = flatten_episode(
        sample_episode(test_set, way, shot, 1, _generator(config, 1), rotations=True)
    )
    adapting = [_timed(lambda: system.adapt(support, labels)) for _ in range(_TIMES)]
    predictor = system.adapt(support, labels)
    deciding = [_timed(lambda: predictor.predict_log_prob(query[:1])) for _ in range(_TIMES)]
    return {
        "cost_task": [way, shot],
        "adapt_ms": 1e3 * statistics.median(adapting),
        "decide_ms": 1e3 * statistics.median(deciding),
        "bytes_per_class": _bytes(predictor) / way,
        "permutation_spread": _permutation_spread(system, test_set, config),
    }


def _permutation_spread(system: System, test_set: LabelledImages, config: MeasureConfig) -> float:
    way, shot = min(settings_for(test_set, config), key=lambda task: task != _ORDER_TASK)
    generator = _generator(config, 2)
    support, labels, query, truth = flatten_episode(
        sample_episode(test_set, way, shot, 2, generator, rotations=True)
    )
    of_truth = []
    for _ in range(_ORDERS):
        order = torch.randperm(len(labels), generator=generator, device="cpu")
        log_prob = system.adapt(support[order], labels[order]).predict_log_prob(query)
        of_truth.append(log_prob.double().gather(1, truth.unsqueeze(1)))
    values = torch.cat(of_truth, 1)
    return float((values.amax(1) - values.amin(1)).max())


def _figures(system: System, episodes: Sequence[Episode], temperature: float) -> dict[str, Any]:
    """Return accuracy, log-losses and calibration over episodes, which are the clusters."""
    correct, losses, tempered, confidence, cluster = [], [], [], [], []
    for index, episode in enumerate(episodes):
        log_prob, truth = _predicted(system, episode)
        correct.append((log_prob.argmax(-1) == truth).double())
        losses.append(nll_loss(log_prob, truth, reduction="none"))
        cooled = (log_prob / temperature).log_softmax(-1)
        tempered.append(nll_loss(cooled, truth, reduction="none"))
        confidence.append(log_prob.exp().amax(-1))
        cluster.append(torch.full_like(truth, index))
    right, clusters = torch.cat(correct), torch.cat(cluster)
    return {
        "accuracy": estimate(100 * right, clusters).to_dict(),
        "log_loss": estimate(torch.cat(losses), clusters).to_dict(),
        "log_loss_tempered": estimate(torch.cat(tempered), clusters).to_dict(),
        "calibration_error": 100 * calibration_error(torch.cat(confidence), right),
    }


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    r"""Return the expected calibration error, the mean gap of confidence and accuracy.

    .. math:: \sum_b \frac{n_b}{N} |\text{accuracy}_b - \text{confidence}_b|

    over 15 equal bins of the confidence (Guo, Pleiss, Sun & Weinberger, ICML 2017, eq. 3).

    Args:
        confidence: Probability of the predicted class, ``(N,)``.
        correct: Whether it is right, ``(N,)``, 0 or 1.

    Example:
        >>> calibration_error(torch.tensor([0.9, 0.9, 0.5]), torch.tensor([1.0, 1.0, 0.0]))
        0.2333...
    """
    gap = correct.double() - confidence.double()
    bins = (confidence * _BINS).long().clamp_max(_BINS - 1)
    return float(gap.new_zeros(_BINS).index_add(0, bins, gap).abs().sum()) / len(gap)


def _temperature(system: System, dataset: LabelledImages, config: MeasureConfig) -> float:
    """Return the temperature of least log-loss on validation episodes."""
    way, shot = _TEMPERATURE_TASK
    way = min(way, dataset.num_classes)
    episodes = _episodes(dataset, way, shot, MeasureConfig(max(5, config.episodes // 5)))
    predicted = [_predicted(system, episode) for episode in episodes]
    log_prob, truth = (torch.cat(part) for part in zip(*predicted, strict=True))

    def cost(temperature: float) -> float:
        return float(nll_loss((log_prob / temperature).log_softmax(-1), truth))

    candidates: list[float] = _TEMPERATURES.tolist()
    return min(candidates, key=cost)


def _predicted(system: System, episode: Episode) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of the queries, finite and in double precision, and their classes.

    A probability of 0 counts as the smallest positive one of single precision, 87 nats.
    """
    support, labels, query, truth = flatten_episode(episode)
    log_prob = system.adapt(support, labels).predict_log_prob(query).double()
    return log_prob.nan_to_num(nan=-87.0, neginf=-87.0).clamp_min(-87.0), truth


def _episodes(dataset: LabelledImages, way: int, shot: int, config: MeasureConfig) -> list[Episode]:
    return [
        sample_episode(
            dataset,
            way,
            shot,
            config.queries,
            _generator(config, 0, way, shot, index),
            rotations=True,
        )
        for index in range(config.episodes)
    ]


def _generator(config: MeasureConfig, *key: int) -> torch.Generator:
    return generator_for(config.seed, Stream.COMPARISON, *key)


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _bytes(predictor: Predictor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in predictor.state)
