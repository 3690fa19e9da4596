"""Elements that count by weights, and entries of them that are missing, which count nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bruno import chunks
from bruno.errors import UserError
from bruno.estimators.own_covariance import OwnCovariance
from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess


def checked_weights(sample_weight: Any, number: int) -> np.ndarray | None:
    """Return one weight for each element, ``(N,)``; None if all are 1 by default.

    Args:
        sample_weight: How often each element counts: numbers of at least 0, one number for all, or
            None.
        number: How many elements there are.

    Raises:
        UserError: If these are not so many finite numbers of at least 0.
    """
    if sample_weight is None:
        return None
    try:
        weight = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        weight = np.full((), np.nan)
    if weight.ndim == 0:
        weight = np.full(number, weight)
    if weight.shape != (number,) or not (np.isfinite(weight) & (weight >= 0)).all():
        raise UserError(
            f"sample_weight: expected a number of at least 0 for each of {number} samples, got "
            f"shape {weight.shape} with values {sample_weight!r}"
        )
    return weight


def weights_beside(weight: np.ndarray | None, z: Tensor) -> Tensor | None:
    """Return weights as a tensor on the device of latent vectors; None stays None.

    Args:
        weight: Weights, ``(N,)``.
        z: Latent vectors, ``(N, D)``.
    """
    return None if weight is None else torch.from_numpy(weight).to(z.device)


def has_gaps(x: Tensor) -> bool:
    """Return whether entries are missing in elements ``(..., D)``, as NaN."""
    # Without gaps the sum is a number, short of overflow; it is the faster question.
    return not math.isfinite(x.sum()) and bool(x.isnan().any())


def without_gaps(x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return elements without missing entries, and the weights of all entries.

    Args:
        x: Elements, ``(N, D)``; NaN where an entry is missing.
        weight: How often each counts, ``(N,)``; by default once.

    Returns:
        Elements in which the least number of its column replaces a missing entry, whatever the
        order of the rows is, and weights, ``(N, 1)``, or ``(N, D)`` with 0 for missing entries.
    """
    each = torch.ones_like(x[:, 0]) if weight is None else weight
    each = each.unsqueeze(1)
    if not has_gaps(x):
        return x, each
    missing = x.isnan()
    least = torch.where(missing, torch.inf, x).amin(0)
    least = torch.where(least.isinf(), 0.0, least)
    return torch.where(missing, least, x), torch.where(missing, 0.0, each)


def evidence_of(
    z: Tensor,
    classes: Tensor,
    weight: Tensor | None = None,
    own: OwnCovariance | None = None,
    number: int | None = None,
) -> Evidence:
    """Return the evidence of every class, ``(K,)``.

    Args:
        z: Latent vectors, ``(N, D)``; NaN where an entry is missing.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1.
        weight: How often each counts, ``(N,)``; by default once.
        own: Whose statistics of the latent vectors, ``(N, M)``, evidence is gathered of; by default
            of the latent vectors themselves.
        number: How many classes there are, ``K``; by default up to the last one that occurs.
    """
    if own is not None:
        return _padded(own.evidence_of(z, classes, weight), number)
    if not has_gaps(z):
        return Evidence.by_class(z, classes, weight)
    each = torch.ones_like(z) if weight is None else weight.unsqueeze(1).expand_as(z)
    return Evidence.by_class(z.nan_to_num(0.0), classes, torch.where(z.isnan(), 0.0, each))


def evidence_of_one(
    z: Tensor, weight: Tensor | None = None, own: OwnCovariance | None = None
) -> Evidence:
    """Return the evidence of one set, of batch shape ``()``.

    Args:
        z: Latent vectors, ``(N, D)``; NaN where an entry is missing.
        weight: How often each counts, ``(N,)``; by default once.
        own: As for :func:`evidence_of`.
    """
    if own is None and weight is None and not has_gaps(z):
        return Evidence.of(z)
    return evidence_of(z, torch.zeros(len(z), dtype=torch.int64, device=z.device), weight, own)[0]


def _padded(evidence: Evidence, number: int | None) -> Evidence:
    """Return evidence of so many sets, the last of which may be empty; by default as it is."""
    missing = 0 if number is None else number - len(evidence.mean)
    if not missing:
        return evidence
    nothing = evidence.mean.new_zeros(missing, evidence.dim)
    return Evidence(
        torch.cat([evidence.count, evidence.count.new_zeros(missing)]),
        torch.cat([evidence.mean, nothing]),
        torch.cat([evidence.scatter, nothing]),
    )


def log_prob_given(
    process: ExchangeableProcess | OwnCovariance, z: Tensor, evidence: Evidence
) -> Tensor:
    """Return log-densities ``(Q, K)`` of the entries of queries that are not missing.

    Dimensions are independent, so that leaving one out integrates over it exactly.

    Args:
        process: The process.
        z: Queries, ``(Q, D)``; NaN where an entry is missing.
        evidence: Sets, of batch shape ``(K,)``.
    """
    if isinstance(process, OwnCovariance) or not has_gaps(z):
        return process.log_prob_given(z, evidence)
    missing = z.isnan()
    predictive = process.predictive(evidence).base_dist
    size = chunks.rows_per_chunk(len(evidence.mean) * z.shape[1], chunks.MEMORY_ELEMENTS)
    parts = []
    for part, gaps in zip(z.split(size), missing.split(size), strict=True):
        terms = predictive.log_prob(part.nan_to_num(0.0).unsqueeze(1))
        parts.append(torch.where(gaps.unsqueeze(1), 0.0, terms).sum(-1))
    return torch.cat(parts)


def log_prob_of_new(process: ExchangeableProcess | OwnCovariance, z: Tensor) -> Tensor:
    """Return log-densities ``(Q,)`` of first elements of unknown sets, likewise.

    Args:
        process: The process.
        z: Elements, ``(Q, D)``; NaN where an entry is missing.
    """
    if isinstance(process, OwnCovariance) or not has_gaps(z):
        return process.log_prob(z.unsqueeze(1))
    nothing = Evidence.empty(process.dim, (1,), device=z.device)
    return log_prob_given(process, z, nothing)[:, 0]


def number_of(evidence: Evidence) -> Tensor:
    """Return how many elements sets have, in the dimension with the fewest missing, ``(*B,)``."""
    return evidence.counts.amax(-1)


def weighted_quantile(values: np.ndarray, share: float, weight: np.ndarray | None) -> float:
    """Return a quantile, as numpy's of values that are repeated as often as they weigh.

    Args:
        values: Numbers, ``(N,)``.
        share: The share of them that lies below, from 0 to 1.
        weight: How often each counts, positive, ``(N,)``; by default once.
    """
    if weight is None:
        return float(np.quantile(values, share))
    order = np.argsort(values)
    up_to = np.cumsum(weight[order])
    place = share * max(0.0, up_to[-1] - 1)
    below, above = np.floor(place), np.floor(place) + 1
    rows = np.searchsorted(up_to, [below, above], side="right").clip(0, len(values) - 1)
    low, high = values[order][rows]
    return float(low + (place - below) * (high - low))
