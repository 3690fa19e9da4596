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
from bruno.estimators.own_covariance import OwnCovariance
from bruno.estimators.weights import evidence_of, log_prob_given, without_gaps
from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess

# Of the scatter in the direction of a residual, the largest share that is its own: without it
# little is left but the prior, and the formula divides by nearly nothing.
_LARGEST_LEVERAGE = 0.98
# A sum of weights that is this small is a rounding error.
_NOTHING = 1e-9


@dataclass(frozen=True)
class FittedCovariance:
    """How the unit of latent vectors was estimated from the elements themselves.

    Attributes:
        weight: Number of residuals, and of pseudo-observations of the prior; ``(D,)`` where it
            differs by dimension.
        full: Whether of a whole covariance matrix, or of the variance of every dimension.
    """

    weight: float | Tensor
    full: bool


def leave_one_out(
    process: ExchangeableProcess | OwnCovariance,
    z: Tensor,
    classes: Tensor,
    fitted: FittedCovariance | None,
    rows: Tensor | None = None,
    weight: Tensor | None = None,
    evidence: Evidence | None = None,
    of_shared: Tensor | None = None,
) -> Tensor:
    """Return log p(z_i | class k, without z_i) of elements and all classes, ``(M, K)``, in nats.

    Args:
        process: The process.
        z: Latent vectors, float64 ``(N, D)``; NaN where an entry is missing, but not of classes
            with covariances of their own.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1.
        fitted: The covariance that was fitted to these elements; ``None`` if none was.
        rows: The ``M`` elements to hold out, one at a time; by default all.
        weight: How often each element counts, ``(N,)``; by default once. One that counts several
            times is held out once, as one of several equal elements is.
        evidence: The evidence of all elements by class, ``(K,)``; by default it is gathered.
        of_shared: Where classes have covariances of their own, what is returned for the shared
            one; by default it is computed.
    """
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    if evidence is None:
        own = process if isinstance(process, OwnCovariance) else None
        evidence = evidence_of(z, classes, weight, own)
    if isinstance(process, OwnCovariance):
        if of_shared is None:
            alone = process.of_shared(evidence)
            of_shared = leave_one_out(process.shared, z, classes, fitted, rows, weight, alone)
        held = without_gaps(z, weight)[1].clamp_max(1)[rows, 0]
        return process.leave_one_out(z[rows], classes[rows], evidence, of_shared, held)
    scores = log_prob_given(process, z[rows], evidence)
    z, each = without_gaps(z, weight)
    held = each.clamp_max(1)
    size = chunks.rows_per_chunk(len(evidence.count) * z.shape[1], chunks.MEMORY_ELEMENTS)
    for i in torch.arange(len(rows), device=z.device).split(size):
        part, mine, once = z[rows[i]], classes[rows[i]], held[rows[i]]
        scores[i, mine] = _without_itself(process, part, evidence[mine], once)
        if fitted is not None:
            std = process.noise.sqrt()
            scores[i] -= 0.5 * _change(std, part, mine, once, evidence, fitted)
    return scores


def _without_itself(
    process: ExchangeableProcess, z: Tensor, known: Evidence, held: Tensor
) -> Tensor:
    """Return log-densities of elements given the rest of their sets, ``(N,)``.

    Args:
        process: The process.
        z: Elements, ``(N, D)``.
        known: Their sets, of batch shape ``(N,)``.
        held: How often entries are held out, ``(N, 1)`` or ``(N, D)``; missing ones 0 times.
    """
    left = (known.counts - held).clamp_min(0)
    left = torch.where(left < _NOTHING, 0.0, left)
    is_left = left > 0
    rest = torch.where(is_left, left, 1.0)
    shift = known.mean - z
    scatter = known.scatter - held * shift.square() * (1 + held / rest)
    others = Evidence(
        left if left.shape == z.shape else left[:, 0],
        torch.where(is_left, known.mean + held * shift / rest, 0.0),
        torch.where(is_left, scatter.clamp_min(0), 0.0),
    )
    terms = process.log_prob_each(z, others)
    log_prob: Tensor = torch.where(held > 0, terms, 0.0).sum(-1)
    return log_prob


def _change(
    std: Tensor,
    z: Tensor,
    own: Tensor,
    held: Tensor,
    evidence: Evidence,
    fitted: FittedCovariance,
) -> Tensor:
    """Return the growth of squared distances plus that of the log-determinant, ``(N, K)``.

    By matrix products: a tensor ``(N, K, D)`` of distances takes ten times as long.
    """
    count, rows = evidence.counts[own], torch.arange(len(z), device=z.device)
    factor = count / torch.where(count - held > _NOTHING, count - held, 1.0)
    residual = torch.where(held > 0, z - evidence.mean[own], 0.0) / std
    scaled = held * factor * residual.square() / torch.as_tensor(fitted.weight, device=z.device)
    centre = evidence.mean.mean(0)
    means, shift = (evidence.mean - centre) / std, (z - centre) / std
    if fitted.full:
        leverage = scaled.sum(1, keepdim=True).clamp_max(_LARGEST_LEVERAGE)
        size = residual.square().sum(1)
        along = (shift * residual).sum(1, keepdim=True) - residual @ means.T
        along[rows, own] = size * factor[:, 0]
        share = leverage / size.clamp_min(torch.finfo(z.dtype).tiny).unsqueeze(1)
        growth = share / (1 - leverage) * along.square()
    else:
        leverage = scaled.clamp_max(_LARGEST_LEVERAGE)
        ratio = leverage / (1 - leverage)
        growth = (ratio * shift.square()).sum(1, keepdim=True)
        growth = growth - 2 * (ratio * shift) @ means.T + ratio @ means.square().T
        growth[rows, own] = (ratio * (residual * factor).square()).sum(1)
    return growth.clamp_min(0) + torch.log1p(-leverage).sum(1, keepdim=True)
