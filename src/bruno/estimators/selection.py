"""Choice of a model by the log-loss of elements that are held out one at a time.

A choice is more than noise where the mean of its gains exceeds their standard error, element by
element, and a hundredth of a nat; else the simpler model stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from bruno.estimators.calibration import choose_calibration
from bruno.estimators.encoding import encoded
from bruno.estimators.leave_one_out import FittedCovariance, leave_one_out
from bruno.estimators.two_covariance import fit_process
from bruno.estimators.two_covariance_flow import FittedFlow, prior_strength
from bruno.estimators.weights import has_gaps, without_gaps
from bruno.progress import Shown

# More rows cost time and do not change a choice that matters; for many dimensions twice as many.
_MOST_ROWS, _MANY_DIMENSIONS = 1000, 100
# An element is held out if its class has so many: the rest has to have a mean and a scatter.
FEWEST_EXAMPLES = 3
# Below so many rows no marginal map is fitted.
FEWEST_ROWS_TO_BEND = 10
# Where rows are fewer than dimensions, held-out losses are too small: only large gains count.
_LARGE_GAIN = 0.2
# Nats an element; for less the cautious defaults are kept, which suit classes still to come.
_SMALLEST_GAIN = 0.01
# Weights may sum to little more than one element, or less.
_FEWEST_DEGREES = 1.0
# Weights of the prior of the covariance, relative to the default, from strong to weak.
_WEAKER = (1 / 3, 1 / 10, 1 / 30)
# With more rows than this for every dimension the prior does not matter.
_MANY_ROWS = 50


@dataclass(frozen=True)
class Choice:
    """Parameters of a two-covariance model.

    Attributes:
        process: ``gaussian`` or ``student_t``.
        power_maps: Whether every column first goes through a Yeo-Johnson map.
        strength: Weight of the prior of the covariance within classes, in pseudo-observations.
    """

    process: str
    power_maps: bool
    strength: float

    def fitted_covariance(
        self, number: float | Tensor, groups: int, *, full: bool
    ) -> FittedCovariance:
        """Return what :func:`~bruno.estimators.leave_one_out.leave_one_out` needs to know of it.

        Args:
            number: Number of elements, or the sum of their weights, ``(1,)`` or ``(D,)``.
            groups: Number of classes.
            full: Whether dimensions are mixed.
        """
        device = number.device if isinstance(number, Tensor) else "cpu"
        free = torch.as_tensor(number - groups, device=device, dtype=torch.float64).clamp_min(0)
        return FittedCovariance(free + self.strength, full)


FitFlow = Callable[[Tensor, Tensor, Tensor | None, bool, float], FittedFlow]
"""Fits a flow to elements ``(N, D)``, their classes ``(N,)`` and their weights, if they have some,
``(N,)``, with or without power maps, and with a weight of the prior."""


def choose(
    x: Tensor,
    classes: Tensor,
    fit_flow: FitFlow,
    *,
    processes: Sequence[str],
    power_maps: Sequence[bool],
    full: bool,
    start: float,
    log_prior: Tensor,
    weight: Tensor | None = None,
    shown: Shown = iter,
) -> Choice:
    """Return the choice of the least held-out log-loss, as far as it is more than noise.

    With several classes this is the loss of the class, at the best calibration; with one it is
    that of the element itself. The order of the rows has no influence.

    Args:
        x: Elements, float64 ``(N, D)``; NaN where an entry is missing.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1.
        fit_flow: Fits a flow.
        processes: The processes to choose from, the simplest first.
        power_maps: Whether there may be power maps; the default first.
        full: Whether dimensions are mixed.
        start: The starting temperature.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        weight: How often each element counts, ``(N,)``; by default once.
        shown: Shows the progress through a sequence as it is iterated.
    """
    dim = x.shape[1]
    default, total = prior_strength(dim, full=full), len(x)
    some = spread(x, classes, _MOST_ROWS if dim <= _MANY_DIMENSIONS else 2 * _MOST_ROWS)
    present, of_some = torch.unique(classes[some], return_inverse=True)
    x, classes, log_prior = x[some], of_some, log_prior[present]
    weight = None if weight is None else weight[some]
    each = torch.ones_like(x[:, 0]) if weight is None else weight
    count = torch.bincount(classes, each)
    number = float(each.sum())
    rows = torch.nonzero((count >= FEWEST_EXAMPLES)[classes]).flatten()
    is_enough = number - len(count) >= dim
    # A Student-t process differs little where there are few rows, and then is the more robust.
    best = Choice(processes[0 if is_enough else -1], power_maps[0], default)
    if not len(rows) or 2 * float(each[rows].sum()) < number:
        return best

    @cache
    def flow_of(power_maps: bool, strength: float) -> FittedFlow:
        return fit_flow(x, classes, weight, power_maps, strength)

    def losses(choice: Choice) -> Tensor:
        fitted = fit_process(flow_of(choice.power_maps, choice.strength), choice.process)
        z, log_det = fitted.latent or encoded(fitted.model, x.numpy())
        observed = without_gaps(x, weight)[1].sum(0)
        unit = choice.fitted_covariance(observed, len(count), full=full)
        scores = leave_one_out(fitted.model.process, z, classes, unit, rows, weight)
        if len(count) == 1:
            negative: Tensor = -(scores[:, 0] + log_det[rows])
            return negative
        calibration = choose_calibration(
            scores.unsqueeze(0), classes[rows], start, log_prior, each[rows]
        )
        log_proba = calibration.log_proba(scores, log_prior)
        loss: Tensor = nll_loss(log_proba, classes[rows], reduction="none")
        return loss

    prior_matters = full and is_enough and total - len(count) < _MANY_ROWS * dim
    bends, others, weaker = (
        [{name: value} for value in values if is_tried]
        for name, values, is_tried in (
            ("power_maps", power_maps[1:], number >= FEWEST_ROWS_TO_BEND),
            ("process", processes[1:], is_enough),
            ("strength", [default * factor for factor in _WEAKER], prior_matters),
        )
    )
    if not (bends or others or weaker):
        return best
    found = losses(best)
    kinds = [(kind, step) for kind in (bends, others, weaker) for step in kind]
    refused: Any = None
    for kind, step in shown(kinds):
        if kind is refused:
            continue
        candidate = replace(best, **step)
        of_candidate = losses(candidate)
        if is_better(of_candidate, found, each[rows], is_enough=is_enough):
            best, found = candidate, of_candidate
        else:
            refused = kind
    return best


def is_better(new: Tensor, old: Tensor, weight: Tensor, *, is_enough: bool = True) -> bool:
    """Return whether losses are smaller by more than chance.

    Args:
        new: Held-out losses of every element, ``(N,)``.
        old: Those of the simpler model.
        weight: How often each counts, ``(N,)``.
        is_enough: Whether there are as many elements as dimensions.
    """
    gains, number = old - new, float(weight.sum())
    gain = float(weight @ gains) / number
    variance = float(weight @ (gains - gain).square()) / max(number - 1, _FEWEST_DEGREES)
    error = math.sqrt(variance / number)
    if is_enough:
        return gain > max(error, _SMALLEST_GAIN)
    return gain > 2 * error and gain > _LARGE_GAIN * abs(float(weight @ old)) / number


def spread(x: Tensor, classes: Tensor, most: int) -> Tensor:
    """Return so many rows at most, evenly spread over each class in the order of their sums.

    Whatever the order of the rows is, they are the same elements.

    Args:
        x: Elements, ``(N, D)``.
        classes: Class of each, int64 ``(N,)``.
        most: How many.
    """
    if len(x) <= most:
        return torch.arange(len(x), device=x.device)
    # By one number of each element; sorting every column would take longer than a fit.
    order = (x.nan_to_num(0.0) if has_gaps(x) else x).sum(1).argsort(stable=True)
    order = order[classes[order].argsort(stable=True)]
    places = (
        torch.linspace(0, len(x) - 1, most, device=x.device, dtype=torch.float64).round().long()
    )
    return order[places]
