r"""Yeo-Johnson maps of every dimension, with exact inverse and log-determinant."""

from __future__ import annotations

import torch
from torch import Tensor

from bruno.flows.bijection import FACTORY_KWARGS, Bijection

# Distance from the centre at which the curvature begins, in standard deviations: the shorter, the
# more skewness a power up to 2 removes. Chosen with the prior of the power, by held-out log-loss of
# the two-covariance model on the tables that benchmarks/tables.py names for it.
_UNIT = 0.3
_PRIOR_STD = 0.5
# Steps of the grids of powers, and how many there are to each side.
_COARSE, _FINE, _PLACES = 0.25, 0.05, 4
# A power of 0 stands for the limit, which this reaches to rounding.
_SMALLEST_POWER = 1e-12
# More rows do not change a power that matters.
_MOST_ROWS = 1000


class YeoJohnson(Bijection):
    r"""Reduce the skewness of every dimension by a power (Yeo & Johnson, Biometrika 2000).

    With :math:`u = (x - m) / s`, centre :math:`m`, unit :math:`s` and power :math:`\lambda`,

    .. math::
        z = m + s \begin{cases}
            ((1 + u)^\lambda - 1) / \lambda & u \ge 0 \\
            -((1 - u)^{2 - \lambda} - 1) / (2 - \lambda) & u < 0
        \end{cases}

    and logarithms where a power is 0. Powers are from 0 to 2, where the image is the whole real
    line, so that densities of any latent distribution integrate to 1; at 1 it is the identity, as
    which the layer starts. It is not trained, but set from data: the power by maximum likelihood
    of a normal latent distribution, with a normal prior of standard deviation 0.5 about 1, so that
    few rows bend little.
    """

    centre: Tensor
    unit: Tensor
    power: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim, **FACTORY_KWARGS))
        self.register_buffer("unit", torch.ones(dim, **FACTORY_KWARGS))
        self.register_buffer("power", torch.ones(dim, **FACTORY_KWARGS))

    def set(self, centre: Tensor, unit: Tensor, power: Tensor) -> None:
        """Replace centres, units and powers, in place.

        Args:
            centre: Where the two branches meet, ``(D,)``.
            unit: Distance at which the curvature begins, positive, ``(D,)``.
            power: From 0 to 2, ``(D,)``.
        """
        self.centre.copy_(centre)
        self.unit.copy_(unit)
        self.power.copy_(power)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map every dimension.

        Args:
            x: Data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        z, log_slope = yeo_johnson(self._standard(x), self.power)
        # Exactly the identity where it is one: a long way there and back would round.
        bent = self.power != 1
        return torch.where(bent, self.centre + self.unit * z, x), log_slope.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map every dimension back.

        Args:
            z: Latent, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        v = self._standard(z)
        power = torch.where(v >= 0, self.power, 2 - self.power)
        log_distance = _log1p_over(power * v.abs(), power, v.abs())
        u = torch.expm1(log_distance).copysign(v)
        log_slope = (power - 1) * log_distance
        bent = self.power != 1
        return torch.where(bent, self.centre + self.unit * u, z), -log_slope.sum(1)

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Set centres, units and powers to their maximum a posteriori, in place.

        Args:
            x: A batch of data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent of the batch, ``(B, D)``.
        """
        self.fit(x)
        return super().initialise(x, context)

    @torch.no_grad()
    def fit(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Set centres, units and powers to their maximum a posteriori, in place.

        Args:
            x: A batch of data, ``(B, D)``.
            weight: How often entries count, ``(B, 1)`` or ``(B, D)``; by default once.
        """
        rows = torch.linspace(
            0, len(x) - 1, min(len(x), _MOST_ROWS), device=x.device, dtype=torch.float64
        )
        rows = rows.round().long()
        some = x[rows].double()
        each = torch.ones_like(some[:, :1]) if weight is None else weight[rows]
        share = each / each.sum(0).clamp_min(torch.finfo(x.dtype).tiny)
        # In units in which the squares of all numbers are finite.
        size = some.abs().amax(0).clamp_min(torch.finfo(x.dtype).tiny)
        mean = (share * (some / size)).sum(0)
        std = (share * (some / size - mean).square()).sum(0).sqrt()
        unit = _UNIT * std * size
        # A column of two different values is mapped to two, whatever the power.
        several = ((some > some.amin(0)) & (some < some.amax(0))).any(0)
        bends = several & (std > 1e-12) & (unit > torch.finfo(x.dtype).tiny)
        centre = torch.where(bends, mean * size, 0.0)
        self.set(centre, torch.where(bends, unit, 1.0), torch.ones_like(centre))
        power = _likeliest_power(self._standard(some), each)
        self.power.copy_(torch.where(bends, power, 1.0))

    def _standard(self, x: Tensor) -> Tensor:
        """Return distances from the centres in their units."""
        distance = x - self.centre
        # Of numbers near the largest, differences overflow.
        safe = x / self.unit - self.centre / self.unit
        return torch.where(distance.isfinite(), distance / self.unit, safe)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"dim={self.power.shape[0]}"


def yeo_johnson(u: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """Return Yeo-Johnson transforms and the logarithms of their derivatives.

    Args:
        u: Values, ``(..., D)``.
        power: From 0 to 2, ``(D,)``.

    Returns:
        Two tensors of the shape of the values.
    """
    power = torch.where(u >= 0, power, 2 - power)
    log_distance = u.abs().log1p()
    safe = torch.where(power == 0, torch.ones_like(power), power)
    grown = torch.expm1(power * log_distance) / safe
    z = torch.where(power == 0, log_distance, grown).copysign(u)
    return z, (power - 1) * log_distance


def _likeliest_power(u: Tensor, weight: Tensor) -> Tensor:
    """Return the maximum a posteriori power of every column ``(N, D)``, on a grid, ``(D,)``.

    Of a coarse grid first, and then of the fine one around the best.
    """
    number = weight.sum(0)
    share = weight / number.clamp_min(torch.finfo(u.dtype).tiny)
    sign, log_distance = torch.ones_like(u).copysign(u), u.abs().log1p()
    log_slope = (weight * sign * log_distance).sum(0)
    one = torch.ones_like(number)

    def score(power: Tensor) -> Tensor:
        # As yeo_johnson, whose selections by sign would take longer than all else here.
        exponent = torch.addcmul(one, sign, power - 1).clamp_min_(_SMALLEST_POWER)
        z = (exponent * log_distance).expm1_().div_(exponent).mul_(sign)
        variance = (share * (z - (share * z).sum(0)).square()).sum(0)
        variance = variance.clamp_min(torch.finfo(u.dtype).tiny)
        prior = ((power - 1) / _PRIOR_STD).square()
        return (power - 1) * log_slope - 0.5 * (number * variance.log() + prior)

    best = torch.ones_like(log_slope)
    highest = score(best)
    for step in (_COARSE, _FINE):
        centre = best
        # Of equals, the one nearest to the centre, whose score is known.
        for place in sorted(range(-_PLACES, _PLACES + 1), key=abs)[1:]:
            power = (centre + place * step).clamp(0, 2)
            found = score(power)
            best = torch.where(found > highest, power, best)
            highest = torch.maximum(found, highest)
    return best


def _log1p_over(product: Tensor, power: Tensor, limit: Tensor) -> Tensor:
    """Return log(1 + product) / power, and its limit where the power is 0."""
    safe = torch.where(power == 0, torch.ones_like(power), power)
    return torch.where(power == 0, limit, product.log1p() / safe)
