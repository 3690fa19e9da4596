"""From pixels to the real line, as part of the flow and of its log-determinant."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.flows.bijection import Bijection

LEVELS = 256
"""Grey levels of a pixel; dequantised pixels lie in [0, 256)."""


class PixelLogit(Bijection):
    r"""The logit of dequantised pixels, so that densities are those of the data as given.

    :math:`z = \mathrm{logit}(\alpha/2 + (1 - \alpha) x / 256)` for :math:`x \in [0, 256]`
    (Dinh, Sohl-Dickstein & Bengio, *Real NVP*, ICLR 2017, section 4.1; :math:`\alpha = 10^{-5}`
    as in BRUNO).

    Raises:
        UserError: If a pixel is not finite or lies outside [0, 256].
    """

    def __init__(self, alpha: float = 1e-5) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map pixels to the real line."""
        # A comparison with NaN is false, so one test finds both.
        if not bool(((x >= 0) & (x <= LEVELS)).all()):
            raise UserError(
                f"x: expected finite pixel values in [0, {LEVELS}] (0..255 plus dequantisation "
                f"noise), got values from {x.min():g} to {x.max():g}"
            )
        # log(y) and log(1 − y) separately: near white, 1 − y has no digits left in float32.
        log_y = self._log_unit(x)
        log_rest = self._log_unit(LEVELS - x)
        slope = math.log((1 - self.alpha) / LEVELS)
        return log_y - log_rest, (slope - log_y - log_rest).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the real line to pixels; what lies outside [0, 256] by rounding or α is clamped."""
        x = ((torch.sigmoid(z) - self.alpha / 2) * (LEVELS / (1 - self.alpha))).clamp(0, LEVELS)
        slope = math.log((1 - self.alpha) / LEVELS)
        log_y = torch.nn.functional.logsigmoid(z)
        log_rest = torch.nn.functional.logsigmoid(-z)
        return x, -(slope - log_y - log_rest).flatten(1).sum(1)

    def _log_unit(self, x: Tensor) -> Tensor:
        return (x * ((1 - self.alpha) / LEVELS) + self.alpha / 2).log()

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"alpha={self.alpha:g}"
