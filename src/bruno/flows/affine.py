"""Affine maps: by channel, and by a full or a low-rank matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bruno.flows.bijection import FACTORY_KWARGS, Bijection
from bruno.flows.linear import DiscreteCosineTransform, InvertibleConv1x1

__all__ = [
    "ActivationNorm",
    "DiscreteCosineTransform",
    "FullAffine",
    "InvertibleConv1x1",
    "LowRankAffine",
    "channel_moments",
]


# A channel that is constant on the batch keeps a finite scale.
_SMALLEST_STD = 1e-3


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every channel of ``(B, C, ...)``, each ``(C,)``."""
    per_channel = x.transpose(0, 1).flatten(1)
    return per_channel.mean(1), per_channel.std(1).clamp_min(_SMALLEST_STD)


class ActivationNorm(Bijection):
    """Scale and shift every channel (Kingma & Dhariwal, *Glow*, NeurIPS 2018, section 3.1).

    Works on ``(B, C)`` and ``(B, C, H, W)``. Starts as the identity; :meth:`initialise` gives its
    output mean 0 and standard deviation 1 on a batch.
    """

    is_affine = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels, **FACTORY_KWARGS))
        self.shift = nn.Parameter(torch.zeros(channels, **FACTORY_KWARGS))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(x + shift) · exp(log_scale)`` and its log-determinant.

        Args:
            x: Data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        log_scale = self.log_scale
        z = (x + _along_channels(self.shift, x)) * _along_channels(log_scale.exp(), x)
        return z, _log_det_of_scale(log_scale, x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``z · exp(−log_scale) − shift`` and its log-determinant.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` or ``(B, C)`` and log-determinants ``(B,)``, in nats.
        """
        log_scale = self.log_scale
        # exp(-log_scale) would be another number than the reciprocal of the factor, by rounding.
        x = z / _along_channels(log_scale.exp(), z) - _along_channels(self.shift, z)
        return x, -_log_det_of_scale(log_scale, z)

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Standardise every channel on a batch, in place.

        Args:
            x: A batch of data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent of the batch, of the same shape.
        """
        mean, std = channel_moments(x)
        self.shift.copy_(-mean)
        self.log_scale.copy_(-std.log())
        return super().initialise(x, context)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"channels={self.log_scale.shape[0]}"


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Return one value for each channel, ``(C,)``, in a shape that broadcasts with ``x``."""
    return values if x.dim() == 2 else values.view(-1, *[1] * (x.dim() - 2))


def _log_det_of_scale(log_scale: Tensor, x: Tensor) -> Tensor:
    """Return the log-determinant, ``(B,)``, of scaling each channel of ``x``."""
    return (log_scale.sum() * math.prod(x.shape[2:])).expand(x.shape[0])


class FullAffine(Bijection):
    """A fixed shift, then an invertible matrix, of vectors.

    Starts as the identity; not trained, but set from statistics of data. The inverse matrix and the
    log-determinant are stored, so that a single vector costs one matrix-vector product.
    """

    is_affine = True
    shift: Tensor
    matrix: Tensor
    inverse_matrix: Tensor
    log_abs_det: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(dim, **FACTORY_KWARGS))
        self.register_buffer("matrix", torch.eye(dim, **FACTORY_KWARGS))
        self.register_buffer("inverse_matrix", torch.eye(dim, **FACTORY_KWARGS))
        self.register_buffer("log_abs_det", torch.zeros((), **FACTORY_KWARGS))

    def set(
        self, shift: Tensor, matrix: Tensor, inverse_matrix: Tensor, log_abs_det: Tensor
    ) -> None:
        """Replace shift, matrix, inverse and log-determinant, in place.

        Args:
            shift: Added to an element, ``(D,)``.
            matrix: Multiplies the shifted row vector from the right, ``(D, D)``.
            inverse_matrix: Its inverse.
            log_abs_det: Logarithm of the absolute value of its determinant.
        """
        self.shift.copy_(shift)
        self.matrix.copy_(matrix)
        self.inverse_matrix.copy_(inverse_matrix)
        self.log_abs_det.copy_(log_abs_det)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift, then multiply by the matrix.

        Args:
            x: Data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        return (x + self.shift) @ self.matrix, self.log_abs_det.expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply by its inverse, then shift back.

        Args:
            z: Latent, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        return z @ self.inverse_matrix - self.shift, -self.log_abs_det.expand(z.shape[0])

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Standardise every dimension on a batch, in place.

        Args:
            x: A batch of data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent of the batch, ``(B, D)``.
        """
        mean, std = channel_moments(x)
        self.set(-mean, (1 / std).diag(), std.diag(), -std.log().sum())
        return super().initialise(x, context)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"dim={self.matrix.shape[0]}"


class LowRankAffine(Bijection):
    r"""A fixed shift, scale and a matrix that acts on a subspace of dimension ``rank`` only.

    Scales every dimension, rotates the span of ``rank`` vectors to the first dimensions, and
    multiplies these by a matrix; in O(D · rank). The rotation is a product of Householder
    reflections, :math:`I - V T V^\top` (compact WY form: Schreiber & Van Loan, SIAM J. Sci. Stat.
    Comput. 1989). Starts as the identity; not trained, but set from statistics of data.
    """

    is_affine = True
    shift: Tensor
    scale: Tensor
    reflectors: Tensor
    weighted: Tensor
    matrix: Tensor
    inverse_matrix: Tensor
    log_abs_det: Tensor

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(dim, **FACTORY_KWARGS))
        self.register_buffer("scale", torch.ones(dim, **FACTORY_KWARGS))
        self.register_buffer("reflectors", torch.zeros(dim, rank, **FACTORY_KWARGS))
        self.register_buffer("weighted", torch.zeros(rank, dim, **FACTORY_KWARGS))  # T Vᵀ
        self.register_buffer("matrix", torch.eye(rank, **FACTORY_KWARGS))
        self.register_buffer("inverse_matrix", torch.eye(rank, **FACTORY_KWARGS))
        self.register_buffer("log_abs_det", torch.zeros((), **FACTORY_KWARGS))

    def span(self, x: Tensor) -> Tensor:
        """Rotate the span of ``rank`` vectors to the first dimensions from now on, in place.

        Args:
            x: The vectors behind the scale, ``(rank, D)``; they may be linearly dependent.

        Returns:
            Their first dimensions after the rotation, ``(rank, rank)``; the others are 0.

        Raises:
            ValueError: If there are not ``rank`` vectors of ``D`` dimensions.
        """
        if x.shape != self.weighted.shape:
            raise ValueError(f"x: expected {tuple(self.weighted.shape)}, got {tuple(x.shape)}")
        factors, tau = torch.geqrf(x.T)
        rank = len(tau)
        # A vector in the span of the earlier ones may need no reflection.
        needed = tau != 0
        identity = torch.eye(*factors.shape, dtype=factors.dtype, device=factors.device)
        reflectors = (factors.tril(-1) + identity) * needed
        # T⁻¹ is upper triangular, with 1 / τ on the diagonal (Joffrain et al., ACM TOMS 2006).
        inverse = (reflectors.T @ reflectors).triu(1)
        inverse += torch.where(needed, 1 / tau, torch.ones_like(tau)).diag()
        self.reflectors.copy_(reflectors)
        self.weighted.copy_(torch.linalg.solve_triangular(inverse, reflectors.T, upper=True))
        return factors[:rank].triu().T

    def set(
        self,
        shift: Tensor,
        scale: Tensor,
        matrix: Tensor,
        inverse_matrix: Tensor,
        log_abs_det: Tensor,
    ) -> None:
        """Replace shift, scale and matrix, in place.

        Args:
            shift: Added to an element, ``(D,)``.
            scale: Multiplies the sum, positive, ``(D,)``.
            matrix: Acts on the first dimensions behind the rotation, ``(rank, rank)``.
            inverse_matrix: Its inverse.
            log_abs_det: Logarithm of the absolute value of its determinant.
        """
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.matrix.copy_(matrix)
        self.inverse_matrix.copy_(inverse_matrix)
        self.log_abs_det.copy_(log_abs_det + scale.log().sum())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift, scale, rotate, then multiply the first dimensions by the matrix.

        Args:
            x: Data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        x = (x + self.shift) * self.scale
        x = torch.addmm(x, x @ self.reflectors, self.weighted, alpha=-1)
        rank = self.matrix.shape[0]
        z = torch.cat([x[:, :rank] @ self.matrix, x[:, rank:]], 1)
        return z, self.log_abs_det.expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the four steps in reverse order.

        Args:
            z: Latent, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        rank = self.matrix.shape[0]
        x = torch.cat([z[:, :rank] @ self.inverse_matrix, z[:, rank:]], 1)
        x = torch.addmm(x, x @ self.weighted.T, self.reflectors.T, alpha=-1)
        return x / self.scale - self.shift, -self.log_abs_det.expand(z.shape[0])

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Standardise every dimension on a batch, without rotation, in place.

        Args:
            x: A batch of data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent of the batch, ``(B, D)``.
        """
        mean, std = channel_moments(x)
        matrix = self.matrix
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        self.span(torch.zeros_like(self.weighted))
        self.set(-mean, 1 / std, identity, identity, self.log_abs_det.new_zeros(()))
        return super().initialise(x, context)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        dim, rank = self.reflectors.shape
        return f"dim={dim}, rank={rank}"
