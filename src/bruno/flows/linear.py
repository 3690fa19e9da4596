"""Invertible linear maps of images: 1×1 convolutions and the discrete cosine transform."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bruno.flows.bijection import FACTORY_KWARGS, Bijection


class InvertibleConv1x1(Bijection):
    r"""A 1×1 convolution with weight :math:`P L U`, whose determinant is a product.

    Works on ``(B, C, H, W)`` and, as a linear map, on ``(B, C)``. Starts as a random rotation of
    the channels (Kingma & Dhariwal, *Glow*, NeurIPS 2018, section 3.2): the permutation :math:`P`
    and the signs of the diagonal of :math:`U` stay as they are, so the map can never become
    singular.

    Args:
        channels: Number of channels.
        rotated: Whether it starts as a random rotation; otherwise as the identity.
    """

    permutation: Tensor
    sign: Tensor
    frozen: Tensor | None

    def __init__(self, channels: int, *, rotated: bool = True) -> None:
        super().__init__()
        in_double = FACTORY_KWARGS | {"dtype": torch.float64}
        rotation = torch.eye(channels, **in_double)
        if rotated:
            rotation, _ = torch.linalg.qr(torch.randn(channels, channels, **in_double))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation.to(**FACTORY_KWARGS))
        self.register_buffer("sign", diagonal.sign().to(**FACTORY_KWARGS))
        self.register_buffer("frozen", None, persistent=False)
        self.lower = nn.Parameter(lower.tril(-1).to(**FACTORY_KWARGS))
        self.upper = nn.Parameter(upper.triu(1).to(**FACTORY_KWARGS))
        self.log_diagonal = nn.Parameter(diagonal.abs().log().to(**FACTORY_KWARGS))

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the weight, for inference alone."""
        self.register_buffer("frozen", self.weight(), persistent=False)

    def weight(self) -> Tensor:
        """Return the ``(C, C)`` matrix that multiplies the channels of every position, in float64.

        The product and its inverse are formed in double precision: rounding in a matrix that
        every pixel goes through would be the largest error of a round trip.
        """
        if self.frozen is not None:
            return self.frozen
        identity = torch.eye(self.sign.shape[0], dtype=torch.float64, device=self.sign.device)
        lower = self.lower.double().tril(-1) + identity
        diagonal = self.sign.double() * self.log_diagonal.double().exp()
        upper = self.upper.double().triu(1) + diagonal.diag()
        return self.permutation.double() @ lower @ upper

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply the channels of every position by the weight.

        Args:
            x: Data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        return self._multiply(x, self.weight()), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply the channels of every position by the inverse of the weight.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` or ``(B, C)`` and log-determinants ``(B,)``, in nats.
        """
        return self._multiply(z, torch.linalg.inv(self.weight())), -self._log_det(z)

    @staticmethod
    def _multiply(x: Tensor, weight: Tensor) -> Tensor:
        # Reduced precision here would break the round trip; it is for conditioners only.
        with torch.autocast(device_type=x.device.type, enabled=False):
            weight = weight.to(x.dtype)
            if x.dim() == 2:
                return nn.functional.linear(x, weight)
            return nn.functional.conv2d(x, weight[..., None, None])

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_diagonal.sum() * math.prod(x.shape[2:])).expand(x.shape[0])

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"channels={self.sign.shape[0]}"


class DiscreteCosineTransform(Bijection):
    r"""The orthonormal cosine transform of an image, lowest frequencies first.

    Coefficient :math:`(k, l)` weighs pixel :math:`(i, j)` with
    :math:`\cos(\pi (i + 1/2) k / H) \cos(\pi (j + 1/2) l / W)`, scaled to norm 1 (Ahmed, Natarajan
    & Rao, *Discrete Cosine Transform*, 1974). Maps ``(B, C, H, W)`` to ``(B, H·W·C)``, in the
    order of :math:`(k / H)^2 + (l / W)^2`, channels varying fastest; the log-determinant is 0.
    """

    order: Tensor

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, height, width)
        # Integers: with rounding, the order of equal frequencies would depend on the machine.
        device = FACTORY_KWARGS["device"]
        vertical = torch.arange(height, device=device) * width
        horizontal = torch.arange(width, device=device) * height
        frequency = (vertical[:, None].square() + horizontal.square()).flatten()
        self.register_buffer("order", frequency.argsort(stable=True), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the coefficients and zeros.

        Args:
            x: Data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent ``(B, C·H·W)`` and log-determinants ``(B,)``, in nats.
        """
        rows, columns = (_cosines(size, x) for size in self.shape[1:])
        with torch.autocast(device_type=x.device.type, enabled=False):
            coefficients = rows @ x @ columns.T
        ordered = coefficients.flatten(2)[..., self.order]
        return ordered.transpose(1, 2).flatten(1), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the image of given coefficients and zeros.

        Args:
            z: Latent, ``(B, C·H·W)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        rows, columns = (_cosines(size, z) for size in self.shape[1:])
        ordered = z.unflatten(1, (-1, self.shape[0])).transpose(1, 2)
        coefficients = ordered[..., self.order.argsort()].unflatten(2, self.shape[1:])
        with torch.autocast(device_type=z.device.type, enabled=False):
            image = rows.T @ coefficients @ columns
        return image, z.new_zeros(z.shape[0])

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"shape={self.shape}"


def _cosines(size: int, like: Tensor) -> Tensor:
    """Return the orthonormal waves along an axis as rows, slowest first."""
    place = torch.arange(size, dtype=torch.float64, device=like.device)
    waves = torch.cos(torch.pi / size * torch.outer(place, place + 0.5))
    orthonormal: Tensor = waves / waves.norm(dim=1, keepdim=True)
    return orthonormal.to(like.dtype)
