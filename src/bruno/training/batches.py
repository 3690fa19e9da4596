"""Batches as a pure function of the seed and the step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from bruno.data.augmentation import augment
from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise, sample_sets
from bruno.seeding import generator_for, uniform
from bruno.training.config import Experiment

_INITIALISATION, _TRAINING, _VALIDATION = range(3)
# Batches that are made in advance while a device is busy, and threads that make them.
_AHEAD, _THREADS = 8, 4


class Batch(NamedTuple):
    """Dequantised sets ``(S, n, C, H, W)``, for conditional models their context, and randomness.

    The generator is for whatever else in the step is random.
    """

    x: Tensor
    context: Tensor | None
    generator: torch.Generator


def initialisation_batch(dataset: LabelledImages, experiment: Experiment, images: int = 0) -> Batch:
    """Return the batch from which the scales of the flow are set: one or more batches of training.

    Args:
        dataset: The training set.
        experiment: The experiment.
        images: Least number of images.
    """
    in_one = sets_per_batch(dataset, experiment) * experiment.training.images_per_set
    batches = [
        _batch(dataset, experiment, _INITIALISATION, index, deform=True)
        for index in range(max(1, math.ceil(images / in_one)))
    ]
    contexts = [batch.context for batch in batches if batch.context is not None]
    return Batch(
        torch.cat([batch.x for batch in batches]),
        torch.cat(contexts) if contexts else None,
        batches[0].generator,
    )


def training_batch(
    dataset: LabelledImages, experiment: Experiment, step: int, index: int = 0
) -> Batch:
    """Return a batch of a step; the same arguments always give the same numbers.

    Args:
        dataset: The images.
        experiment: The experiment.
        step: The step, from 0.
        index: The batch among those of the step.
    """
    return _batch(dataset, experiment, _TRAINING, step, index, deform=True)


def made_ahead(make: Callable[[int], Batch], first: int) -> Iterator[Batch]:
    """Yield the batches of one step after the other, made in other threads while some are used.

    Args:
        make: Returns the batch of a step.
        first: The first step.
    """
    with ThreadPoolExecutor(_THREADS) as executor:
        waiting: deque[Future[Batch]] = deque()
        try:
            for step in count(first):
                waiting.append(executor.submit(make, step))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def validation_batch(dataset: LabelledImages, experiment: Experiment, index: int) -> Batch:
    """Return one of the fixed validation batches, of images that are not deformed.

    Args:
        dataset: The images.
        experiment: The experiment.
        index: The batch, from 0.
    """
    return _batch(dataset, experiment, _VALIDATION, index, deform=False)


def sets_per_batch(dataset: LabelledImages, experiment: Experiment) -> int:
    """Return the number of sets in a batch: as configured, or one for each class there is.

    Args:
        dataset: The images.
        experiment: The experiment.
    """
    return min(experiment.training.sets_per_batch, dataset.num_classes)


def _batch(
    dataset: LabelledImages, experiment: Experiment, purpose: int, *key: int, deform: bool
) -> Batch:
    training = experiment.training
    generator = generator_for(experiment.seed, purpose, *key)
    sets = sample_sets(
        dataset,
        sets_per_batch(dataset, experiment),
        training.images_per_set,
        generator,
        rotations=training.rotations,
        augmented_images=deform,
    )
    images = sets.images
    if deform and training.reflections:
        mirrored = uniform((len(images),), generator) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1, 1), images.flip(-1), images)
    images = images.flatten(0, 1)
    if deform:
        images = augment(images, training.augmentation, generator)
    x = dequantise(images, generator).view(sets.images.shape)
    return Batch(x, sets.context, generator)
