"""Scales of the columns of a table, and whether they have one unit."""

from __future__ import annotations

import math

import torch
from scipy.special import gammaincinv
from torch import Tensor

from bruno import chunks

# Scales estimated from two or three rows are unreliable, and large columns vary more than small
# ones. Weight of that prior; chosen as the defaults of the two-covariance model are.
_PSEUDO_OBSERVATIONS = 1.0
_FEWEST = 2.0
# A column has another unit if its standard deviation is this multiple of the median one.
_OTHER_UNIT = 10.0
# Pixels at the border rest at the background, and vary little for that; so do units of a network.
# A column with one value in this share of the rows does not count as one that varies too little.
_AT_REST = 0.75
# The rows are few: with this probability no column of the same unit is taken for another.
_RARE = 0.01
# A column of both signs this small beside the median one is rounding, as the last of the principal
# components of a table.
_ROUNDING = 1e-12


def standard_scale(
    x: Tensor, *, global_scale: bool, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of a new element, each ``(D,)``.

    A constant dimension gets the median standard deviation, because new elements may vary in it.

    Args:
        x: Elements, float64 ``(N, D)``.
        global_scale: Whether all dimensions share one standard deviation, the root of their mean
            variance; otherwise each has its own, shrunk towards a multiple of its root mean square,
            that of the median dimension.
        weight: How often entries count, ``(N, 1)`` or ``(N, D)``; by default once.
    """
    each = torch.ones_like(x[:, :1]) if weight is None else weight
    mean, std, log_size = _moments(x, each)
    changes = std > 0
    if not bool(changes.any()):
        return mean, torch.ones_like(std)
    if global_scale:
        largest = std.max()
        return mean, largest * (std / largest).square().mean().sqrt().expand_as(mean)
    number = each.sum(0).expand_as(std)[changes]
    share = _PSEUDO_OBSERVATIONS / ((number - 1).clamp_min(0) + _PSEUDO_OBSERVATIONS)
    log_size, log_std = log_size[changes], std[changes].log()
    prior = log_size + (log_std - log_size).median()
    shrunk = torch.lerp(log_std, prior, share).exp()
    std[changes] = shrunk.clamp_max(torch.finfo(x.dtype).max)
    return mean, torch.where(changes, std, std[changes].median())


def has_one_unit(x: Tensor, weight: Tensor | None = None) -> bool:
    """Return whether the columns of a table ``(N, D)`` seem to have one unit.

    They do not if some column varies ten times as much as the median one. Nor if some column
    varies ten times less, beyond what chance does to the standard deviations of so few rows, and
    is apart from the others: its median lies outside of most columns that vary more than the
    median one, or no column varies by an amount in between. Principal components vary less and
    less, about one centre.

    Args:
        x: Elements, float64 ``(N, D)``.
        weight: How often entries count, ``(N, 1)`` or ``(N, D)``; by default once. Only standard
            deviations depend on it.
    """
    _, std, _ = _moments(x, torch.ones_like(x[:, :1]) if weight is None else weight)
    changes = std > 0
    if not bool(changes.any()):
        return True
    if not bool(changes.all()):
        x, std = x[:, changes], std[changes]
    usual = std.median()
    if not bool(std.max() < _OTHER_UNIT * usual):
        return False
    small = _much_smaller(x, std, usual)
    return not bool(small.any()) or not _is_apart(x, std, usual, small)


def _much_smaller(x: Tensor, std: Tensor, usual: Tensor) -> Tensor:
    """Return which columns vary much less than the median one, bool ``(D,)``.

    Without columns of rounding errors, and those with one value in most rows.
    """
    small = std < _largest_small(x) * usual
    if not bool(small.any()):
        return small
    is_rounding = (std < _ROUNDING * usual) & (x.amin(0) < 0) & (x.amax(0) > 0)
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


def _is_apart(x: Tensor, std: Tensor, usual: Tensor, small: Tensor) -> bool:
    """Return whether some of the small columns do not belong with the others."""
    large = x[:, std >= usual]
    middle = x[:, small].median(0).values
    begun = torch.searchsorted(large.amin(0).sort().values, middle, right=True)
    ended = torch.searchsorted(large.amax(0).sort().values, middle)
    if bool((begun - ended < large.shape[1] / 2).any()):
        return True
    next_larger = std[std >= usual / _OTHER_UNIT].min()
    return bool(std[small].max() < _largest_small(x) * next_larger)


def _moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean, standard deviation and log root mean square of every dimension, ``(D,)``.

    The standard deviation of constants is 0.
    The standard deviation of the N elements seen is too small for a new one, whose variance about
    their mean is (N + 1) / (N − 1) times theirs.
    """
    number = weight.sum(0)
    share = weight / torch.where(number == 0, 1.0, number)
    smallest, largest = torch.finfo(x.dtype).tiny, torch.finfo(x.dtype).max
    size = torch.maximum(x.amax(0), -x.amin(0)).clamp_min(smallest)
    rows = chunks.rows_per_chunk(x.shape[1], chunks.device_limit(x.device))
    parts = list(zip(x.split(rows), share.split(rows), strict=True))
    mean, variance = torch.zeros_like(size), torch.zeros_like(size)
    for part, each in parts:
        mean += _weighted_sum(each, part)
    mean /= size
    for part, each in parts:
        variance += _weighted_sum(each, (part / size).sub_(mean).square_())
    std = variance.sqrt()
    # Of weights that sum to less than those of two elements, that is not known.
    several = number.clamp_min(_FEWEST)
    std = std * ((several + 1) / (several - 1)).sqrt()
    changes = (std > 1e-12) & (std * size > smallest)
    log_size = size.log() + 0.5 * (mean.square() + variance).log()
    return mean * size, torch.where(changes, (std * size).clamp_max(largest), 0), log_size


def _weighted_sum(weight: Tensor, x: Tensor) -> Tensor:
    """Return the sums of columns ``(N, D)`` with weights ``(N, 1)`` or ``(N, D)``, ``(D,)``."""
    return weight[:, 0] @ x if weight.shape[1] == 1 else (weight * x).sum(0)
