"""From pixels to the real line, as part of the flow and of its log-determinant."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.flows.bijection import FACTORY_KWARGS, Bijection
from bruno.validation import values_can_be_checked

LEVELS = 256
"""Grey levels of a pixel; dequantised pixels lie in [0, 256)."""


def check_pixels(x: Tensor) -> None:
    """Raise if pixels are not finite numbers in [0, 256].

    Raises:
        UserError: With the values that came.
    """
    # A comparison with NaN is false, so one test finds both.
    if values_can_be_checked(x) and not bool(((x >= 0) & (x <= LEVELS)).all()):
        raise UserError(
            f"x: expected finite pixel values in [0, {LEVELS}] (0..255 plus dequantisation "
            f"noise), got values from {x.min():g} to {x.max():g}"
        )


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
        """Map pixels to the real line.

        Args:
            x: Data, ``(B, C, H, W)`` in [0, 256].
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        check_pixels(x)
        # log(y) and log(1 − y) separately: near white, 1 − y has no digits left in float32.
        log_y = self._log_unit(x)
        log_rest = self._log_unit(LEVELS - x)
        slope = math.log((1 - self.alpha) / LEVELS)
        return log_y - log_rest, (slope - log_y - log_rest).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the real line to pixels; values outside [0, 256] by rounding or α are clamped.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` in [0, 256] and log-determinants ``(B,)``, in nats.
        """
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


class Cdf(NamedTuple):
    """Probability of grey levels, or of groups of them: their own, and of all below and above."""

    mass: Tensor
    below: Tensor
    above: Tensor

    @property
    def ends(self) -> Tensor:
        """Upper ends, where this is a table of neighbours."""
        return torch.cat([self.below[1:], self.below.new_ones(1)])

    def inside(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the position within the level, 0 to 1, of probabilities below and above it.

        Args:
            lower: Probabilities below the value.
            upper: Probabilities above the value, of the same shape.
        """
        from_below = (lower - self.below) / self.mass
        from_above = 1 - (upper - self.above) / self.mass
        return torch.where(lower <= upper, from_below, from_above).clamp(0, 1)


class NormalScores(Bijection):
    """Base of maps through a distribution function and the normal quantile, in both directions.

    Args:
        alpha: How far probabilities are kept from 0 and 1, together.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def _to_normal(self, inside: Tensor, share: Cdf, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the normal quantiles of positions inside grey levels, and the log-determinant."""
        # The quantile is taken from the nearer end: next to 1, a probability has few digits left.
        lower = self._squash(share.below + share.mass * inside)
        upper = self._squash(share.above + share.mass * (1 - inside))
        in_lower_half = lower <= upper
        quantile = torch.special.ndtri(torch.where(in_lower_half, lower, upper))
        z = torch.where(in_lower_half, quantile, -quantile)
        return z.to(dtype), self._log_densities(share.mass, z).flatten(1).sum(1).to(dtype)

    def _from_normal(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probability below and above ``z``, each with all its digits."""
        return self._unsquash(torch.special.ndtr(z)), self._unsquash(torch.special.ndtr(-z))

    def _squash(self, probability: Tensor) -> Tensor:
        return probability * (1 - self.alpha) + self.alpha / 2

    def _unsquash(self, probability: Tensor) -> Tensor:
        return ((probability - self.alpha / 2) / (1 - self.alpha)).clamp(0, 1)

    def _log_densities(self, mass: Tensor, z: Tensor) -> Tensor:
        """Return log dz/dx everywhere."""
        log_normal = -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
        return mass.log() + math.log1p(-self.alpha) - log_normal


class PixelGaussianisation(NormalScores):
    r"""Give pixels a standard normal marginal: their distribution function, then its quantile.

    :math:`z = \Phi^{-1}(\alpha/2 + (1 - \alpha) F(x))`, where :math:`F` is linear within each of
    the 256 grey levels. Dequantisation noise is uniform within a level, so this straightens it
    exactly: on images that are mostly black, the logit leaves the noise of every black pixel with
    the shape of an exponential distribution, which affine couplings cannot correct (marginal
    Gaussianisation: Chen & Gopinath, NeurIPS 2000).

    All levels are equally probable until :meth:`initialise` counts them in a batch.

    Args:
        alpha: How far the ends of [0, 256] are kept from infinity.
        smoothing: Share of the probability that is spread evenly over all levels when counts are
            taken from a batch, so that levels it lacks stay possible.

    Raises:
        UserError: If a pixel is not finite or lies outside [0, 256].
    """

    mass: Tensor

    def __init__(self, alpha: float = 1e-5, smoothing: float = 0.02) -> None:
        super().__init__(alpha)
        self.smoothing = smoothing
        self.register_buffer("mass", torch.full((LEVELS,), 1 / LEVELS, **FACTORY_KWARGS))

    def fit(self, x: Tensor) -> None:
        """Take the probabilities of the grey levels from pixels ``x``, in place."""
        check_pixels(x)
        levels = x.detach().flatten().long().clamp_max(LEVELS - 1)
        share = torch.bincount(levels, minlength=LEVELS).to(self.mass) / levels.numel()
        self.mass.copy_((1 - self.smoothing) * share + self.smoothing / LEVELS)

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Take the probabilities of the grey levels from a batch, in place.

        Args:
            x: A batch of data, ``(B, C, H, W)`` in [0, 256].
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent of the batch, of the same shape.
        """
        self.fit(x)
        return super().initialise(x, context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map pixels to the real line.

        Args:
            x: Data, ``(B, C, H, W)`` in [0, 256].
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        check_pixels(x)
        wide = x.double()
        level = wide.detach().long().clamp_max(LEVELS - 1)
        share = Cdf(*(table[level] for table in self._distribution()))
        return self._to_normal(wide - level, share, x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the real line to pixels; values outside [0, 256] by α are clamped.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` in [0, 256] and log-determinants ``(B,)``, in nats.
        """
        wide = z.double().contiguous()
        lower, upper = self._from_normal(wide)
        table = self._distribution()
        level = torch.searchsorted(table.ends, lower.detach()).clamp_max(LEVELS - 1)
        share = Cdf(*(column[level] for column in table))
        x = level + share.inside(lower, upper)
        return x.to(z.dtype), -self._log_densities(share.mass, wide).flatten(1).sum(1).to(z.dtype)

    def _distribution(self) -> Cdf:
        """Return the marginal distribution of grey levels, in float64."""
        mass = self.mass.double()
        mass = mass / mass.sum()
        return Cdf(mass, mass.cumsum(0) - mass, mass.flip(0).cumsum(0).flip(0) - mass)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"alpha={self.alpha:g}, smoothing={self.smoothing:g}"
