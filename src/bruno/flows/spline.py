r"""Monotone rational-quadratic splines, and couplings that map each value through one.

Between neighbouring knots :math:`(x_k, y_k)`, with slopes :math:`\delta_k` there,
:math:`s_k = (y_{k+1} - y_k) / (x_{k+1} - x_k)` and
:math:`\xi = (x - x_k) / (x_{k+1} - x_k)`, a value becomes (Durkan et al., *Neural Spline Flows*,
NeurIPS 2019, eq. 4)

.. math::
    y = y_k + \frac{(y_{k+1} - y_k) (s_k \xi^2 + \delta_k \xi (1 - \xi))}
                   {s_k + (\delta_{k+1} + \delta_k - 2 s_k) \xi (1 - \xi)}

Unlike an affine map it can be steep in one place and flat in another, as the step between paper
and ink is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softmax, softplus

from bruno.flows.coupling import SlicedCoupling

# Smallest width and height of a bin, relative to the whole interval, and smallest slope of a knot.
_LEAST_SIZE, _LEAST_SLOPE = 1e-3, 1e-3
# A raw slope of 0 is a slope of 1, so a network that returns zeros gives the identity.
_SLOPE_OFFSET = math.log(math.expm1(1 - _LEAST_SLOPE))


class _Bin(NamedTuple):
    """The bin of every value: its lower left knot, its sides, and the slopes at both knots.

    ``steepness`` is the mean slope.
    """

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    steepness: Tensor
    slope: Tensor
    next_slope: Tensor


def spline(raw: Tensor, x: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Map values through monotone splines that are the identity outside [−bound, bound].

    Args:
        raw: Free parameters of the spline of every value, ``(..., 3K − 1)`` for ``K`` bins: raw
            widths, heights and inner slopes. Zeros give the identity.
        x: The values, ``(...)``.
        bound: Where the identity begins.

    Returns:
        The images of the values and the logarithms of the derivatives there, each ``(...)``.
    """
    inside = x.abs() < bound
    place = torch.where(inside, x, 0.0)
    found = _bin_of(raw, place, bound, by_height=False)
    share = (place - found.x) / found.width
    mixed = share * (1 - share)
    curvature = found.slope + found.next_slope - 2 * found.steepness
    denominator = found.steepness + curvature * mixed
    rise = found.steepness * share.square() + found.slope * mixed
    y = found.y + found.height * rise / denominator
    log_slope = _log_slope(found, share, mixed, denominator)
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)


def inverse_spline(raw: Tensor, y: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Undo :func:`spline`, in closed form (the same paper, eq. 6 to 8).

    Args:
        raw: Free parameters of the spline of every value, ``(..., 3K − 1)``.
        y: The values, ``(...)``.
        bound: Where the identity begins.

    Returns:
        The preimages of the values and the logarithms of the derivatives of the inverse.
    """
    inside = y.abs() < bound
    place = torch.where(inside, y, 0.0)
    found = _bin_of(raw, place, bound, by_height=True)
    rise = place - found.y
    curvature = found.slope + found.next_slope - 2 * found.steepness
    a = found.height * (found.steepness - found.slope) + rise * curvature
    b = found.height * found.slope - rise * curvature
    c = -found.steepness * rise
    # Of the two forms of the root, the one in which nothing cancels.
    share = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
    mixed = share * (1 - share)
    denominator = found.steepness + curvature * mixed
    x = found.x + found.width * share
    log_slope = -_log_slope(found, share, mixed, denominator)
    return torch.where(inside, x, y), torch.where(inside, log_slope, 0.0)


def _log_slope(found: _Bin, share: Tensor, mixed: Tensor, denominator: Tensor) -> Tensor:
    """Return the logarithm of the derivative of the spline (the same paper, eq. 5)."""
    numerator = (
        found.next_slope * share.square()
        + 2 * found.steepness * mixed
        + found.slope * (1 - share).square()
    )
    return (numerator * (found.steepness / denominator).square()).log()


def _bin_of(raw: Tensor, place: Tensor, bound: float, *, by_height: bool) -> _Bin:
    """Return the bins in which values lie, along the x axis or along the y axis."""
    bins = (raw.shape[-1] + 1) // 3
    sizes, raw_slopes = raw.split([2 * bins, bins - 1], -1)
    knots = _knots(sizes.unflatten(-1, (2, bins)), bound)
    inner = knots[..., int(by_height), 1:-1]
    index = (place.unsqueeze(-1) >= inner).sum(-1, keepdim=True)
    ends = torch.cat([index, index + 1], -1)
    # The many parameters stay in the precision of the network, the few values in their own.
    corners = knots.gather(-1, ends.unsqueeze(-2).expand(*ends.shape[:-1], 2, 2)).to(place.dtype)
    lower, upper = corners.unbind(-1)
    # Only the slopes at the ends of the bin are needed.
    raw_slopes = pad(raw_slopes, (1, 1)).gather(-1, ends)
    slopes = (_LEAST_SLOPE + softplus(raw_slopes + _SLOPE_OFFSET)).to(place.dtype)
    x, y = lower.unbind(-1)
    width, height = (upper - lower).unbind(-1)
    slope, next_slope = slopes.unbind(-1)
    return _Bin(x, y, width, height, height / width, slope, next_slope)


def _knots(raw_sizes: Tensor, bound: float) -> Tensor:
    """Return the knots along both axes, from −bound to bound, ``(..., 2, K + 1)``."""
    bins = raw_sizes.shape[-1]
    sizes = _LEAST_SIZE + (1 - _LEAST_SIZE * bins) * softmax(raw_sizes, -1)
    inner = 2 * bound * sizes[..., :-1].cumsum(-1) - bound
    return pad(pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


class SplineCoupling(SlicedCoupling):
    """A coupling of two slices of the channels whose moved values go through splines.

    Works on ``(B, C)`` and ``(B, C, H, W)``. It starts as the identity.

    Args:
        kept: Channels that pass unchanged and are the input of the conditioner.
        moved: The other channels.
        conditioner: Maps the kept channels to ``3 · bins − 1`` for every moved one, the
            parameters of one moved channel next to each other.
        bins: Bins of every spline.
        bound: Values beyond ± this pass unchanged.
    """

    def __init__(
        self, kept: slice, moved: slice, conditioner: nn.Module, *, bins: int, bound: float = 5.0
    ) -> None:
        super().__init__(kept, moved, conditioner)
        self.bins, self.bound = bins, bound

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the moved channels through splines.

        Args:
            x: Data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        y, log_slope = spline(self._spline_parameters(x, context), x[:, self.moved], self.bound)
        return self._replaced(x, y), log_slope.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the moved channels back.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, C, H, W)`` or ``(B, C)`` and log-determinants ``(B,)``, in nats.
        """
        x, log_slope = inverse_spline(
            self._spline_parameters(z, context), z[:, self.moved], self.bound
        )
        return self._replaced(z, x), log_slope.flatten(1).sum(1)

    def _spline_parameters(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the raw parameters of the spline of every moved value."""
        raw: Tensor = self.conditioner(x[:, self.kept], context)
        # Under autocast the network computes in half precision; knots never do.
        raw = raw.float() if raw.dtype == torch.bfloat16 else raw
        of_each: Tensor = raw.unflatten(1, (-1, 3 * self.bins - 1))
        return of_each.movedim(2, -1)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"{super().extra_repr()}, bins={self.bins}, bound={self.bound:g}"
