"""Scales of the columns of a table, and whether they have one unit."""

from __future__ import annotations

import math

import torch
from scipy.special import gammaincinv
from torch import Tensor

# Scales estimated from two or three rows are unreliable, and large columns vary more than small
# ones. That is worth so many observations; chosen as the defaults of the two-covariance model are.
_WORTH_OF_SIZE = 1.0
# A column has another unit if it varies so many times as much as the median one.
_OTHER_UNIT = 10.0
# Pixels at the border rest at the background, and vary little for that; so do units of a network.
# A column with one value in this share of the rows does not count as one that varies too little.
_AT_REST = 0.75
# The rows are few: with this probability no column of the same unit is taken for another.
_RARE = 0.01
# A column of both signs this small beside the median one is rounding, as the last of the principal
# components of a table.
_ROUNDING = 1e-12


def standard_scale(x: Tensor, *, global_scale: bool) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation to expect of a new element, each ``(D,)``.

    A dimension that never changes is given the deviation of a usual one, for it may change yet.

    Args:
        x: Elements, float64 ``(N, D)``.
        global_scale: Whether to give all dimensions the same deviation, the root of their mean
            variance; otherwise each has its own, shrunk towards a share of its root mean square,
            that of the median dimension.
    """
    mean, deviation = _moments(x)
    changes = deviation > 0
    if not bool(changes.any()):
        return mean, torch.ones_like(deviation)
    if global_scale:
        largest = deviation.max()
        return mean, largest * (deviation / largest).square().mean().sqrt().expand_as(mean)
    share = _WORTH_OF_SIZE / (len(x) - 1 + _WORTH_OF_SIZE)
    size = x[:, changes].abs().amax(0)
    log_size = size.log() + 0.5 * (x[:, changes] / size).square().mean(0).log()
    log_deviation = deviation[changes].log()
    believed = log_size + (log_deviation - log_size).median()
    shrunk = torch.lerp(log_deviation, believed, share).exp()
    deviation[changes] = shrunk.clamp_max(torch.finfo(x.dtype).max)
    return mean, torch.where(changes, deviation, deviation[changes].median())


def has_one_unit(x: Tensor) -> bool:
    """Return whether the columns of a table ``(N, D)`` seem to have one unit.

    They do not if some column varies ten times as much as the median one. Nor if some column
    varies ten times less, beyond what chance does to the standard deviations of so few rows, and
    is apart from the others: its median lies outside of most columns that vary more than the
    median one, or no column varies by an amount in between. Principal components vary less and
    less, about one centre.
    """
    _, deviation = _moments(x)
    changes = deviation > 0
    if not bool(changes.any()):
        return True
    x, deviation = x[:, changes], deviation[changes]
    usual = deviation.median()
    if not bool(deviation.max() < _OTHER_UNIT * usual):
        return False
    small = _much_smaller(x, deviation, usual)
    return not bool(small.any()) or not _is_apart(x, deviation, usual, small)


def _much_smaller(x: Tensor, deviation: Tensor, usual: Tensor) -> Tensor:
    """Return which columns vary much less than the median one, without a reason, bool ``(D,)``."""
    small = deviation < _largest_small(x) * usual
    is_rounding = (deviation < _ROUNDING * usual) & (x.amin(0) < 0) & (x.amax(0) > 0)
    small &= ~is_rounding
    ordered = x[:, small].sort(0).values
    rest = math.ceil(_AT_REST * len(x))
    small[small.clone()] = ~(ordered[rest - 1 :] == ordered[: len(x) - rest + 1]).any(0)
    return small


def _largest_small(x: Tensor) -> float:
    """Return the share of the median standard deviation below which a column varies too little.

    Times the quantile, for as many columns, of the standard deviation of as many normal rows.
    """
    degrees = max(1, len(x) - 1)
    least = 2 * float(gammaincinv(degrees / 2, _RARE / x.shape[1])) / degrees
    return math.sqrt(least) / _OTHER_UNIT


def _is_apart(x: Tensor, deviation: Tensor, usual: Tensor, small: Tensor) -> bool:
    """Return whether some of the small columns do not belong with the others."""
    large = x[:, deviation >= usual]
    middle = x[:, small].median(0).values
    begun = torch.searchsorted(large.amin(0).sort().values, middle, right=True)
    ended = torch.searchsorted(large.amax(0).sort().values, middle)
    if bool((begun - ended < large.shape[1] / 2).any()):
        return True
    next_larger = deviation[deviation >= usual / _OTHER_UNIT].min()
    return bool(deviation[small].max() < _largest_small(x) * next_larger)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation of every dimension, ``(D,)``; 0 where it hardly changes.

    The deviation of the N elements seen is too small for a new one, whose variance about their
    mean is (N + 1) / (N − 1) times theirs.
    """
    number = len(x)
    smallest, largest = torch.finfo(x.dtype).tiny, torch.finfo(x.dtype).max
    size = x.abs().amax(0).clamp_min(smallest)
    mean = (x / size).mean(0)
    deviation = (x / size - mean).square().mean(0).sqrt()
    if number > 1:
        deviation = deviation * math.sqrt((number + 1) / (number - 1))
    changes = (deviation > 1e-12) & (deviation * size > smallest)
    return mean * size, torch.where(changes, (deviation * size).clamp_max(largest), 0)
