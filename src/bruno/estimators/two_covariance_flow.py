"""The flow of a two-covariance model: a linear map that makes the covariance within classes 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bruno.estimators.encoding import check_near
from bruno.estimators.scales import standard_scale
from bruno.estimators.weights import has_gaps, without_gaps
from bruno.evidence import Evidence
from bruno.flows import RealNVP
from bruno.flows.affine import ActivationNorm, FullAffine, LowRankAffine
from bruno.flows.yeo_johnson import YeoJohnson

_Layer = TypeVar("_Layer", bound=nn.Module)

# Prior of the variance within classes, in standard units, and its weight in pseudo-observations:
# per dimension where dimensions are mixed, and in all where each is on its own.
# Chosen by log-loss with 1 to 10 examples per class on random splits of scikit-learn's small data
# sets; benchmarks/estimators.py measures on other splits.
_WITHIN = 0.6
_STRENGTH, _STRENGTH_EACH = 3.0, 10.0
_SMALLEST_BETWEEN = 0.05


@dataclass(frozen=True)
class FittedFlow:
    """The flow of a two-covariance model, which does not depend on the process behind it.

    Attributes:
        flow: The flow, in float64.
        within: Variances within classes behind it, ``(D,)``.
        between: Variances between classes, ``(D,)``.
        strength: Weight of the prior of the variances, in pseudo-observations.
        evidence: Evidence of the classes behind it, of batch shape ``(K,)``.
        number: How often entries count together, ``(D,)``.
        latent: Latent vectors ``(N, D)`` and log-determinants ``(N,)`` of the elements that it was
            fitted to; None where entries are missing.
    """

    flow: RealNVP
    within: Tensor
    between: Tensor
    strength: float
    evidence: Evidence
    number: Tensor
    latent: tuple[Tensor, Tensor] | None


def fit_flow(
    x: Tensor,
    classes: Tensor,
    *,
    full: bool,
    global_scale: bool,
    strength: float | None = None,
    power_maps: bool = False,
    weight: Tensor | None = None,
) -> FittedFlow:
    """Return the maximum a posteriori flow of a few examples of some classes.

    The scatter within and between classes is shrunk towards the prior. The order of the elements
    does not matter, nor, unless classes have an element in common, their numbers.

    Args:
        x: Elements, float64 ``(N, D)``; NaN where an entry is missing, if dimensions are not mixed.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1, none of them empty.
        full: Whether dimensions may be mixed (a flow of preset ``affine``, in O(D²) for every
            element) or are only scaled (preset ``diagonal``, in O(D)).
        global_scale: Whether all dimensions have one unit, as pixels have.
        strength: Weight of the prior of the covariance, in pseudo-observations, as
            :func:`prior_strength` returns by default.
        power_maps: Whether every dimension first goes through a Yeo-Johnson map.
        weight: How often each element counts, ``(N,)``; by default once.
    """
    filled, each = without_gaps(x, weight)
    order, classes = _in_order(filled, classes, each)
    ordered, each = filled[order], each[order]
    if strength is None:
        strength = prior_strength(x.shape[1], full=full)
    powers = YeoJohnson(x.shape[1]).double() if power_maps else None
    if powers is not None:
        powers.fit(ordered, each)
    y = ordered if powers is None else powers(ordered)[0]
    mean, std = standard_scale(y, global_scale=global_scale, weight=each)
    fit = _mixed if full else _scaled
    flow, within, between = fit(y, classes, each, mean, std, strength, power_maps)
    if powers is not None:
        _only(YeoJohnson, flow).load_state_dict(powers.state_dict())
    z, log_det = flow(ordered)
    latent = None
    if not has_gaps(x):
        check_near(z)
        place = order.argsort()
        latent = z[place], log_det[place]
    between = between.clamp_min(_SMALLEST_BETWEEN)
    evidence, number = evidence_by_class(z, classes, each), each.sum(0).expand(x.shape[1])
    return FittedFlow(flow, within, between, strength, evidence, number, latent)


def prior_strength(dim: int, *, full: bool) -> float:
    """Return the default weight of the prior of the covariance within classes.

    Args:
        dim: Dimension of the elements.
        full: Whether dimensions are mixed.

    Returns:
        A number of pseudo-observations.
    """
    return _STRENGTH * dim if full else _STRENGTH_EACH


def spans_little(number: int, dim: int) -> bool:
    """Return whether mixing only the span of the elements takes less time than mixing all.

    Args:
        number: Number of elements.
        dim: Their dimension.
    """
    return 4 * number <= dim


def evidence_by_class(z: Tensor, classes: Tensor, weight: Tensor) -> Evidence:
    """Return the evidence of every class, ``(K,)``.

    Args:
        z: Latent vectors, ``(N, D)``.
        classes: Class of each, from 0 to K − 1.
        weight: How often entries count, ``(N, 1)`` or ``(N, D)``.
    """
    return Evidence.by_class(z, classes, weight[:, 0] if weight.shape[1] == 1 else weight)


def _in_order(x: Tensor, classes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the order of elements by value, independent of the input order, and their classes.

    Few elements leave some eigenvalues equal; rounding would then choose the basis, on which a
    Student-t process depends.
    """
    first = x[:, 0].numpy()
    order = np.argsort(first)
    if (first[order[1:]] == first[order[:-1]]).any():
        order = _in_order_of_all(x, classes, weight)
    rows = torch.from_numpy(order)
    _, first, number = np.unique(classes[rows], return_index=True, return_inverse=True)
    return rows, torch.from_numpy(first.argsort().argsort()[number])


def _in_order_of_all(x: Tensor, classes: Tensor, weight: Tensor) -> np.ndarray:
    """Return the order of elements by all their numbers, classes and weights."""
    # A zero is added to make all zeros positive.
    bits = torch.cat([x, classes.unsqueeze(1).to(x), weight], 1).add(0.0).numpy().view(np.int64)
    # Big-endian and without the sign these bytes are in the order of the numbers, and rows of them
    # in that of their first difference; numpy's own sort of rows takes a hundred times as long.
    keys = np.where(bits < 0, ~bits, bits ^ np.iinfo(np.int64).min).astype(">i8")
    order: np.ndarray = np.argsort(keys.view(f"V{keys.strides[0]}").ravel())
    return order


def _scaled(
    x: Tensor,
    classes: Tensor,
    weight: Tensor,
    mean: Tensor,
    std: Tensor,
    strength: float,
    power_maps: bool,
) -> tuple[RealNVP, Tensor, Tensor]:
    """Return a flow that scales, and variances within and between classes behind it, ``(D,)``.

    Its power maps, if it has some, are to be set.
    """
    flow = RealNVP(x.shape[1:], preset="diagonal", power_maps=int(power_maps) or None).double()
    norm = _only(ActivationNorm, flow)
    with torch.no_grad():
        norm.shift.copy_(-mean)
        norm.log_scale.copy_(-std.log())
    return flow, *_variances((x - mean) / std, classes, weight, strength)


def _mixed(
    x: Tensor,
    classes: Tensor,
    weight: Tensor,
    mean: Tensor,
    std: Tensor,
    strength: float,
    power_maps: bool,
) -> tuple[RealNVP, Tensor, Tensor]:
    """Return a flow to uncorrelated dimensions, and variances, ``(D,)``, there.

    With few elements for the dimension the flow mixes their span only: outside of it all
    directions have the same variance. Its power maps, if it has some, are to be set.
    """
    number, dim = x.shape
    maps = int(power_maps) or None
    x = (x - mean).div_(std)
    if not spans_little(number, dim):
        within, between, basis, second_basis = _covariances(x, classes, weight, strength)
        flow = RealNVP((dim,), preset="affine", power_maps=maps).double()
        matrix, inverse, log_abs_det = _whitening(within.sqrt(), basis, second_basis)
        _only(FullAffine, flow).set(
            -mean,
            matrix / std.unsqueeze(1),
            inverse * std,
            log_abs_det - std.log().sum(),
        )
        return flow, torch.ones_like(between), between
    flow = RealNVP((dim,), preset="affine", rank=number, power_maps=maps).double()
    spanned = _only(LowRankAffine, flow)
    within, between, basis, second_basis = _covariances(spanned.span(x), classes, weight, strength)
    within_outside, between_outside, *_ = _covariances(
        torch.zeros_like(x[:, :1]), classes, weight, strength
    )
    outside = within_outside.sqrt()
    whitening = _whitening(within.sqrt() / outside, basis, second_basis)
    spanned.set(-mean, 1 / (std * outside), *whitening)
    between = torch.cat([between, between_outside.expand(dim - number)])
    return flow, torch.ones_like(between), between


def _covariances(
    x: Tensor, classes: Tensor, weight: Tensor, strength: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Diagonalise the covariance within and between classes of elements in standard units.

    Both are shrunk: the one within towards a multiple of the identity, the one between towards
    the rest of the total covariance, which in turn is shrunk towards the identity.

    Returns:
        Variances within, ``(D,)``, along the columns of a basis ``(D, D)``; and, where these are
        scaled to 1, variances between, along the columns of another. In the order variances
        within, variances between, basis, second basis.
    """
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    number = float(weight.sum())
    count = weight.new_zeros(int(classes.max()) + 1, 1).index_add_(0, classes, weight)
    means = x.new_zeros(len(count), x.shape[1]).index_add_(0, classes, weight * x) / count
    residuals = (x - means[classes]).mul_(weight.sqrt())
    scatter = residuals.T @ residuals
    total = (scatter + means.T @ (count * means) + strength * identity) / (number + strength)
    free = max(0.0, number - len(count))
    shrunk = (scatter + strength * _WITHIN * identity) / (free + strength)
    within, basis = torch.linalg.eigh(shrunk)
    within = within.clamp_min(torch.finfo(x.dtype).tiny)
    whitening = basis / within.sqrt()
    means = means @ whitening
    spread = means.T @ means - (1 / count).sum() * identity
    prior = whitening.T @ total @ whitening - identity
    between, second_basis = torch.linalg.eigh(
        (spread + strength * prior) / (len(means) - 1 + strength)
    )
    return within, between, basis, second_basis


def _variances(
    x: Tensor, classes: Tensor, weight: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Return the variances within and between classes, ``(D,)`` each, shrunk likewise."""
    evidence = evidence_by_class(x, classes, weight)
    counts = evidence.counts
    number, known = weight.sum(0), (counts > 0).sum(0)
    total = ((weight * x.square()).sum(0) + strength) / (number + strength)
    free = (number - known).clamp_min(0)
    within = (evidence.scatter.sum(0) + strength * _WITHIN) / (free + strength)
    errors = torch.where(counts > 0, counts.reciprocal(), 0.0).sum(0)  # of the means
    spread = torch.where(counts > 0, evidence.mean.square(), 0.0).sum(0) - within * errors
    return within, (spread + strength * (total - within)) / ((known - 1).clamp_min(0) + strength)


def _only(kind: type[_Layer], flow: RealNVP) -> _Layer:
    """Return the one layer of this kind in a flow."""
    (layer,) = (layer for layer in flow.modules() if isinstance(layer, kind))
    return layer


def _whitening(
    within: Tensor, basis: Tensor, second_basis: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a matrix ``(D, D)`` that makes standard deviations 1, its inverse and log-determinant.

    Args:
        within: Standard deviations along the columns of ``basis``, ``(D,)``.
        basis: Orthogonal, ``(D, D)``.
        second_basis: Orthogonal, to turn to when they are 1.
    """
    matrix = (basis / within) @ second_basis
    return matrix, (second_basis.T * within) @ basis.T, -within.log().sum()
