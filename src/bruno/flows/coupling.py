r"""Affine couplings: scale and shift of one part of an element are functions of the other part.

With kept part :math:`x_b` (Dinh, Sohl-Dickstein & Bengio, *Real NVP*, ICLR 2017, eq. 7–9):

.. math:: y = b x + (1 - b) (x e^{s(x_b)} + t(x_b)), \qquad \log\det = \sum (1 - b) s(x_b)

with :math:`s = \tanh(\cdot)`, so that no coupling scales by more than a factor of e.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bruno.flows.bijection import Bijection
from bruno.flows.conditioners import data_dependent_initialisation


class Coupling(Bijection):
    """A coupling: the map of one part has parameters that a conditioner predicts from the rest."""

    conditioner: nn.Module

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Standardise the hidden activations of the conditioner on a batch, in place.

        Args:
            x: A batch of data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, of the same shape.
        """
        with data_dependent_initialisation(self.conditioner):
            return super().initialise(x, context)


class MaskedCoupling(Coupling):
    """A coupling whose kept part is given by a binary mask, at the full shape of the element.

    Args:
        mask: 1 where the element is kept, broadcastable to the shape of an element.
        conditioner: Maps the masked ``(B, C, ...)`` to ``(B, 2C, ...)``: raw scales, then shifts.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, conditioner: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.conditioner = conditioner

    def _scale_and_shift(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_scale, shift = _log_scale_and_shift(self.conditioner, x * self.mask, context)
        return log_scale * (1 - self.mask), shift * (1 - self.mask)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift the elements that the mask does not keep.

        Args:
            x: Data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        log_scale, shift = self._scale_and_shift(x, context)
        return x * log_scale.exp() + shift, log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift and scale back.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, C, H, W)`` or ``(B, C)`` and log-determinants ``(B,)``, in nats.
        """
        log_scale, shift = self._scale_and_shift(z, context)
        return (z - shift) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)


class SlicedCoupling(Coupling):
    """Base of couplings of two slices of the channels, one of which passes unchanged.

    Args:
        kept: Channels that pass unchanged and are the input of the conditioner.
        moved: The other channels.
        conditioner: Maps the kept channels to the parameters of the map of the moved ones.
    """

    def __init__(self, kept: slice, moved: slice, conditioner: nn.Module) -> None:
        super().__init__()
        self.kept, self.moved = kept, moved
        self.conditioner = conditioner

    def _replaced(self, x: Tensor, moved: Tensor) -> Tensor:
        """Return ``x`` with other moved channels."""
        result = x.clone()
        result[:, self.moved] = moved
        return result

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"kept={self.kept}, moved={self.moved}"


class SplitCoupling(SlicedCoupling):
    """An affine coupling of two slices of the channels; the kept part costs nothing.

    The conditioner maps the kept channels to twice the moved ones: raw scales, then shifts.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift the moved channels.

        Args:
            x: Data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        kept, moved = x[:, self.kept], x[:, self.moved]
        log_scale, shift = _log_scale_and_shift(self.conditioner, kept, context)
        return self._replaced(x, moved * log_scale.exp() + shift), log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift and scale back.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, C, H, W)`` or ``(B, C)`` and log-determinants ``(B,)``, in nats.
        """
        kept, moved = z[:, self.kept], z[:, self.moved]
        log_scale, shift = _log_scale_and_shift(self.conditioner, kept, context)
        return self._replaced(z, (moved - shift) * (-log_scale).exp()), -log_scale.flatten(1).sum(1)


def _log_scale_and_shift(
    conditioner: nn.Module, kept: Tensor, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    # Under autocast the network computes in half precision; the coupling itself never does.
    raw, shift = conditioner(kept, context).to(kept.dtype).chunk(2, dim=1)
    return torch.tanh(raw), shift
