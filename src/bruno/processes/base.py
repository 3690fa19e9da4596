r"""Exchangeable Gaussian and Student-t processes, one per latent dimension, in closed form.

Within one dimension the sequence :math:`z_1, z_2, \dots` has mean :math:`\mu` and covariance
:math:`K_{ij} = v` if :math:`i = j`, else :math:`\rho`, with :math:`0 \le \rho < v`. Write
:math:`d_n = \rho / (v + \rho (n - 1))` and :math:`\bar z, W` for the mean and the scatter of
:math:`n` observations. Then (Korshunova et al., *BRUNO*, NeurIPS 2018, section 3.2 and appendix)

.. math::
    \text{predictive mean} &= \mu + n d_n (\bar z - \mu) \\
    \text{predictive variance} &= v - n \rho d_n \\
    \log\det K &= (n - 1) \log(v - \rho) + \log(v + \rho (n - 1)) \\
    \beta = (z - \mu)^\top K^{-1} (z - \mu)
        &= \frac{W}{v - \rho} + \frac{n (\bar z - \mu)^2}{v + \rho (n - 1)}

so nothing ever loops over a sequence. Everything is evaluated in float64 whatever the dtype of
the input, because :math:`v - \rho` cancels when elements are strongly correlated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn.functional import logsigmoid, softplus

from bruno.errors import UserError
from bruno.evidence import Evidence, checked_elements
from bruno.processes.parameters import as_vectors, softplus_inverse
from bruno.validation import (
    check_generator,
    check_number,
    check_type,
    check_whole,
    checked_shape,
)

# sigmoid(-800) is exactly 0 in float64, and -800 is finite: a covariance of 0 stays representable
# without an infinity that would turn moving averages of the parameters into NaN.
_LOWEST_LOGIT = -800.0


class ExchangeableProcess(nn.Module, ABC):
    r"""An exchangeable process in each of ``dim`` independent dimensions.

    Shapes: elements ``z`` are ``(*B, n, D)``, statistics (:class:`~bruno.evidence.Evidence`) have
    batch shape ``*B``, log-densities are in nats. ``n = 0`` is valid everywhere.

    The free parameters are those of the paper: :math:`v = \mathrm{softplus}(\cdot)^2` and
    :math:`\rho / v = \mathrm{sigmoid}(\cdot)`, in float64; :math:`\mu` is a constant. They start at
    :math:`\mu = 0, v = 1, \rho / v = 0.1`, on the CPU whatever torch's default device is.
    """

    loc: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        check_whole("dim", dim, 1)
        self.dim = dim
        loc = torch.zeros(dim, device="cpu", dtype=torch.float64)
        self.register_buffer("loc", loc)
        self.raw_variance = nn.Parameter(softplus_inverse(torch.ones_like(loc)))
        self.raw_correlation = nn.Parameter(torch.full_like(loc, math.log(0.1 / 0.9)))

    @classmethod
    def from_parameters(
        cls,
        variance: Tensor | float,
        covariance: Tensor | float,
        loc: Tensor | float = 0.0,
    ) -> Self:
        r"""Return a process with the given parameters in natural units.

        Args:
            variance: :math:`v > 0`, shape ``(D,)``, or a scalar.
            covariance: :math:`0 \le \rho < v`, shape ``(D,)``, or a scalar.
            loc: Mean :math:`\mu`, shape ``(D,)``, or a scalar.

        Raises:
            UserError: If a parameter is not finite or out of range, or the shapes do not agree.
        """
        values = as_vectors(variance=variance, covariance=covariance, loc=loc)
        process = cls(values["variance"].shape[0])
        process._set_covariance(values["variance"], values["covariance"])
        process.loc.copy_(values["loc"])
        return process

    def first(self, dim: int) -> Self:
        """Return the process of the first dimensions alone, which shares its parameters.

        Args:
            dim: How many.

        Raises:
            UserError: If there are not so many.
        """
        check_whole("dim", dim, 1)
        if dim > self.dim:
            raise UserError(f"dim: expected 1 to {self.dim} dimensions, got {dim}")
        part = type(self)(dim)
        part.loc = self.loc[:dim]
        for name, parameter in self.named_parameters():
            delattr(part, name)
            setattr(part, name, parameter[:dim])
        return part

    def _set_covariance(self, variance: Tensor, covariance: Tensor) -> None:
        if not bool((variance > 0).all()):
            raise UserError(f"variance: expected positive numbers, got {variance.min():g}")
        if not bool(((covariance >= 0) & (covariance < variance)).all()):
            raise UserError(
                "covariance: expected 0 <= covariance < variance in every dimension, got "
                f"covariance in [{covariance.min():g}, {covariance.max():g}] with variance in "
                f"[{variance.min():g}, {variance.max():g}]"
            )
        with torch.no_grad():
            self.raw_variance.copy_(softplus_inverse(variance.sqrt()))
            logit = covariance.log() - (variance - covariance).log()
            self.raw_correlation.copy_(logit.clamp_min(_LOWEST_LOGIT))

    def set_correlation(self, correlation: Tensor) -> None:
        r"""Set :math:`\rho / v`, shape ``(D,)``, in place; the variance stays.

        Raises:
            UserError: If a correlation is not in [0, 1), or there is not one for each dimension.
        """
        values = as_vectors(correlation=correlation)["correlation"]
        if len(values) not in (1, self.dim):
            raise UserError(f"correlation: expected {self.dim} numbers, got {len(values)}")
        if not bool(((values >= 0) & (values < 1)).all()):
            raise UserError(
                f"correlation: expected numbers in [0, 1), got {values.min():g} to {values.max():g}"
            )
        self._set_covariance(self.variance, self.variance * values.to(self.loc.device))

    @property
    def variance(self) -> Tensor:
        """Variance :math:`v` of one element, shape ``(D,)``, float64."""
        return softplus(self.raw_variance.double(), threshold=40.0).square()

    @property
    def correlation(self) -> Tensor:
        r"""Correlation :math:`\rho / v` between two elements of a set, shape ``(D,)``, float64."""
        return torch.sigmoid(self.raw_correlation.double())

    @property
    def covariance(self) -> Tensor:
        r"""Covariance :math:`\rho` between two elements of a set, shape ``(D,)``, float64."""
        return self.variance * self.correlation

    @property
    def is_informed(self) -> Tensor:
        """Whether the predictive of a dimension depends on what was observed, bool ``(D,)``."""
        return torch.ones_like(self.loc, dtype=torch.bool)

    @property
    def noise(self) -> Tensor:
        r"""Variance :math:`v - \rho` within a set, shape ``(D,)``, without cancellation."""
        return self.variance * torch.sigmoid(-self.raw_correlation.double())

    def _log_noise(self) -> Tensor:
        """Logarithm of :attr:`noise`, finite also where the noise is tiny."""
        return self.variance.log() + logsigmoid(-self.raw_correlation.double())

    def _gaussian_predictive(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Return the mean and variance of the Gaussian predictive, each ``(*B, D)``."""
        n = evidence.counts
        covariance, noise = self.covariance, self.noise
        total = noise + n * covariance  # v + ρ(n − 1)
        mean = self.loc + n * covariance / total * (evidence.mean - self.loc)
        # v − nρ²/(v + ρ(n−1)) = (v − ρ)(1 + ρ/(v + ρ(n−1))), a product of positive numbers.
        return mean, noise * (1 + covariance / total)

    def _quadratic_form(self, evidence: Evidence) -> Tensor:
        r"""Return :math:`\beta = (z - \mu)^\top K^{-1} (z - \mu)`, shape ``(*B, D)``."""
        n = evidence.counts
        between = n * (evidence.mean - self.loc).square() / (self.noise + n * self.covariance)
        return evidence.scatter / self.noise + between

    def _log_determinant(self, n: Tensor) -> Tensor:
        r"""Return :math:`\log\det K` of ``n`` elements, ``(*B, 1)`` or ``(*B, D)``; ``(*B, D)``."""
        return n * self._log_noise() + torch.log1p(n * self.covariance / self.noise)

    def _prefixes(self, z: Tensor) -> Evidence:
        """Return the evidence of ``z_1..z_i`` for i = 0..n−1, with batch shape ``(*B, n)``.

        Running sums are taken about the mean of the whole set, so they do not cancel when the
        elements lie far from 0 but close together.
        """
        n = z.shape[-2]
        count = torch.arange(n, device=z.device)
        centre = z.mean(-2, keepdim=True) if n else z.sum(-2, keepdim=True)
        deviation = z - centre
        divisor = count.clamp_min(1).double().unsqueeze(-1)
        mean = _exclusive_sum(deviation) / divisor
        # Welford: adding element i to i−1 others scatters by (z_i − mean_{i−1})² (i−1)/i.
        share = (count / (count + 1).double()).unsqueeze(-1)
        added = (deviation - mean).square() * share
        present = (count > 0).unsqueeze(-1)
        return Evidence(
            count.expand(z.shape[:-1]),
            torch.where(present, mean + centre, torch.zeros_like(mean)),
            _exclusive_sum(added),
        )

    def _checked(self, z: Tensor) -> Tensor:
        z = checked_elements(z)
        self._check_dim(z.shape[-1], "z")
        return z

    def _check_evidence(self, evidence: Evidence) -> None:
        check_type("evidence", evidence, Evidence)
        self._check_dim(evidence.dim, "evidence")

    def _check_dim(self, dim: int, name: str) -> None:
        if dim != self.dim:
            raise UserError(f"{name}: expected {self.dim} dimensions, got {dim}")

    def predictive(self, evidence: Evidence) -> Independent[Any]:
        """Return the distribution of the next element, event ``(D,)``, batch ``*B``."""
        self._check_evidence(evidence)
        mean, variance = self._gaussian_predictive(evidence)
        return Independent(self._distribution(mean, variance, evidence), 1)

    def posterior(self, evidence: Evidence) -> Independent[Any]:
        r"""Return the distribution of the de Finetti mean :math:`\theta`, event ``(D,)``.

        Given :math:`\theta`, the mean of infinitely many elements, the elements are independent
        with variance :math:`v - \rho` (:math:`\rho` must be positive). It has the mean of the
        predictive and, for the Gaussian, the variance :math:`d_{n+1} (v - \rho)`.
        """
        self._check_evidence(evidence)
        mean, _ = self._gaussian_predictive(evidence)
        n = evidence.counts
        variance = self.covariance * self.noise / (self.noise + n * self.covariance)
        return Independent(self._distribution(mean, variance.expand_as(mean), evidence), 1)

    def sample(
        self,
        evidence: Evidence,
        sample_shape: int | Sequence[int] = (),
        generator: torch.Generator | None = None,
        latent_scale: float = 1.0,
    ) -> Tensor:
        """Return independent draws from :meth:`predictive`, shape ``(*sample_shape, *B, D)``.

        Gradients reach the parameters and the evidence.

        Args:
            evidence: Sufficient statistics of the sets, of batch shape ``*B``.
            sample_shape: Number of draws of each set, or a shape of them.
            generator: Source of randomness; by default torch's global one.
            latent_scale: Factor of the deviations from the predictive mean, at least 0.

        Raises:
            UserError: If a size or the latent scale is negative, or the evidence has other
                dimensions.
        """
        shape = checked_shape("sample_shape", sample_shape)
        check_number(
            "latent_scale",
            latent_scale,
            "a number of at least 0",
            lambda scale: 0 <= scale < math.inf,
        )
        if generator is not None:
            check_generator("generator", generator)
        distribution = self.predictive(evidence).base_dist
        draws = self._standard_draws(distribution, shape, generator)
        drawn: Tensor = distribution.loc + latent_scale * distribution.scale * draws
        return drawn

    @abstractmethod
    def _distribution(
        self, mean: Tensor, gaussian_variance: Tensor, evidence: Evidence
    ) -> Distribution:
        """Return a distribution with that mean and, in the Gaussian limit, that variance."""

    @abstractmethod
    def standard_cdf(self, distribution: Any, t: Tensor) -> Tensor:
        """Return cumulative probabilities of a distribution of this family at location 0, scale 1.

        Args:
            distribution: One dimension's distribution, of any location and scale.
            t: Values that broadcast with its batch shape.
        """

    @abstractmethod
    def standard_icdf(self, distribution: Any, p: Tensor) -> Tensor:
        """Return quantiles of a distribution of this family at location 0, scale 1.

        Args:
            distribution: One dimension's distribution, of any location and scale.
            p: Probabilities that broadcast with its batch shape.
        """

    @abstractmethod
    def _standard_draws(
        self,
        distribution: Any,
        sample_shape: Sequence[int],
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return draws from a distribution of this family, at location 0 and scale 1."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the joint log-density of sets ``(*B, n, D)`` in nats, shape ``(*B,)``."""
        return self.log_prob_of(Evidence.of(self._checked(z)))

    @abstractmethod
    def log_prob_of(self, evidence: Evidence) -> Tensor:
        """Return the joint log-density of the sets behind evidence, in nats, shape ``(*B,)``.

        Unlike :meth:`log_prob` it takes sets of different sizes at once.
        """

    def predictive_log_prob(self, z: Tensor) -> Tensor:
        r"""Return :math:`\log p(z_i | z_{<i})` for every element, ``(*B, n, D) -> (*B, n)``.

        The terms sum to :meth:`log_prob`.
        """
        z = self._checked(z)
        # Not Independent.log_prob, which cannot reshape the terms of an empty set.
        terms: Tensor = self.predictive(self._prefixes(z)).base_dist.log_prob(z)
        return terms.sum(-1)

    def log_prob_each(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log-densities of elements, each given a set of its own, by dimension.

        Args:
            z: Elements, ``(N, D)``.
            evidence: Sets, of batch shape ``(N,)``.

        Returns:
            Log-densities in nats, ``(N, D)``.
        """
        log_prob: Tensor = self.predictive(evidence).base_dist.log_prob(z)
        return log_prob

    @abstractmethod
    def log_prob_given(self, z: Tensor, evidence: Evidence) -> Tensor:
        r"""Return :math:`\log p(z_q | \text{set } k)` of every query against every set.

        Args:
            z: Queries, shape ``(Q, D)``.
            evidence: Of batch shape ``(K,)``.

        Returns:
            Log-densities in nats, shape ``(Q, K)``. Memory is bounded: no ``(Q, K, D)`` tensor.
        """

    def _checked_queries(self, z: Tensor, evidence: Evidence) -> Tensor:
        z = self._checked(z)
        self._check_evidence(evidence)
        if z.dim() != 2 or len(evidence.batch_shape) != 1:
            raise UserError(
                "log_prob_given: expected z (Q, D) and evidence of batch shape (K,), got "
                f"{tuple(z.shape)} and {tuple(evidence.batch_shape)}"
            )
        return z

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"dim={self.dim}"


def standard_normal(
    like: Tensor, sample_shape: Sequence[int], generator: torch.Generator | None
) -> Tensor:
    """Return standard normal float64 draws on the device of ``like``, made on the generator's.

    Args:
        like: Tensor whose shape and device the draws have.
        sample_shape: Shape of the draws, in front of that of ``like``.
        generator: Source of randomness; ``None`` for torch's global one.
    """
    device = like.device if generator is None else generator.device
    shape = (*sample_shape, *like.shape)
    draws = torch.randn(shape, generator=generator, dtype=torch.float64, device=device)
    return draws.to(like.device)


def _exclusive_sum(x: Tensor) -> Tensor:
    """Return the sum of all elements before each, along the last dimension but one."""
    # Taking the element out of an inclusive sum again would cancel behind an outlier.
    return torch.cat([torch.zeros_like(x[..., :1, :]), x[..., :-1, :]], -2).cumsum(-2)
