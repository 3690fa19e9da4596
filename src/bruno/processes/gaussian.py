"""The exchangeable Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from bruno import chunks
from bruno.evidence import Evidence
from bruno.processes.base import ExchangeableProcess, standard_normal
from bruno.validation import values_can_be_checked

_LOG_TWO_PI = math.log(2 * math.pi)
# Mean square, in standard deviations and over dimensions, up to which squares lose no digits that
# matter when they cancel: about 1e-10 nats for every dimension.
_FAR = 1e6


class ExchangeableGaussian(ExchangeableProcess):
    r"""Exchangeable Gaussian process; see :class:`ExchangeableProcess` for shapes.

    Example:
        >>> process = ExchangeableGaussian.from_parameters(variance=torch.ones(1), covariance=0.5)
        >>> predictive = process.predictive(Evidence.of(torch.tensor([[2.0]])))
        >>> predictive.mean, predictive.variance
        (tensor([1.], ...), tensor([0.7500], ...))
    """

    @property
    def is_informed(self) -> Tensor:
        """Whether the predictive of a dimension depends on what was observed, bool ``(D,)``."""
        return self.correlation > 0

    def _distribution(self, mean: Tensor, gaussian_variance: Tensor, _: Evidence) -> Normal:
        return Normal(mean, gaussian_variance.sqrt(), validate_args=False)

    def standard_cdf(self, distribution: Any, t: Tensor) -> Tensor:  # noqa: ARG002
        """Return cumulative probabilities of the standard normal distribution.

        Args:
            distribution: The distribution whose standard form is meant.
            t: Values, in units of its scale.
        """
        return 0.5 * torch.erfc(-math.sqrt(0.5) * t)  # torch's ndtr has no digits below -8

    def standard_icdf(self, distribution: Any, p: Tensor) -> Tensor:  # noqa: ARG002
        """Return quantiles of the standard normal distribution.

        Args:
            distribution: The distribution whose standard form is meant.
            p: Probabilities, in (0, 1).
        """
        quantiles: Tensor = torch.special.ndtri(p)
        return quantiles

    def _standard_draws(
        self,
        distribution: Any,
        sample_shape: Sequence[int],
        generator: torch.Generator | None,
    ) -> Tensor:
        return standard_normal(distribution.mean, sample_shape, generator)

    def log_prob_of(self, evidence: Evidence) -> Tensor:
        """Return the joint log-density of the sets behind evidence, in nats, shape ``(*B,)``."""
        self._check_evidence(evidence)
        n = evidence.counts
        terms = self._quadratic_form(evidence) + self._log_determinant(n)
        return -0.5 * (terms + n * _LOG_TWO_PI).sum(-1)

    def log_prob_given(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log-densities ``(Q, K)`` of every query given every set, as matrix products.

        Args:
            z: Queries, ``(Q, D)``.
            evidence: Sets, of batch shape ``(K,)``.
        """
        z = self._checked_queries(z, evidence)
        if not values_can_be_checked(z):
            return _about_one_centre(z, *self._gaussian_predictive(evidence))
        if not len(evidence.count):
            return z.new_zeros(len(z), 0)
        mean, variance = self._gaussian_predictive(evidence)
        # Σ_d (z − m)²/s² = Σ z²/s² − 2 Σ z m/s² + Σ m²/s²; about a common centre, so that the
        # three sums do not cancel when everything lies far from 0. No set moves a median far.
        centre = mean.detach().median(0).values
        from_centre, shift = z - centre, mean - centre
        precision = variance.reciprocal()
        size = (shift.square() * precision).sum(-1)
        normaliser = (variance.log() + _LOG_TWO_PI).sum(-1)
        # The precision depends on a set through its counts only: one row for all that share them.
        counts, count_of_set = evidence.counts.unique(return_inverse=True, dim=0)
        one_of_count = torch.zeros_like(counts[:, 0], dtype=torch.int64).scatter_(
            0, count_of_set, torch.arange(len(count_of_set), device=counts.device)
        )
        squares = from_centre.square() @ precision[one_of_count].T
        log_prob = torch.addmm(
            -0.5 * (size + normaliser), from_centre, (shift * precision).T
        ) - 0.5 * (squares if len(counts) == 1 else squares[:, count_of_set])
        # A query and a set that both lie far from the centre are compared directly.
        queries, sets = (
            torch.nonzero(squared > _FAR * self.dim).flatten()
            for squared in (from_centre.square().mv(precision.amax(0)), size)
        )
        if not len(queries) or not len(sets):
            return log_prob
        rows = chunks.rows_per_chunk(len(sets) * self.dim, chunks.MEMORY_ELEMENTS)
        distances = [
            ((part.unsqueeze(1) - mean[sets]).square() * precision[sets]).sum(-1)
            for part in z[queries].split(rows)
        ]
        exact = -0.5 * (torch.cat(distances) + normaliser[sets])
        return log_prob.index_put((queries.unsqueeze(1), sets), exact)


def _about_one_centre(z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return log-densities ``(Q, K)`` by matrix products whose shapes depend on no value.

    For graphs that are compiled or exported. Digits are lost for queries and sets that both lie
    some thousands of standard deviations from the mean of the sets.
    """
    centre = mean.mean(0)
    from_centre, shift = z - centre, mean - centre
    precision = variance.reciprocal()
    of_set = (shift.square() * precision + variance.log() + _LOG_TWO_PI).sum(-1)
    squares = from_centre.square() @ precision.T
    return from_centre @ (shift * precision).T - 0.5 * (squares + of_set)
