"""Invertible affine maps: activation normalisation, 1×1 convolutions and rotations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bruno.flows.bijection import Bijection


class ActivationNorm(Bijection):
    """Scale and shift every channel (Kingma & Dhariwal, *Glow*, NeurIPS 2018, section 3.1).

    Works on ``(B, C)`` and ``(B, C, H, W)``. Starts as the identity;
    :func:`~bruno.flows.initialise.initialise_from_data` makes its output standard on a batch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(x + shift) · exp(log_scale)`` and its log-determinant."""
        shape = (-1, *[1] * (x.dim() - 2))
        z = (x + self.shift.view(shape)) * self.log_scale.exp().view(shape)
        return z, self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``z · exp(−log_scale) − shift`` and its log-determinant."""
        shape = (-1, *[1] * (z.dim() - 2))
        x = z * (-self.log_scale).exp().view(shape) - self.shift.view(shape)
        return x, -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        positions = math.prod(x.shape[2:])
        return (self.log_scale.sum() * positions).expand(x.shape[0])

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"channels={self.log_scale.shape[0]}"


class InvertibleConvolution(Bijection):
    r"""A 1×1 convolution with weight :math:`P L U`, whose determinant is a product.

    Starts as a random rotation of the channels (Kingma & Dhariwal, *Glow*, NeurIPS 2018,
    section 3.2): the permutation :math:`P` and the signs of the diagonal of :math:`U` stay as
    they are, so the map can never become singular.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        dtype = torch.get_default_dtype()
        self.register_buffer("permutation", permutation.to(dtype))
        self.register_buffer("sign", diagonal.sign().to(dtype))
        self.lower = nn.Parameter(lower.tril(-1).to(dtype))
        self.upper = nn.Parameter(upper.triu(1).to(dtype))
        self.log_diagonal = nn.Parameter(diagonal.abs().log().to(dtype))

    def weight(self) -> Tensor:
        """Return the ``(C, C)`` matrix that multiplies the channels of every pixel, in float64.

        The product and its inverse are formed in double precision: rounding in a matrix that
        every pixel goes through would be the largest error of a round trip.
        """
        identity = torch.eye(self.sign.shape[0], dtype=torch.float64, device=self.sign.device)
        lower = self.lower.double().tril(-1) + identity
        diagonal = self.sign.double() * self.log_diagonal.double().exp()
        upper = self.upper.double().triu(1) + diagonal.diag()
        return self.permutation.double() @ lower @ upper

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply the channels of every pixel by the weight."""
        return self._multiply(x, self.weight()), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply the channels of every pixel by the inverse of the weight."""
        return self._multiply(z, torch.linalg.inv(self.weight())), -self._log_det(z)

    @staticmethod
    def _multiply(x: Tensor, weight: Tensor) -> Tensor:
        # Reduced precision here would break the round trip; it is for conditioners only.
        with torch.autocast(device_type=x.device.type, enabled=False):
            return nn.functional.conv2d(x, weight.to(x.dtype)[..., None, None])

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_diagonal.sum() * math.prod(x.shape[2:])).expand(x.shape[0])

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"channels={self.sign.shape[0]}"


class Rotation(Bijection):
    """A fixed rotation (or reflection) of vectors; its log-determinant is 0.

    Starts as the identity; not trained, but set from statistics of data.
    """

    matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(dim))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x`` in the basis of the matrix's columns."""
        return x @ self.matrix, x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the vectors that have coordinates ``z``."""
        return z @ self.matrix.T, z.new_zeros(z.shape[0])

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"dim={self.matrix.shape[0]}"
