r"""Classes that have a covariance of their own, as soon as their examples say so.

The two-covariance model gives all classes one covariance, which few examples cannot do without and
many outgrow. Here a class has, with equal prior probability, either that one or a covariance of its
own, drawn around it:

.. math::
    \Sigma_c \sim W^{-1}((\nu - D - 1) \Lambda, \nu), \qquad
    \mu_c \mid \Sigma_c \sim N(\mu, \Sigma_c / \kappa)

with :math:`\Lambda` the diagonal variance within classes of the latent process. Joint and
predictive densities are those of a multivariate Student-t distribution, in closed form (Murphy,
*Conjugate Bayesian analysis of the Gaussian distribution*, 2007, section 9), and a mixture of two
exchangeable processes is exchangeable: its predictive density weighs the two by what the examples
of the class have made of their odds. So a class of three examples is scored by the shared
covariance and one of three hundred by its own, without a threshold between.

Both need no more than sums over the examples. Those of squares of :math:`z_i + z_j`, beside those
of :math:`z_i`, hold the whole scatter matrix, so that the evidence of a class is that of longer
vectors (:meth:`OwnCovariance.statistics`), which is merged and forgotten as ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from bruno.estimators.multivariate_t import OwnClasses, log_multivariate_gamma, student_t
from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess, ExchangeableStudentT

# Beyond so many dimensions the scatter matrices of classes take too much time and memory.
MOST_DIMENSIONS = 64
# Candidates for ν − D − 1 and for κ.
_EXCESSES = (2.0, 4.0, 8.0, 16.0, 32.0, 128.0, 1024.0)
_MEAN_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_ROUNDS = 2
# More than the relative rounding errors of a scatter matrix.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class OwnCovariance:
    """Exchangeable process of classes that share a covariance or have one of their own.

    Evidence is of :meth:`statistics`, of dimension ``M``; of elements only the first ``D`` numbers
    are needed, the latent vectors.

    Attributes:
        shared: The process with the shared covariance, of ``D`` dimensions.
        excess: How much the prior of a covariance weighs, ν − D − 1, positive.
        mean_strength: How much the prior of a mean weighs, κ, in examples.
        scale: Variance of the prior, in units of that within classes of the shared process.
    """

    shared: ExchangeableProcess
    excess: float
    mean_strength: float
    scale: float = 1.0

    @classmethod
    def fitted(
        cls, shared: ExchangeableProcess, evidence: Evidence, scales: Sequence[float] = (1.0,)
    ) -> OwnCovariance:
        """Return the process of the largest marginal likelihood of classes with own covariances.

        Args:
            shared: The process with the shared covariance.
            evidence: Evidence of :meth:`statistics` by class, ``(K,)``.
            scales: Candidates for the scale.
        """
        best = cls(shared, _EXCESSES[2], _MEAN_STRENGTHS[2], scales[0])

        def better(candidates: Iterable[OwnCovariance]) -> OwnCovariance:
            return max(candidates, key=lambda one: one._joint_of_all(evidence))

        for _ in range(_ROUNDS):  # one after the other, each from the best of the one before
            if len(scales) > 1:
                best = better(replace(best, scale=value) for value in scales)
            best = better(replace(best, excess=value) for value in _EXCESSES)
            best = better(replace(best, mean_strength=value) for value in _MEAN_STRENGTHS)
        return best

    @property
    def prior(self) -> tuple[float, float, float]:
        """What it takes besides the shared process."""
        return self.excess, self.mean_strength, self.scale

    def beside(self, shared: ExchangeableProcess) -> OwnCovariance:
        """Return the same prior around the covariance of another process."""
        return replace(self, shared=shared)

    @property
    def dim(self) -> int:
        """Dimension ``M`` of :meth:`statistics`."""
        return self.shared.dim * (self.shared.dim + 1) // 2

    @property
    def noise(self) -> Tensor:
        """Variance of the statistics within classes, ``(M,)``."""
        noise = self.shared.noise.detach()
        first, second = self._pairs
        return torch.cat([noise, noise[first] + noise[second]])

    @cached_property
    def _pairs(self) -> Tensor:
        return torch.triu_indices(
            self.shared.dim, self.shared.dim, 1, device=self.shared.loc.device
        )

    def statistics(self, z: Tensor) -> Tensor:
        """Return latent vectors and the sums of all pairs of their entries, ``(N, M)``.

        Args:
            z: Latent vectors, ``(N, D)``.
        """
        first, second = self._pairs
        return torch.cat([z, z[:, first] + z[:, second]], 1)

    def evidence_of(self, z: Tensor, classes: Tensor, weight: Tensor | None) -> Evidence:
        """Return the evidence of the :meth:`statistics` by class, ``(K,)``, without forming them.

        By matrix products, in O(N · D) memory.

        Args:
            z: Latent vectors, ``(N, D)``.
            classes: Class of each, int64 ``(N,)``, from 0 to K − 1.
            weight: How often each counts, ``(N,)``; by default once.
        """
        known = Evidence.by_class(z, classes, weight)
        residuals = z - known.mean[classes]
        if weight is not None:
            residuals = residuals * weight.double().sqrt().unsqueeze(1)
        rows = classes.argsort(stable=True).split(torch.bincount(classes).tolist())
        products = torch.stack([residuals[own].T @ residuals[own] for own in rows])
        first, second = self._pairs
        squares = products.diagonal(dim1=1, dim2=2)
        sums = squares[:, first] + squares[:, second] + 2 * products[:, first, second]
        return Evidence(
            known.count,
            self.statistics(known.mean),
            torch.cat([squares, sums.clamp_min(0)], 1),
        )

    @cached_property
    def _varying(self) -> Tensor:
        """The dimensions in which elements differ at all.

        In the others, as collinear columns leave some, a covariance of its own would be the smaller
        the more examples a class has.
        """
        return torch.nonzero(self.shared.correlation.detach() > 0).flatten()

    @property
    def any_vary(self) -> bool:
        """Whether elements differ in some dimension: else none can have a covariance."""
        return len(self._varying) > 0

    @property
    def all_vary(self) -> bool:
        """Whether elements differ in all dimensions."""
        return len(self._varying) == self.shared.dim

    @cached_property
    def _reduced(self) -> ExchangeableProcess:
        """The shared process in the dimensions that vary."""
        if self.all_vary:
            return self.shared
        names = ["variance", "covariance", "loc"]
        names += ["df"] if isinstance(self.shared, ExchangeableStudentT) else []
        values = {name: getattr(self.shared, name).detach()[self._varying] for name in names}
        return type(self.shared).from_parameters(**values)

    def _of_reduced(self, evidence: Evidence) -> Evidence:
        """Return the evidence of latent vectors in the dimensions that vary."""
        seen, some = self.of_shared(evidence), self._varying
        return Evidence(seen.count, seen.mean[..., some], seen.scatter[..., some])

    def _of_rest(self, latent: Tensor, evidence: Evidence, of_shared: Tensor) -> Tensor:
        """Return log-densities in the dimensions that do not vary, ``(N, K)``."""
        if self.all_vary:
            return torch.zeros_like(of_shared)
        reduced = latent[:, self._varying]
        return of_shared - self._reduced.log_prob_given(reduced, self._of_reduced(evidence))

    def of_shared(self, evidence: Evidence) -> Evidence:
        """Return the evidence of the latent vectors alone."""
        dim = self.shared.dim
        return Evidence(evidence.count, evidence.mean[..., :dim], evidence.scatter[..., :dim])

    def log_prob_given(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log-densities ``(Q, K)`` of every query given every class, in nats.

        Args:
            z: Latent vectors of the queries, ``(Q, D)``.
            evidence: Evidence of the classes, of batch shape ``(K,)``.
        """
        latent, own = z[:, : self.shared.dim], self._own(evidence)
        of_shared = self.shared.log_prob_given(latent, self.of_shared(evidence))
        of_own = own.log_prob(latent[:, self._varying])
        of_own = of_own + self._of_rest(latent, evidence, of_shared)
        return _mixed(self._log_odds(own, evidence), of_own, of_shared)

    def log_prob_of(self, evidence: Evidence) -> Tensor:
        """Return the joint log-densities of the elements of classes, in nats, ``(K,)``.

        Args:
            evidence: Evidence of the classes, of batch shape ``(K,)``.
        """
        log_odds = self._log_odds(self._own(evidence), evidence)
        of_shared = self.shared.log_prob_of(self.of_shared(evidence))
        return of_shared + softplus(log_odds) - math.log(2)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log-densities ``(Q,)`` of first elements ``(Q, 1, D)`` of unknown classes."""
        nothing = Evidence.empty(self.dim, (1,), device=z.device)
        return self.log_prob_given(z[:, 0], nothing)[:, 0]

    def leave_one_out(
        self, z: Tensor, classes: Tensor, evidence: Evidence, of_shared: Tensor, held: Tensor
    ) -> Tensor:
        """Return log-densities of elements given all classes without them, ``(N, K)``, in nats.

        A scatter matrix without one element is a rank-one change of the one with it, and so are its
        inverse and its determinant.

        Args:
            z: Latent vectors of the elements, ``(N, D)``.
            classes: Class of each, ``(N,)``.
            evidence: Evidence of the classes, of batch shape ``(K,)``.
            of_shared: The same densities by the shared covariance, ``(N, K)``.
            held: How often each element is held out, ``(N,)``.
        """
        latent, own = z[:, : self.shared.dim], self._own(evidence)
        rows, varying = torch.arange(len(z), device=z.device), latent[:, self._varying]
        log_prob = own.log_prob(varying)
        log_prob[rows, classes] = own.without_itself(varying, classes, held)
        if not self.all_vary:  # in the other dimensions evidence changes nothing
            whole = self.shared.log_prob_given(latent, self.of_shared(evidence))
            log_prob = log_prob + self._of_rest(latent, evidence, whole)
        log_odds = self._log_odds(own, evidence).expand_as(log_prob).clone()
        log_odds[rows, classes] -= log_prob[rows, classes] - of_shared[rows, classes]
        return _mixed(log_odds, log_prob, of_shared)

    def sample(
        self,
        evidence: Evidence,
        sample_shape: tuple[int],
        generator: torch.Generator,
        latent_scale: float = 1.0,
    ) -> Tensor:
        """Return new latent vectors of a class, ``(*sample_shape, D)``.

        Args:
            evidence: Its evidence, of batch shape ``()``.
            sample_shape: How many.
            generator: Source of randomness.
            latent_scale: Factor of the deviations from the predictive mean.
        """
        (number,) = sample_shape
        alone = evidence.expand((1,))
        own = self._own(alone)
        share = torch.sigmoid(self._log_odds(own, alone))
        uniform = torch.rand(number, 1, generator=generator, dtype=share.dtype, device="cpu")
        is_own = uniform.to(share) < share
        alike = self.of_shared(evidence)
        of_shared = self.shared.sample(alike, (number,), generator, latent_scale)
        drawn = own.sample(number, generator, latent_scale)
        of_own = of_shared.index_copy(1, self._varying, drawn)
        return torch.where(is_own, of_own, of_shared)

    def prepared(self, evidence: Evidence) -> tuple[Tensor, ...]:
        """Return what predictive densities of one element after the other need, in float64.

        Args:
            evidence: Evidence of the classes, of batch shape ``(K,)``.

        Returns:
            Log-odds of a covariance of their own, ``(K,)``; means, ``(K, D)``; maps, ``(K, D, D)``,
            that turn deviations into vectors of length r; and constants and powers, ``(K,)``, of
            log-densities: constant − power · log(1 + r²).
        """
        own, dim = self._own(evidence), self._reduced.dim
        wider = 1 + 1 / own.strength
        whitening = own.whitening / wider.sqrt()[:, None, None]
        constant = student_t(own.log_det.new_zeros(()), own.log_det, own.strength, own.degrees, dim)
        power = 0.5 * (own.degrees + dim)
        return self._log_odds(own, evidence), own.mean, whitening, constant, power

    def share_of_own(self, evidence: Evidence) -> Tensor:
        """Return the posterior probability that classes have a covariance of their own, ``(K,)``.

        Args:
            evidence: Evidence of the classes, of batch shape ``(K,)``.
        """
        return torch.sigmoid(self._log_odds(self._own(evidence), evidence))

    def _joint_of_all(self, evidence: Evidence) -> float:
        """Return the joint log-density of classes that all have a covariance of their own."""
        return float(self._joint(self._own(evidence), evidence.count).sum())

    def _log_odds(self, own: OwnClasses, evidence: Evidence) -> Tensor:
        """Return the log-odds of a covariance of their own, ``(K,)``."""
        of_shared = self._reduced.log_prob_of(self._of_reduced(evidence))
        return self._joint(own, evidence.count) - of_shared

    def _joint(self, own: OwnClasses, count: Tensor) -> Tensor:
        """Return the joint log-densities of classes with covariances of their own, ``(K,)``."""
        dim, noise = self._reduced.dim, self._reduced.noise.detach()
        before, after = own.mean.new_tensor(self.excess + dim + 1), own.degrees + dim - 1
        prior = dim * math.log(self.excess * self.scale) + noise.log().sum()
        return (
            log_multivariate_gamma(after / 2, dim)
            - log_multivariate_gamma(before / 2, dim)
            + 0.5 * before * prior
            - 0.5 * after * own.log_det
            + 0.5 * dim * (math.log(self.mean_strength) - own.strength.log())
            - 0.5 * dim * count.double() * math.log(math.pi)
        )

    def _own(self, evidence: Evidence) -> OwnClasses:
        """Return the classes as if each had a covariance of its own."""
        dim, count = self.shared.dim, evidence.count.double()
        scatter = torch.diag_embed(evidence.scatter[:, :dim])
        first, second = self._pairs
        squares = evidence.scatter
        mixed = 0.5 * (squares[:, dim:] - squares[:, first] - squares[:, second])
        scatter[:, first, second] = scatter[:, second, first] = mixed
        some, shared = self._varying, self._reduced
        scatter = scatter[:, some][:, :, some]
        shift = evidence.mean[:, some] - shared.loc
        strength = self.mean_strength + count
        prior = self.excess * self.scale * shared.noise.detach()
        weight = self.mean_strength * count / strength
        spread = weight[:, None, None] * shift[:, :, None] * shift[:, None, :]
        matrix = scatter + torch.diag(prior) + spread
        # An element very far away leaves rounding errors larger than the prior.
        matrix = matrix + _ROUNDING * torch.diag_embed(matrix.diagonal(dim1=1, dim2=2))
        root = torch.linalg.cholesky(matrix)
        mean = shared.loc + (count / strength).unsqueeze(1) * shift
        return OwnClasses(mean, root, strength, self.excess + 2 + count)


def _mixed(log_odds: Tensor, own: Tensor, shared: Tensor) -> Tensor:
    """Return the log-density of a mixture, by the log-odds of its first part."""
    return torch.logaddexp(logsigmoid(log_odds) + own, logsigmoid(-log_odds) + shared)
