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
from bruno.validation import check_share


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
        kept = self.dimensions
        w = (z[:, kept] - self.process.loc[kept]) / self.process.variance[kept].sqrt()
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
        kept = self.dimensions
        r = self.process.correlation[kept]
        noise = torch.sigmoid(-self.process.raw_correlation.double())[kept]  # 1 − r, exactly
        n = evidence.count.double().unsqueeze(-1)
        total = noise + n * r
        mean = (evidence.mean[..., kept] - self.process.loc[kept]) / self.process.variance[
            kept
        ].sqrt()
        m = n * r / total * mean
        # With h = n r² / total the variance is 1 − h and its logarithm keeps the digits of small h.
        reduction = n * r.square() / total
        precision = 1 / (noise * (1 + r / total))
        constant = -0.5 * (torch.log1p(-reduction) + m.square() * precision).sum(-1, keepdim=True)
        return _as_float32(torch.cat([-0.5 * reduction * precision, m * precision, constant], -1))

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

    def _checked(self, name: str, vectors: Tensor) -> Tensor:
        if vectors.shape[-1] != self.process.dim or (name == "z" and vectors.dim() != 2):
            raise UserError(
                f"{name}: expected vectors of {self.process.dim} dimensions, got "
                f"{tuple(vectors.shape)}"
            )
        return vectors


def _as_float32(vectors: Tensor) -> np.ndarray:
    return vectors.to(torch.float32).cpu().numpy()
