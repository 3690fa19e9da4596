"""Sequences of layers that several architectures share."""

from __future__ import annotations

import math

from bruno.flows.affine import ActivationNorm
from bruno.flows.architectures.architecture import EventShape
from bruno.flows.bijection import Bijection
from bruno.flows.conditioners import DenseConditioner, ResidualConditioner
from bruno.flows.coupling import SplitCoupling
from bruno.flows.linear import InvertibleConv1x1
from bruno.flows.reshape import Flatten, Squeeze


def convolutional_steps(
    event_shape: EventShape,
    context_dim: int,
    *,
    filters: tuple[int, ...],
    couplings: tuple[int, ...],
    residual_blocks: int,
) -> list[Bijection]:
    """Return Glow steps at halved resolutions: norm, 1×1 convolution, coupling; then flatten.

    Args:
        event_shape: ``(C, H, W)``.
        context_dim: Size of the context of the couplings; 0 for none.
        filters: Width of the conditioners at each resolution.
        couplings: Number of steps at each resolution.
        residual_blocks: Residual blocks of each conditioner.
    """
    channels, height, width = event_shape
    layers: list[Bijection] = []
    for width_of_network, number in zip(filters, couplings, strict=True):
        # An odd size cannot be squeezed again: its steps stay at the resolution reached so far.
        if height % 2 == 0 and width % 2 == 0:
            layers.append(Squeeze())
            channels, height, width = 4 * channels, height // 2, width // 2
        kept = channels // 2
        for _ in range(number):
            conditioner = ResidualConditioner(
                kept,
                2 * (channels - kept),
                width_of_network,
                residual_blocks,
                context_dim,
                modulated=True,
            )
            layers += [
                ActivationNorm(channels),
                InvertibleConv1x1(channels),
                SplitCoupling(slice(None, kept), slice(kept, None), conditioner),
            ]
    return [*layers, Flatten(channels, height, width)]


def dense_steps(dim: int, context_dim: int, *, couplings: int, units: int) -> list[Bijection]:
    """Return couplings between odd and even dimensions in turn, norms before and after each.

    Args:
        dim: Dimensions of the vectors.
        context_dim: Size of the context of the couplings; 0 for none.
        couplings: How many.
        units: Width of their conditioners.
    """
    layers: list[Bijection] = []
    for i in range(couplings):
        kept, moved = slice(1 - i % 2, None, 2), slice(i % 2, None, 2)
        layers += [ActivationNorm(dim), dense_coupling(dim, kept, moved, units, context_dim)]
    return [*layers, ActivationNorm(dim)]


def dense_coupling(
    dim: int, kept: slice, moved: slice, units: int, context_dim: int
) -> SplitCoupling:
    """Return a coupling of two slices of a vector's dimensions, which together are all.

    Args:
        dim: Dimensions of the vector.
        kept: Dimensions the conditioner sees.
        moved: The others.
        units: Width of the conditioner.
        context_dim: Size of its context; 0 for none.
    """
    kept_dim = len(range(*kept.indices(dim)))
    conditioner = DenseConditioner(
        kept_dim, 2 * (dim - kept_dim), units, context_dim, modulated=True
    )
    return SplitCoupling(kept, moved, conditioner)


def convolutional_then_dense(
    event_shape: EventShape,
    context_dim: int,
    *,
    filters: tuple[int, ...],
    couplings: tuple[int, ...],
    residual_blocks: int,
    dense_couplings: int,
    dense_units: int,
) -> list[Bijection]:
    """Return :func:`convolutional_steps`, then :func:`dense_steps` on the flat vector.

    Args:
        event_shape: ``(C, H, W)``.
        context_dim: Size of the context of the couplings; 0 for none.
        filters: Width of the convolutional conditioners at each resolution.
        couplings: Number of convolutional steps at each resolution.
        residual_blocks: Residual blocks of each convolutional conditioner.
        dense_couplings: Number of dense couplings.
        dense_units: Width of their conditioners.
    """
    convolutional = convolutional_steps(
        event_shape,
        context_dim,
        filters=filters,
        couplings=couplings,
        residual_blocks=residual_blocks,
    )
    dim = math.prod(event_shape)
    return convolutional + dense_steps(
        dim, context_dim, couplings=dense_couplings, units=dense_units
    )
