"""Means with 95 % intervals, also where values come in clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from bruno.errors import UserError
from bruno.validation import check_tensor

_NORMAL_QUANTILE = 1.959964  # 97.5 % of a standard normal


@dataclass(frozen=True)
class Estimate:
    """A mean and half the width of its 95 % interval.

    Attributes:
        mean: The mean.
        half_width: Half the width of the 95 % normal interval; infinite if only one independent
            value or cluster was seen, and 0 where all agree.
        count: How many values the mean is over.

    Example:
        >>> print(Estimate(98.312, 0.124, 33840))
        98.31 ± 0.12
    """

    mean: float
    half_width: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half_width:.2f}"

    def scaled(self, factor: float) -> Estimate:
        """Return the same estimate in another unit, ``factor`` times as large a number."""
        return Estimate(self.mean * factor, self.half_width * abs(factor), self.count)

    def to_dict(self) -> dict[str, float | int | None]:
        """Return what JSON can hold; a number that is not finite becomes ``None``."""
        return {
            "mean": _finite(self.mean),
            "half_width": _finite(self.half_width),
            "count": self.count,
        }


def estimate(values: Tensor, clusters: Tensor | None = None) -> Estimate:
    r"""Return the mean of values with its 95 % normal interval.

    Values of one cluster (say, all decisions about one character) may depend on each other in any
    way; only the clusters are taken to be independent. With :math:`G` clusters of residual sums
    :math:`u_g = \sum_{i \in g} (x_i - \bar x)` the variance of the mean of :math:`N` values is
    :math:`\frac{G}{G - 1} \sum_g u_g^2 / N^2` (Liang & Zeger 1986), which for clusters of one
    size is the usual interval from the cluster means, and for clusters of one value the usual
    interval from the values.

    Args:
        values: Numbers, shape ``(N,)`` with ``N >= 1``.
        clusters: Cluster of every value, integers of shape ``(N,)``; by default every value is a
            cluster of its own.

    Raises:
        UserError: If there are no values, or the shapes differ.

    Example:
        >>> import torch
        >>> print(estimate(torch.tensor([1.0, 2.0, 3.0, 4.0])))
        2.50 ± 1.27
    """
    check_tensor("values", values)
    if clusters is not None:
        check_tensor("clusters", clusters)
    if values.ndim != 1 or len(values) == 0:
        raise UserError(f"values: expected shape (N,) with N >= 1, got {tuple(values.shape)}")
    if clusters is not None and clusters.shape != values.shape:
        raise UserError(
            f"clusters: expected one per value, {tuple(values.shape)}, got {tuple(clusters.shape)}"
        )
    values = values.detach().cpu().double()
    mean = values.mean()
    residuals = values - mean
    if clusters is not None:
        _, members = clusters.cpu().unique(return_inverse=True)
        sums = residuals.new_zeros(int(members.max()) + 1)
        residuals = sums.index_add(0, members, residuals)
    groups = len(residuals)
    if groups == 1:
        return Estimate(float(mean), math.inf, len(values))
    variance = groups / (groups - 1) * float(residuals.square().sum()) / len(values) ** 2
    return Estimate(float(mean), _NORMAL_QUANTILE * math.sqrt(variance), len(values))


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
