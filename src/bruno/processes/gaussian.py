"""The exchangeable Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from bruno.evidence import Evidence
from bruno.processes.base import ExchangeableProcess, standard_normal

_LOG_TWO_PI = math.log(2 * math.pi)


class ExchangeableGaussian(ExchangeableProcess):
    r"""Exchangeable Gaussian process; see :class:`ExchangeableProcess` for shapes.

    Example:
        >>> process = ExchangeableGaussian.from_parameters(variance=torch.ones(1), covariance=0.5)
        >>> predictive = process.predictive(Evidence.of(torch.tensor([[2.0]])))
        >>> predictive.mean, predictive.variance
        (tensor([1.], ...), tensor([0.7500], ...))
    """

    def _distribution(self, mean: Tensor, gaussian_variance: Tensor, _: Evidence) -> Normal:
        return Normal(mean, gaussian_variance.sqrt(), validate_args=False)

    def _standard_draws(
        self,
        distribution: Any,
        sample_shape: Sequence[int],
        generator: torch.Generator | None,
    ) -> Tensor:
        return standard_normal(distribution.mean, sample_shape, generator)

    def log_prob_of(self, evidence: Evidence) -> Tensor:
        """Return the joint log-density of the sets behind evidence, in nats, shape ``(*B,)``."""
        self._check_dim(evidence.dim, "evidence")
        n = evidence.count.unsqueeze(-1).double()
        terms = self._quadratic_form(evidence) + self._log_determinant(evidence.count)
        return -0.5 * (terms + n * _LOG_TWO_PI).sum(-1)

    def log_prob_given(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log-densities ``(Q, K)`` of every query given every set, as matrix products."""
        z = self._checked_queries(z, evidence)
        mean, variance = self._gaussian_predictive(evidence)
        # Σ_d (z − m)²/s² = Σ z²/s² − 2 Σ z m/s² + Σ m²/s²; about a common centre, so that
        # the three sums do not cancel when everything lies far from 0.
        centre = mean.mean(0, keepdim=True) if mean.shape[0] else self.loc
        z, mean = z - centre, mean - centre
        precision = variance.reciprocal()
        squares = z.square() @ precision.T - 2 * z @ (mean * precision).T
        constant = (mean.square() * precision + variance.log() + _LOG_TWO_PI).sum(-1)
        return -0.5 * (squares + constant)
