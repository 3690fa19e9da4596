r"""Leave-one-out densities of labelled elements, in closed form.

The evidence of a class without one of its elements is exact (:class:`~bruno.evidence.Evidence`), so
all elements are held out from their classes in one pass, without a second fit. The map of the
two-covariance model was fitted to them, too; the covariance within classes without one residual is
a rank-one change of the one with it, and so are its inverse (Sherman & Morrison, 1950) and its
determinant. With the residual :math:`r` of an element, in a class of :math:`n`, and in units of the
covariance of :math:`T` residuals and pseudo-observations, the squared distance along a difference
:math:`\delta` grows by

.. math:: \frac{c (\delta^\top r)^2}{T - c \, r^\top r}, \qquad c = \frac{n}{n - 1},

and the determinant shrinks by the factor :math:`1 - c \, r^\top r / T`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bruno import chunks
from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess

# Of the scatter in the direction of a residual, the largest share that is its own: without it
# little is left but the prior, and the formula divides by nearly nothing.
_LARGEST_LEVERAGE = 0.98


@dataclass(frozen=True)
class FittedCovariance:
    """How the unit of latent vectors was estimated from the elements themselves.

    Attributes:
        weight: Number of residuals, and of pseudo-observations of the prior.
        full: Whether of a whole covariance matrix, or of the variance of every dimension.
    """

    weight: float
    full: bool


def leave_one_out(
    process: ExchangeableProcess,
    z: Tensor,
    classes: Tensor,
    fitted: FittedCovariance | None,
    rows: Tensor | None = None,
) -> Tensor:
    """Return log p(z_i | class k, without z_i) of elements and all classes, ``(M, K)``, in nats.

    Args:
        process: The process.
        z: Latent vectors, float64 ``(N, D)``.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1.
        fitted: The covariance that was fitted to these elements; ``None`` if none was.
        rows: The ``M`` elements to hold out, one at a time; by default all.
    """
    evidence = Evidence.by_class(z, classes)
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    scores = process.log_prob_given(z[rows], evidence)
    size = chunks.rows_per_chunk(len(evidence.count) * z.shape[1], chunks.MEMORY_ELEMENTS)
    for i in torch.arange(len(rows), device=z.device).split(size):
        part, own = z[rows[i]], classes[rows[i]]
        scores[i, own] = _without_itself(process, part, evidence[own])
        if fitted is not None:
            scores[i] -= 0.5 * _change(process.noise.sqrt(), part, own, evidence, fitted)
    return scores


def _without_itself(process: ExchangeableProcess, z: Tensor, known: Evidence) -> Tensor:
    """Return log-densities of elements given the rest of their sets, ``(N,)``."""
    left = known.count - 1
    rest = left.clamp_min(1).double().unsqueeze(1)
    shift = known.mean - z
    scatter = known.scatter - shift.square() * (1 + 1 / rest)
    others = Evidence(
        left,
        torch.where((left > 0).unsqueeze(1), known.mean + shift / rest, 0.0),
        torch.where((left > 1).unsqueeze(1), scatter.clamp_min(0), 0.0),
    )
    log_prob: Tensor = process.predictive(others).base_dist.log_prob(z).sum(-1)
    return log_prob


def _change(
    std: Tensor, z: Tensor, own: Tensor, evidence: Evidence, fitted: FittedCovariance
) -> Tensor:
    """Return the growth of squared distances plus that of the log-determinant, ``(N, K)``."""
    count = evidence.count[own].double().unsqueeze(1)
    factor = count / (count - 1).clamp_min(1)
    residual = (z - evidence.mean[own]) / std
    distance = (z.unsqueeze(1) - evidence.mean) / std
    distance[torch.arange(len(z), device=z.device), own] = residual * factor
    scaled = factor * residual.square() / fitted.weight
    if fitted.full:
        leverage = scaled.sum(1, keepdim=True).clamp_max(_LARGEST_LEVERAGE)
        along = torch.einsum("nkd,nd->nk", distance, residual).square()
        growth = factor / fitted.weight * along / (1 - leverage)
    else:
        leverage = scaled.clamp_max(_LARGEST_LEVERAGE)
        growth = torch.einsum("nkd,nd->nk", distance.square(), leverage / (1 - leverage))
    return growth + torch.log1p(-leverage).sum(1, keepdim=True)
