r"""The two-covariance model: one covariance between classes, another within classes.

Elements are :math:`x = \mu + y_c + \varepsilon` with :math:`y_c \sim N(0, B)` for every class and
:math:`\varepsilon \sim N(0, W)` for every element (Ioffe, *Probabilistic Linear Discriminant
Analysis*, ECCV 2006; Brümmer & de Villiers, *The Speaker Partitioning Problem*, Odyssey 2010). One
linear map makes :math:`W` the identity and :math:`B` diagonal, which leaves an exchangeable process
in every dimension, with :math:`\rho = B_{dd}` and :math:`v = 1 + B_{dd}`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bruno.estimators.marginal_likelihood import EXCESS, maximise_marginal_likelihood
from bruno.estimators.scales import standard_scale
from bruno.estimators.weights import without_gaps
from bruno.evidence import Evidence
from bruno.flows import RealNVP
from bruno.flows.affine import ActivationNorm, FullAffine, LowRankAffine
from bruno.flows.yeo_johnson import YeoJohnson
from bruno.model import Bruno
from bruno.processes import PROCESSES, ExchangeableProcess

_Layer = TypeVar("_Layer", bound=nn.Module)

# Prior of the variance within classes, in standard units, and its weight in pseudo-observations:
# per dimension where dimensions are mixed, and in all where each is on its own.
# Chosen by log-loss with 1 to 10 examples per class on random splits of scikit-learn's small data
# sets; benchmarks/estimators.py measures on other splits.
_WITHIN = 0.6
_STRENGTH, _STRENGTH_EACH = 3.0, 10.0
_SMALLEST_BETWEEN = 0.05
# Mean square, in units of the variance within classes, below which a direction has no scatter but
# rounding errors; and the degrees of freedom, beyond 2, of a Student-t process that is a Gaussian.
_NO_SCATTER, _GAUSSIAN_EXCESS = 1e-9, 1e12


def fit_two_covariance(
    x: Tensor,
    classes: Tensor,
    process: str,
    *,
    full: bool,
    global_scale: bool,
    strength: float | None = None,
    power_maps: bool = False,
    weight: Tensor | None = None,
) -> Bruno:
    """Return the maximum a posteriori two-covariance model of a few examples of some classes.

    The scatter within and between classes is shrunk towards the prior; then variance, covariance
    and degrees of freedom of every latent dimension maximise the marginal likelihood of the
    classes times that prior (empirical Bayes). The order of the
    elements does not matter, nor, unless classes have an element in common, their numbers.

    Args:
        x: Elements, float64 ``(N, D)``; NaN where an entry is missing, if dimensions are not mixed.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1, none of them empty.
        process: ``gaussian`` or ``student_t``.
        full: Whether dimensions may be mixed (a flow of preset ``affine``, in O(D²) for every
            element) or are only scaled (preset ``diagonal``, in O(D)).
        global_scale: Whether all dimensions have one unit, as pixels have.
        strength: Weight of the prior of the covariance, in pseudo-observations, as
            :func:`prior_strength` returns by default.
        power_maps: Whether every dimension first goes through a Yeo-Johnson map.
        weight: How often each element counts, ``(N,)``; by default once.

    Returns:
        A model with its flow in float64.
    """
    x, each = without_gaps(x, weight)
    order, classes = _in_order(x, classes, each)
    x, each = x[order], each[order]
    if strength is None:
        strength = prior_strength(x.shape[1], full=full)
    flow, z, within, between = _flow_to_latent(
        x, classes, each, strength, full=full, global_scale=global_scale, power_maps=power_maps
    )
    between = between.clamp_min(_SMALLEST_BETWEEN)
    start = {"variance": within + between, "covariance": between}
    if process == "student_t":
        start["df"] = torch.full_like(between, 2 + EXCESS)
    fitted = _fitted_process(PROCESSES[process], start, z, classes, each, strength)
    return Bruno(flow, fitted).requires_grad_(False)


def prior_strength(dim: int, *, full: bool) -> float:
    """Return the default weight of the prior of the covariance within classes.

    Args:
        dim: Dimension of the elements.
        full: Whether dimensions are mixed.

    Returns:
        A number of pseudo-observations.
    """
    return _STRENGTH * dim if full else _STRENGTH_EACH


def _flow_to_latent(
    x: Tensor,
    classes: Tensor,
    weight: Tensor,
    strength: float,
    *,
    full: bool,
    global_scale: bool,
    power_maps: bool,
) -> tuple[RealNVP, Tensor, Tensor, Tensor]:
    """Return a flow, the latent vectors of the elements, and variances within and between there."""
    powers = YeoJohnson(x.shape[1]).double() if power_maps else None
    if powers is not None:
        powers.fit(x, weight)
    y = x if powers is None else powers(x)[0]
    mean, std = standard_scale(y, global_scale=global_scale, weight=weight)
    fit = _mixed if full else _scaled
    flow, within, between = fit(y, classes, weight, mean, std, strength, power_maps)
    if powers is not None:
        _only(YeoJohnson, flow).load_state_dict(powers.state_dict())
    return flow, flow(x)[0], within, between


def _fitted_process(
    kind: type[ExchangeableProcess],
    start: dict[str, Tensor],
    z: Tensor,
    classes: Tensor,
    weight: Tensor,
    strength: float,
) -> ExchangeableProcess:
    """Return a process of maximum a posteriori parameters, without evidence where nothing varies.

    A direction in which no element of any class scatters, as there are with collinear columns or
    few elements, does not show how much classes differ in variance: there a Student-t process
    would predict the smaller a variance, the more elements a class has, and so find the largest
    class the most probable for everything. Its degrees of freedom are infinite there. Where there
    are enough elements for their dimension and yet none differ in a direction, it is redundant, and
    the covariance between elements is 0, too: all classes predict the same.

    Args:
        kind: The process.
        start: Its parameters at the prior values, ``(D,)`` each.
        z: Latent vectors, ``(N, D)``.
        classes: Class of each.
        weight: How often entries count, ``(N, 1)`` or ``(N, D)``.
        strength: Weight of the prior, in pseudo-observations.
    """
    dim = z.shape[1]
    evidence = evidence_by_class(z, classes, weight)
    number = weight.sum(0).expand(dim)
    still = evidence.scatter.sum(0) <= _NO_SCATTER * number
    mean = (weight * z).sum(0) / number.clamp_min(torch.finfo(z.dtype).tiny)
    total = (weight * (z - mean).square()).sum(0)
    redundant = still & (total <= _NO_SCATTER * number) & ((number > dim) | (number == 0))
    if "df" in start:
        start["df"] = torch.where(still, 2 + _GAUSSIAN_EXCESS, start["df"])
    varies = torch.nonzero(~redundant).flatten()
    if len(varies) == dim:
        process = kind.from_parameters(**start)
        maximise_marginal_likelihood(process, evidence, strength)
        return process
    # The maximum in a direction where all residuals are 0 and elements are independent.
    start["variance"] = torch.where(redundant, strength / (strength + number), start["variance"])
    start["covariance"] = torch.where(redundant, 0.0, start["covariance"])
    if len(varies):
        part = kind.from_parameters(**{name: value[varies] for name, value in start.items()})
        count = evidence.count[:, varies] if evidence.counts_differ else evidence.count
        seen = Evidence(count, evidence.mean[:, varies], evidence.scatter[:, varies])
        maximise_marginal_likelihood(part, seen, strength)
        for name in start:
            start[name] = start[name].index_copy(0, varies, getattr(part, name).detach())
    return kind.from_parameters(**start)


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
    # A zero is added to make all zeros positive.
    bits = torch.cat([x, classes.unsqueeze(1).to(x), weight], 1).add(0.0).numpy().view(np.int64)
    # Big-endian and without the sign these bytes are in the order of the numbers, and rows of them
    # in that of their first difference; numpy's own sort of rows takes a hundred times as long.
    keys = np.where(bits < 0, ~bits, bits ^ np.iinfo(np.int64).min).astype(">i8")
    order = torch.from_numpy(np.argsort(keys.view(f"V{keys.strides[0]}").ravel()))
    _, first, number = np.unique(classes[order], return_index=True, return_inverse=True)
    return order, torch.from_numpy(first.argsort().argsort()[number])


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
    x = (x - mean) / std
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
    evidence = evidence_by_class(x, classes, weight)
    residuals = (x - evidence.mean[classes]).mul_(weight.sqrt())
    scatter = residuals.T @ residuals
    of_means = evidence.mean.T @ (evidence.counts * evidence.mean)
    total = (scatter + of_means + strength * identity) / (number + strength)
    free = max(0.0, number - len(evidence.count))
    shrunk = (scatter + strength * _WITHIN * identity) / (free + strength)
    within, basis = torch.linalg.eigh(shrunk)
    within = within.clamp_min(torch.finfo(x.dtype).tiny)
    whitening = basis / within.sqrt()
    means = evidence.mean @ whitening
    spread = means.T @ means - (1 / evidence.count.double()).sum() * identity
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
