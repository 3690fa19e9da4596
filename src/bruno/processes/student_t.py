"""The exchangeable Student-t process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import torch
from scipy import special
from torch import Tensor, nn
from torch.distributions import StudentT
from torch.utils.checkpoint import checkpoint

from bruno import chunks
from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.processes.base import ExchangeableProcess, standard_normal
from bruno.processes.parameters import as_vectors
from bruno.validation import values_can_be_checked

# Above this the term of Stirling's series that is left out is below 1e-14.
_STIRLING_FROM = 1e4


class ExchangeableStudentT(ExchangeableProcess):
    r"""Exchangeable Student-t process with :math:`\nu > 2` degrees of freedom per dimension.

    Given :math:`n` elements the next has :math:`\nu + n` degrees of freedom, the mean of the
    Gaussian and :math:`(\nu + \beta - 2) / (\nu + n - 2)` times its variance (Shah, Wilson &
    Ghahramani, AISTATS 2014): unlike the Gaussian it learns from a set how much sets like it
    vary. :math:`\nu = 2 + \exp(\cdot)`, starting at 1000; :math:`\nu \to \infty` is the Gaussian.

    Example:
        >>> process = ExchangeableStudentT.from_parameters(
        ...     variance=torch.ones(1), covariance=0.5, df=4.0)
        >>> process.predictive(Evidence.of(torch.tensor([[2.0]]))).variance
        tensor([1.5000], ...)
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.raw_df = nn.Parameter(torch.full_like(self.loc, math.log(998.0)))

    @classmethod
    def from_parameters(
        cls,
        variance: Tensor | float,
        covariance: Tensor | float,
        loc: Tensor | float = 0.0,
        df: Tensor | float = 1000.0,
    ) -> Self:
        r"""Return a process with the given parameters in natural units.

        Args:
            variance: :math:`v > 0`, the actual variance, shape ``(D,)``, or a scalar.
            covariance: :math:`0 \le \rho < v`, shape ``(D,)``, or a scalar.
            loc: Mean :math:`\mu`, shape ``(D,)``, or a scalar.
            df: Degrees of freedom :math:`\nu > 2`, shape ``(D,)``, or a scalar.

        Raises:
            UserError: If a parameter is not finite or out of range, or the shapes do not agree.
        """
        values = as_vectors(variance=variance, covariance=covariance, loc=loc, df=df)
        process = cls(values["variance"].shape[0])
        process._set_covariance(values["variance"], values["covariance"])
        process.loc.copy_(values["loc"])
        if not bool((values["df"] > 2).all()):
            raise UserError(
                f"df: expected more than 2 degrees of freedom, got {values['df'].min():g}"
            )
        with torch.no_grad():
            process.raw_df.copy_((values["df"] - 2).log())
        return process

    @property
    def df(self) -> Tensor:
        r"""Degrees of freedom :math:`\nu`, shape ``(D,)``, float64."""
        return 2 + self.raw_df.double().exp()

    def _inflation(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Return the updated degrees of freedom and the factor on the Gaussian's variances."""
        n = evidence.counts
        excess = self.raw_df.double().exp()  # ν − 2
        return 2 + excess + n, (excess + self._quadratic_form(evidence)) / (excess + n)

    def _distribution(
        self, mean: Tensor, gaussian_variance: Tensor, evidence: Evidence
    ) -> StudentT:
        df, inflation = self._inflation(evidence)
        scale = _scale_of(gaussian_variance * inflation, df)
        return _StudentT(df, mean, scale, validate_args=False)

    def standard_cdf(self, distribution: Any, t: Tensor) -> Tensor:
        """Return cumulative probabilities of Student-t distributions, without gradients.

        Args:
            distribution: The distribution whose standard form is meant.
            t: Values, in units of its scale.
        """
        df, t = torch.broadcast_tensors(distribution.df, t)
        return torch.as_tensor(
            special.stdtr(df.numpy(force=True), t.numpy(force=True)), device=t.device, dtype=t.dtype
        )

    def standard_icdf(self, distribution: Any, p: Tensor) -> Tensor:
        """Return quantiles of Student-t distributions, without gradients.

        Args:
            distribution: The distribution whose standard form is meant.
            p: Probabilities, in (0, 1).
        """
        df, p = torch.broadcast_tensors(distribution.df, p)
        # From the nearer tail, where probabilities have all their digits.
        tail = torch.minimum(p, 1 - p).numpy(force=True)
        distance = torch.as_tensor(
            special.stdtrit(df.numpy(force=True), tail), device=p.device, dtype=p.dtype
        ).abs()
        return torch.where(p < 0.5, -distance, distance)

    def _standard_draws(
        self,
        distribution: Any,
        sample_shape: Sequence[int],
        generator: torch.Generator | None,
    ) -> Tensor:
        normal = standard_normal(distribution.mean, sample_shape, generator)
        half: Tensor = (distribution.df / 2).expand(normal.shape)
        draws: Tensor = normal * (_gamma(half, generator) / half).rsqrt()
        return draws

    def log_prob_of(self, evidence: Evidence) -> Tensor:
        """Return the joint log-density of the sets behind evidence, in nats, shape ``(*B,)``."""
        self._check_evidence(evidence)
        n = evidence.counts
        excess = self.raw_df.double().exp()  # ν − 2
        df = 2 + excess
        terms = (
            _log_gamma_ratio(df / 2, n / 2)
            - 0.5 * n * (excess.log() + math.log(math.pi))
            - 0.5 * self._log_determinant(n)
            - 0.5 * (df + n) * torch.log1p(self._quadratic_form(evidence) / excess)
        )
        return terms.sum(-1)

    def log_prob_each(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log-densities of elements, each given a set of its own, by dimension.

        Args:
            z: Elements, ``(N, D)``.
            evidence: Sets, of batch shape ``(N,)``.
        """
        if evidence.counts_differ:
            return super().log_prob_each(z, evidence)
        # Logarithms of the gamma function take longest, and sets of one size share them.
        sizes, of_size = evidence.count.unique(return_inverse=True)
        constant = _constant(self.df + sizes.unsqueeze(1))[of_size]
        log_prob: Tensor = self.predictive(evidence).base_dist.log_prob(z, constant)
        return log_prob

    def log_prob_given(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log-densities ``(Q, K)`` of every query given every set, a block at a time.

        The logarithm per dimension leaves no matrix product. Memory stays bounded in training,
        too, because a block's temporaries are computed again in the backward pass.

        Args:
            z: Queries, ``(Q, D)``.
            evidence: Sets, of batch shape ``(K,)``.
        """
        z = self._checked_queries(z, evidence)
        predictive = self.predictive(evidence).base_dist
        mean, df, scale = predictive.loc, predictive.df, predictive.scale
        constant = (_constant(df) - scale.log()).sum(-1)
        # Σ_d (df+1)/2 log(1 + t²/df) with t = (z − mean)/scale: everything that does not depend
        # on the query is folded into one offset and one factor per set.
        factor = (scale * df.sqrt()).reciprocal()
        offset, power = mean * factor, 0.5 * (df + 1)
        if not values_can_be_checked(z):  # no blocks: their number would depend on the batch
            at_once: Tensor = constant - _log_tails(z, factor, offset, power)
            return at_once
        most = chunks.device_limit(z.device)
        sets = max(1, min(len(mean), chunks.rows_per_chunk(self.dim, most)))
        rows = chunks.rows_per_chunk(sets * self.dim, most)
        tails = partial(checkpoint, _log_tails, use_reentrant=False, preserve_rng_state=False)
        of_block = tails if torch.is_grad_enabled() else _log_tails
        blocks = list(zip(factor.split(sets), offset.split(sets), power.split(sets), strict=True))
        if not len(z) or not blocks:
            return z.new_zeros(len(z), len(mean))
        of_queries = [
            torch.cat([of_block(part, *block) for block in blocks], 1) for part in z.split(rows)
        ]
        log_prob: Tensor = constant - torch.cat(of_queries)
        return log_prob


class _StudentT(StudentT):
    """Torch's distribution, with a density that keeps its digits for many degrees of freedom."""

    @property
    def variance(self) -> Tensor:
        """The variance without assignments, which ``vmap`` lacks; there are more than 2 df."""
        return self.scale.square() * self.df / (self.df - 2)

    def log_prob(self, value: Tensor, constant: Tensor | None = None) -> Tensor:
        """Return log-densities; ``constant`` is the part of ``df`` alone, where it is known."""
        squared = ((value - self.loc) / self.scale).square()
        return (
            (_constant(self.df) if constant is None else constant)
            - self.scale.log()
            - 0.5 * (self.df + 1) * torch.log1p(squared / self.df)
        )


def _constant(df: Tensor) -> Tensor:
    """Return the part of the log-density of scale 1 that depends on the degrees of freedom only."""
    return _log_gamma_ratio(df / 2, 0.5) - 0.5 * (df * math.pi).log()


def _log_gamma_ratio(a: Tensor, b: Tensor | float) -> Tensor:
    """Return log Γ(a + b) − log Γ(a) for a >= 1 and b >= 0.

    For large a both are large and nearly equal; there the difference of Stirling's series is used.
    """
    large = a > _STIRLING_FROM
    safe = torch.where(large, a, torch.ones_like(a))
    series = (
        (safe + b - 0.5) * torch.log1p(b / safe)
        + b * (safe.log() - 1)
        - b / (12 * safe * (safe + b))
    )
    return torch.where(large, series, torch.lgamma(a + b) - torch.lgamma(a))


def _gamma(shape: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return Gamma(shape, 1) draws, as torch.distributions.Gamma does, but from a generator."""
    device = shape.device if generator is None else generator.device
    return torch._standard_gamma(shape.to(device), generator=generator).to(shape.device)


def _log_tails(z: Tensor, factor: Tensor, offset: Tensor, power: Tensor) -> Tensor:
    """Return Σ_d power · log(1 + (z · factor − offset)²), shapes (Q, D) and (K, D) -> (Q, K)."""
    distance = torch.addcmul(-offset, z.unsqueeze(1), factor)
    return torch.einsum("qkd,kd->qk", distance.square().log1p(), power)


def _scale_of(variance: Tensor, df: Tensor) -> Tensor:
    """Return the scale parameter of a Student-t distribution of the given actual variance."""
    return (variance * ((df - 2) / df)).sqrt()
