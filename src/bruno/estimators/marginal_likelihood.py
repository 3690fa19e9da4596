r"""Parameters of an exchangeable process that maximise the marginal likelihood of classes.

With the noise :math:`w = v - \rho`, :math:`t = w + n \rho` and the mean :math:`\delta` and scatter
:math:`S` of a class of :math:`n` in one dimension, about :math:`\mu`,

.. math:: \beta = S / w + n \delta^2 / t, \qquad
    \log\det K = (n - 1) \log w + \log t,

so that the gradient is a dozen operations on arrays of classes and dimensions, in numpy: a graph of
gradients takes thirty times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import digamma, expit, gammaln
from threadpoolctl import ThreadpoolController
from torch import Tensor

from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess, ExchangeableStudentT

_ONE_AT_A_TIME = Lock()
# Log-normal prior of the degrees of freedom beyond 2, narrower for more dimensions, because
# correlated dimensions overstate the evidence. Where elements do not scatter at all, as in some
# direction if there are fewer of them than dimensions, the likelihood has no largest value at the
# lower end; they are kept within a range.
EXCESS = 300.0
_LARGEST_STD, _STD_TIMES_DIMENSIONS = 0.5, 2.0
_RAW_EXCESS_RANGE = (math.log(1.0), math.log(1e5))
# Converged where a thousandth of a parameter changes less than a ten-thousandth of a nat.
_ITERATIONS, _STEEPEST = 50, 3e-2
# Above this, differences of log-gamma functions lose digits that their series keeps.
_STIRLING_FROM = 1e4


@dataclass(frozen=True)
class _Classes:
    """Statistics of classes about the mean of a process, ``(K, D)`` or ``(K, 1)`` each."""

    count: np.ndarray
    scatter: np.ndarray
    squared_mean: np.ndarray


def maximise_marginal_likelihood(
    process: ExchangeableProcess, evidence: Evidence, strength: float
) -> None:
    """Set the parameters of a process to their maximum a posteriori, in place.

    The prior of both variances is inverse gamma, ``strength`` pseudo-observations of the parameters
    of the process as it comes; that of the degrees of freedom is log-normal. Degrees of freedom
    beyond its range stay as they are.

    Args:
        process: The process, at the prior values.
        evidence: The classes, of batch shape ``(K,)``.
        strength: Weight of the prior, in pseudo-observations.
    """
    dim = process.dim
    noise, covariance = (_array(values) for values in (process.noise, process.covariance))
    shift = evidence.mean - process.loc
    classes = _Classes(*map(_array, (evidence.counts, evidence.scatter, shift.square())))
    std = min(_LARGEST_STD, _STD_TIMES_DIMENSIONS / dim)
    raw = [process.raw_variance, process.raw_correlation]
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * (2 * dim)
    # In these units all are about as hard to move.
    unit = np.ones(2 * dim)
    if isinstance(process, ExchangeableStudentT):
        raw.append(process.raw_df)
        unit = np.append(unit, np.full(dim, std))
        low, high = (value / std for value in _RAW_EXCESS_RANGE)
        of_df = (_array(process.raw_df) / std).tolist()
        bounds += [(low, high) if value <= high else (value, value) for value in of_df]
        is_free = np.array(of_df) <= high

    def loss_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        first, second, *rest = (values * unit).reshape(-1, dim)
        root = np.logaddexp(0, first)
        variance, share = root**2, expit(second)
        now = variance * expit(-second), variance * share
        excess = np.exp(rest[0]) if rest else None
        loss, of_noise, of_covariance, of_excess = _loss(classes, *now, excess)
        for value, then, of_value in (
            (now[0], noise, of_noise),
            (now[1], covariance, of_covariance),
        ):
            loss += 0.5 * strength * float((np.log(value) + then / value).sum())
            of_value += 0.5 * strength * (1 - then / value) / value
        of_variance = share * of_covariance + expit(-second) * of_noise
        gradient = [
            of_variance * 2 * root * expit(first),
            (of_covariance - of_noise) * variance * share * expit(-second),
        ]
        if rest:
            distance = np.where(is_free, rest[0] - math.log(EXCESS), 0.0) / std
            loss += 0.5 * float((distance**2).sum())
            gradient.append(of_excess * np.exp(rest[0]) + distance / std)
        return loss, np.concatenate(gradient) * unit

    start = np.concatenate([_array(values) for values in raw]) / unit
    # More threads than one only wait for each other over so few numbers. Their number is that of
    # the process: who changes it has to put it back before another does.
    with _ONE_AT_A_TIME, _threads().limit(limits=1, user_api="blas"), np.errstate(all="ignore"):
        found = minimize(
            loss_and_gradient,
            start,
            method="L-BFGS-B",
            jac=True,
            bounds=bounds,
            options={"maxiter": _ITERATIONS, "gtol": _STEEPEST},
        )
    with torch.no_grad():
        for parameter, values in zip(raw, (found.x * unit).reshape(-1, dim), strict=True):
            parameter.copy_(torch.from_numpy(values))


def _loss(
    classes: _Classes, noise: np.ndarray, covariance: np.ndarray, excess: np.ndarray | None
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return the negative log-likelihood of classes, up to a constant, and its gradient.

    Args:
        classes: The classes.
        noise: Variances within classes, ``(D,)``.
        covariance: Between elements of a class, ``(D,)``.
        excess: Degrees of freedom beyond 2, ``(D,)``; None for a Gaussian process.

    Returns:
        The loss, and its derivatives by the other three arguments, ``(D,)`` each.
    """
    n = classes.count
    total = noise + n * covariance
    within, between = classes.scatter / noise, n * classes.squared_mean / total
    log_det = (n - 1) * np.log(noise) + np.log(total)
    if excess is None:
        by_beta: np.ndarray | float = 0.5
        loss = 0.5 * float((within + between + log_det).sum())
        by_excess = np.zeros_like(noise)
    else:
        df, beta = 2 + excess, within + between
        by_beta = 0.5 * (df + n) / (excess + beta)
        log_tail = np.log1p(beta / excess)
        terms = 0.5 * (log_det + (df + n) * log_tail + n * np.log(excess))
        loss = float((terms - log_gamma_ratio(df / 2, n / 2)).sum())
        growth = digamma((df + n) / 2) - digamma(df / 2)
        by_excess = 0.5 * (n / excess + log_tail - growth) - by_beta * beta / excess
        by_excess = by_excess.sum(0)
    by_noise = -by_beta * (within / noise + between / total)
    by_noise = by_noise + 0.5 * ((n - 1) / noise + 1 / total)
    by_covariance = n / total * (0.5 - by_beta * between)
    return loss, by_noise.sum(0), by_covariance.sum(0), by_excess


def log_gamma_ratio(a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    """Return log Γ(a + b) − log Γ(a), by the difference of Stirling's series for large a.

    Args:
        a: At least 1.
        b: At least 0.
    """
    ratio: np.ndarray = gammaln(a + b) - gammaln(a)
    if (a > _STIRLING_FROM).any():
        series = (a + b - 0.5) * np.log1p(b / a) + b * (np.log(a) - 1) - b / (12 * a * (a + b))
        ratio = np.where(a > _STIRLING_FROM, series, ratio)
    return ratio


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().double().cpu().numpy()
    return array


@cache
def _threads() -> ThreadpoolController:
    """Return the controller of thread pools, cached because finding them takes milliseconds."""
    return ThreadpoolController()
