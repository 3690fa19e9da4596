r"""Sets as query vectors and elements as corpus vectors, for any inner-product index.

For a Gaussian process the log-ratio :math:`\log p(x \mid \text{set}) - \log p(x)` is linear in
:math:`(w^2, w, 1)`, where :math:`w = (z - \mu) / \sqrt{v}` is the standardised latent vector. With
the correlation :math:`r = \rho / v`, :math:`n` elements in the set and their standardised mean
:math:`\bar w`, the predictive has mean :math:`m = n r \bar w / (1 - r + n r)` and variance
:math:`s^2 = (1 - r) (1 + r / (1 - r + n r))` in every dimension, and

.. math::
    \log \frac{p(x \mid \text{set})}{p(x)} = \sum_d [ \tfrac12 (1 - s_d^{-2}) w_d^2
    + m_d s_d^{-2} w_d - \tfrac12 (\log s_d^2 + m_d^2 s_d^{-2}) ]

so an index of inner products that is searched exhaustively returns the exact ranking of a corpus
for a set, or of sets for an element. The Jacobian of the flow cancels.

For sets of one size the same ratio is a constant of the set minus half a squared Euclidean
distance, with :math:`h = n r^2 / (1 - r + n r) = 1 - s^2`:

.. math::
    \log \frac{p(x \mid \text{set})}{p(x)} = \sum_d \tfrac12 [ m_d^2 / h_d - \log s_d^2 ]
    - \tfrac12 \sum_d \frac{h_d}{s_d^2} \left( w_d - \frac{\bar w_d}{r_d} \right)^2

so graph indices, which need a distance, search vectors of half the dimension.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.evidence import Evidence, checked_elements
from bruno.processes import ExchangeableGaussian, ExchangeableProcess
from bruno.validation import check_share, check_whole


@dataclass(frozen=True, eq=False)
class RetrievalSpace:
    """The space of query and corpus vectors of a process.

    Attributes:
        process: The process.
        dimensions: Latent dimensions in use, ``(d,)``. Those that are not correlated within a set
            contribute nothing and are always left out.

    Example:
        >>> process = ExchangeableGaussian.from_parameters(torch.ones(2), covariance=0.5)
        >>> space = RetrievalSpace.of(process)
        >>> z = torch.tensor([[2.0, 1.0], [-2.0, -1.0]])
        >>> query = space.queries(Evidence.of(z[:1]))
        >>> (space.corpus(z) @ query).round(2)
        array([ 1.95, -4.71], dtype=float32)
    """

    process: ExchangeableGaussian
    dimensions: Tensor

    @classmethod
    def of(cls, process: ExchangeableProcess, least_correlation: float = 0.0) -> RetrievalSpace:
        r"""Return the space of a process.

        Args:
            process: A Gaussian process, such as ``model.process``.
            least_correlation: Dimensions of a correlation :math:`\rho / v` up to this are left
                out. With 0, the ranking is exact; more makes vectors shorter and is approximate.

        Raises:
            UserError: If the process is no Gaussian one, whose log-ratio is not linear in a few
                functions of an element, or no dimension is left.
        """
        if not isinstance(process, ExchangeableGaussian):
            raise UserError(
                "process: expected an ExchangeableGaussian, whose log-ratios are inner products, "
                f"got {type(process).__name__}"
            )
        check_share("least_correlation", least_correlation, without_highest=True)
        correlation = process.correlation.detach()
        dimensions = torch.nonzero(correlation > least_correlation).flatten()
        if not len(dimensions):
            raise UserError(
                f"least_correlation: expected less than the largest correlation "
                f"({float(correlation.max()):g}), got {least_correlation:g}"
            )
        return cls(process, dimensions)

    @property
    def dim(self) -> int:
        """Dimension of query and corpus vectors: two for each dimension in use, and one."""
        return 2 * len(self.dimensions) + 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that vectors depend on, to keep beside an index.

        Vectors of different fingerprints must not be compared.
        """
        process = self.process
        digest = hashlib.sha256(self.dimensions.cpu().numpy().tobytes())
        for values in (process.loc, process.variance, process.correlation):
            digest.update(values.detach().cpu().double().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def corpus(self, z: Tensor) -> np.ndarray:
        """Return the vectors of elements, float32 ``(N, dim)``.

        Args:
            z: Latent vectors, ``(N, D)``, as ``model.encode`` returns them.

        Raises:
            UserError: If they are not finite vectors of the dimension of the process.
        """
        z = self._checked("z", checked_elements(z))
        w = self._standardised(z)
        return _as_float32(torch.cat([w.square(), w, w.new_ones(len(w), 1)], 1))

    @torch.no_grad()
    def queries(self, evidence: Evidence) -> np.ndarray:
        """Return the vectors of sets, float32 ``(*B, dim)``.

        The inner product with the vector of an element is its log-ratio, in nats.

        Args:
            evidence: Sufficient statistics of the sets, of batch shape ``*B``. An empty set is a
                vector of zeros: it says nothing.

        Raises:
            UserError: If the evidence has another dimension than the process.
        """
        self._checked("evidence", evidence.mean)
        n = evidence.count.double().unsqueeze(-1)
        r = self.process.correlation[self.dimensions]
        m = n * r / (self._noise() + n * r) * self._standardised(evidence.mean)
        reduction, precision = self._reduction(n)
        # The logarithm of 1 − h keeps the digits of small h.
        constant = -0.5 * (torch.log1p(-reduction) + m.square() * precision).sum(-1, keepdim=True)
        return _as_float32(torch.cat([-0.5 * reduction * precision, m * precision, constant], -1))

    @torch.no_grad()
    def points(self, z: Tensor, count: int) -> np.ndarray:
        """Return the points of elements for sets of one size, float32 ``(N, len(dimensions))``.

        Args:
            z: Latent vectors, ``(N, D)``.
            count: Elements in every set that these points are searched for.

        Raises:
            UserError: If they are not finite vectors of the dimension of the process, or the count
                is not positive.
        """
        check_whole("count", count, 1)
        z = self._checked("z", checked_elements(z))
        reduction, precision = self._reduction(
            torch.tensor(float(count), device="cpu", dtype=torch.float64)
        )
        return _as_float32(self._standardised(z) * (reduction * precision).sqrt())

    @torch.no_grad()
    def centres(self, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """Return the points that sets of one size are nearest to, and their largest log-ratios.

        The log-ratio of an element is the largest one minus half the squared Euclidean distance of
        its point from the centre.

        Args:
            evidence: Sufficient statistics of the sets, of batch shape ``*B`` and one count.

        Returns:
            Centres, float32 ``(*B, len(dimensions))``, and log-ratios, float32 ``(*B)``, in nats.

        Raises:
            UserError: If the evidence has another dimension than the process, sets differ in size,
                or are empty.
        """
        self._checked("evidence", evidence.mean)
        counts = evidence.count.unique().tolist()
        if len(counts) != 1 or counts[0] < 1:
            raise UserError(
                f"evidence: expected sets of one size of at least 1, got sizes {counts}"
            )
        r = self.process.correlation[self.dimensions]
        mean = self._standardised(evidence.mean) / r
        reduction, precision = self._reduction(
            torch.tensor(float(counts[0]), device="cpu", dtype=torch.float64)
        )
        # m² / h is h times the square of the centre before it is scaled.
        most = 0.5 * (reduction * mean.square() - torch.log1p(-reduction)).sum(-1)
        centres = mean * (reduction * precision).sqrt()
        return _as_float32(centres), _as_float32(most)

    def check_index(self, dim: int) -> None:
        """Raise if an index has another dimension than the vectors of this space.

        Args:
            dim: Dimension of the index.

        Raises:
            UserError: With both dimensions.
        """
        if dim != self.dim:
            raise UserError(
                f"index: expected {self.dim} dimensions (two for each of {len(self.dimensions)} "
                f"latent ones, and one), got {dim}; it was made for another model or another "
                "least_correlation"
            )

    def _standardised(self, z: Tensor) -> Tensor:
        """Return the dimensions in use of latent vectors with mean 0 and variance 1."""
        kept = self.dimensions
        return (z[..., kept] - self.process.loc[kept]) / self.process.variance[kept].sqrt()

    def _reduction(self, count: Tensor) -> tuple[Tensor, Tensor]:
        """Return by how much sets reduce the variance of standardised elements, and what is left.

        The variance is 1 − h; h and 1 / (1 − h) each keep all their digits.
        """
        r = self.process.correlation[self.dimensions]
        noise = self._noise()
        total = noise + count * r
        return count * r.square() / total, 1 / (noise * (1 + r / total))

    def _noise(self) -> Tensor:
        """Return 1 − r, exactly."""
        return torch.sigmoid(-self.process.raw_correlation.double())[self.dimensions]

    def _checked(self, name: str, vectors: Tensor) -> Tensor:
        if vectors.shape[-1] != self.process.dim or (name == "z" and vectors.dim() != 2):
            raise UserError(
                f"{name}: expected vectors of {self.process.dim} dimensions, got "
                f"{tuple(vectors.shape)}"
            )
        return vectors


def _as_float32(vectors: Tensor) -> np.ndarray:
    return vectors.to(torch.float32).cpu().numpy()
