"""A temperature for class probabilities: a separate head, the densities stay what they are.

Where a model takes dimensions for independent that are not, it counts the same evidence more than
once, and its class probabilities are too sure. Dividing the log-densities of all classes by one
number before normalising (Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017; as
the weight of a composite likelihood: Pauli, Racugno & Ventura, Statistica Sinica 2011) mends that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_CANDIDATES = tuple(float(t) for t in np.geomspace(0.5, 20, 30))
# Worth of the belief in the starting value, in nats for a factor of e.
_BELIEF = 20.0
# With fewer folds too few examples are left to learn from, and what is learnt says little of all.
_FEWEST_FOLDS, _FOLDS = 3, 5
_REPEATS, _ENOUGH = 3, 300

LogJoint = Callable[[Tensor, Tensor], Tensor]
"""From the rows to learn from and the rows to score, log p(x, class) up to a constant per row."""


def starting_temperature(dim: int) -> float:
    """Return what to expect of ``dim`` dimensions that were fitted to few examples."""
    return dim ** (1 / 3)


def choose_temperature(log_joint: Tensor, truth: Tensor, start: float) -> float:
    """Return the temperature with the least log-loss, if that says enough against ``start``.

    Args:
        log_joint: log p(x, class) of examples that were held out, ``(repeats, N, K)``.
        truth: Their classes, int64 ``(N,)``.
        start: The temperature believed before.
    """
    repeats = len(log_joint)
    truth = truth.repeat(repeats)

    def cost(temperature: float) -> float:
        scores = log_joint.flatten(0, 1) / temperature
        loss = torch.nn.functional.cross_entropy(scores, truth, reduction="sum")
        return float(loss) / max(1, repeats) + _BELIEF * math.log(temperature / start) ** 2

    return min((start, *_CANDIDATES), key=cost)


def cross_validated(
    log_joint: LogJoint, classes: Tensor, generator: torch.Generator, *, once: bool = False
) -> Tensor:
    """Return held-out log p(x, class) of every example, ``(repeats, N, K)``.

    Args:
        log_joint: Learns from some rows and scores others.
        classes: Class of every row, int64 ``(N,)``.
        generator: Source of the divisions into folds.
        once: Whether to divide only once, into the fewest folds, because learning takes long.

    Returns:
        One repeat for every division, each with every class in every fold; few examples are
        divided more often. No repeats if some class has fewer than three examples.
    """
    count = torch.bincount(classes)
    folds = min(_FEWEST_FOLDS if once else _FOLDS, int(count.min()))
    repeats = 1 if once else max(1, min(_REPEATS, _ENOUGH // len(classes)))
    if folds < _FEWEST_FOLDS:
        repeats = 0
    scores = torch.zeros(repeats, len(classes), len(count), dtype=torch.float64)
    for repeat in scores:
        fold = _stratified(classes, folds, generator)
        for i in range(folds):
            held_out = torch.nonzero(fold == i).flatten()
            repeat[held_out] = log_joint(torch.nonzero(fold != i).flatten(), held_out).cpu()
    return scores


def _stratified(classes: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Return a fold for every row such that each class is spread evenly over the folds."""
    shuffled = torch.randperm(len(classes), generator=generator)
    order = shuffled[classes[shuffled].argsort(stable=True)]
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order)) % folds
    return fold
