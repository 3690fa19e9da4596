"""The flows there are, by name, and how each is assembled from couplings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bruno.errors import UserError
from bruno.flows.bijection import Bijection
from bruno.flows.conditioners import DenseConditioner, ResidualConditioner
from bruno.flows.coupling import MaskedCoupling, SplitCoupling
from bruno.flows.lattice import LatticeGaussianisation
from bruno.flows.linear import (
    ActivationNorm,
    CosineTransform,
    InvertibleConvolution,
    LinearMap,
    SpannedMap,
)
from bruno.flows.masks import alternating_mask, channel_mask, checkerboard_mask
from bruno.flows.preprocessing import PixelGaussianisation, PixelLogit
from bruno.flows.reshape import (
    Chain,
    EverySecond,
    FactorOut,
    Flatten,
    Leading,
    Squeeze,
    Unsqueeze,
)


@dataclass(frozen=True)
class Architecture:
    """The sizes of a flow; a preset is one of these, and keywords of RealNVP override its fields.

    Attributes:
        filters: Width of the convolutional conditioners at each resolution (paper: all alike).
        couplings: Couplings at each resolution (``compact`` and ``lattice``).
        residual_blocks: Residual blocks in each convolutional conditioner.
        scales: Resolutions of masked couplings (``paper`` and ``conditional-paper``).
        dense_units: Width of the dense conditioners.
        dense_couplings: Number of dense couplings behind the convolutional ones.
        lattice_filters: Width of the networks that predict pixels from coarser lattices, at each
            halving of the distance, finest first; none where pixels are only given their marginal.
        lattice_blocks: Residual blocks of these networks.
        grey_groups: Groups of grey levels they tell apart.
        frequencies: Coefficients of the cosine transform, lowest first, that the dense couplings
            of ``spectral`` act on.
        modulated: Whether a context scales the hidden layers of the conditioners, too.
        rank: Dimensions of the subspace that ``linear`` mixes; 0 for the whole space.
    """

    filters: tuple[int, ...] = ()
    couplings: tuple[int, ...] = ()
    residual_blocks: int = 0
    scales: int = 0
    dense_units: int = 512
    dense_couplings: int = 6
    lattice_filters: tuple[int, ...] = ()
    lattice_blocks: int = 0
    grey_groups: int = 0
    frequencies: int = 0
    modulated: bool = True
    rank: int = 0


PRESETS = {
    "paper": Architecture(filters=(64,), residual_blocks=8, scales=2, modulated=False),
    "conditional-paper": Architecture(
        filters=(64,), residual_blocks=6, scales=3, dense_units=256, modulated=False
    ),
    "compact": Architecture(
        filters=(32, 64), couplings=(4, 6), residual_blocks=1, dense_couplings=4
    ),
    "lattice": Architecture(
        filters=(48,),
        couplings=(8,),
        residual_blocks=1,
        dense_couplings=4,
        lattice_filters=(48, 48),
        lattice_blocks=2,
        grey_groups=96,
    ),
    "spectral": Architecture(dense_couplings=8, frequencies=64),
    "dense": Architecture(dense_units=256),
    "linear": Architecture(),
    "affine": Architecture(),
}
VECTOR_PRESETS = ("dense", "linear", "affine")
"""Presets that take vectors; ``dense`` takes images, too."""


def layers_of(
    preset: str, event_shape: tuple[int, ...], architecture: Architecture, context_dim: int
) -> list[Bijection]:
    """Return the layers of a flow, from data to latent.

    Args:
        preset: A key of :data:`PRESETS`.
        event_shape: ``(C, H, W)`` or ``(D,)``.
        architecture: The sizes.
        context_dim: Size of the encoded context; 0 for none.

    Raises:
        UserError: If the height and width cannot be halved as often as the flow does.
    """
    _check_halvings(event_shape, architecture.scales - 1)
    build: dict[str, Callable[..., list[Bijection]]] = {
        "paper": _paper_layers,
        "conditional-paper": _paper_layers,
        "compact": _compact_layers,
        "lattice": _lattice_layers,
        "spectral": _spectral_layers,
        "dense": _dense_layers,
        "linear": _linear_layers,
        "affine": _affine_layers,
    }
    return build[preset](event_shape, architecture, context_dim)


def _check_halvings(event_shape: tuple[int, ...], halvings: int) -> None:
    side = 2**halvings if halvings > 0 else 1
    if any(size % side for size in event_shape[1:]):
        raise UserError(
            f"event_shape: expected a height and width that {side} divides, got {event_shape[1:]}"
        )


def _paper_layers(
    event_shape: tuple[int, ...], architecture: Architecture, context_dim: int
) -> list[Bijection]:
    """Scales of masked couplings, half factored out between them, then dense couplings."""
    channels, height, width = event_shape
    squeezed = (4 * channels, height // 2, width // 2)
    dim = math.prod(event_shape)
    dense = [
        MaskedCoupling(
            alternating_mask(dim, i % 2),
            DenseConditioner(dim, 2 * dim, architecture.dense_units, context_dim),
        )
        for i in range(architecture.dense_couplings)
    ]
    first = _paper_scale(event_shape, architecture, context_dim, architecture.scales)
    return [PixelLogit(), *first, Flatten(*squeezed), *dense]


def _paper_scale(
    event_shape: tuple[int, ...], architecture: Architecture, context_dim: int, scales: int
) -> list[Bijection]:
    """From an image to a squeezed one, or to one of the same shape in the last of the scales."""
    channels, height, width = event_shape

    def coupling(mask: Tensor, channels: int) -> MaskedCoupling:
        (filters,) = architecture.filters
        return MaskedCoupling(
            mask,
            ResidualConditioner(
                channels, 2 * channels, filters, architecture.residual_blocks, context_dim
            ),
        )

    number = 4 if scales == 1 else 3
    fine = [coupling(checkerboard_mask(height, width, i % 2), channels) for i in range(number)]
    if scales == 1:
        return [*fine]
    middle = [coupling(channel_mask(4 * channels, i % 2), 4 * channels) for i in range(3)]
    rest = (2 * channels, height // 2, width // 2)
    coarse = _paper_scale(rest, architecture, context_dim, scales - 1)
    if scales > 2:
        coarse.append(Unsqueeze())
    return [*fine, Squeeze(), *middle, FactorOut(Chain(coarse))]


def _compact_layers(
    event_shape: tuple[int, ...], architecture: Architecture, context_dim: int
) -> list[Bijection]:
    """Pixels given their marginal, then mixed."""
    return [PixelGaussianisation(), *_mixing_steps(event_shape, architecture, context_dim)]


def _lattice_layers(
    event_shape: tuple[int, ...], architecture: Architecture, context_dim: int
) -> list[Bijection]:
    """Pixels given coarser ones, then the quarter that no network has seen together mixed."""
    channels, height, width = event_shape
    lattice = LatticeGaussianisation(
        channels,
        height,
        width,
        filters=architecture.lattice_filters,
        residual_blocks=architecture.lattice_blocks,
        groups=architecture.grey_groups,
        context_dim=context_dim,
    )
    quarter = (channels, height // 2, width // 2)
    mixing = Chain(_mixing_steps(quarter, architecture, context_dim))
    return [lattice, EverySecond(height, width, mixing)]


def _spectral_layers(
    event_shape: tuple[int, ...], architecture: Architecture, context_dim: int
) -> list[Bijection]:
    """High frequencies given low ones, which are then mixed with each other again and again."""
    dim = math.prod(event_shape)
    low = min(architecture.frequencies, dim // 2)
    half = (slice(None, low // 2), slice(low // 2, None))
    steps: list[Bijection] = []
    for _ in range(architecture.dense_couplings):
        steps += [
            ActivationNorm(low),
            InvertibleConvolution(low),
            _dense_coupling(low, *half, architecture, context_dim),
        ]
    steps += [ActivationNorm(low), InvertibleConvolution(low)]
    coarse_to_fine = _dense_coupling(
        dim, slice(None, low), slice(low, None), architecture, context_dim
    )
    return [
        PixelGaussianisation(),
        CosineTransform(*event_shape),
        ActivationNorm(dim),
        coarse_to_fine,
        Leading(low, Chain(steps)),
        ActivationNorm(dim),
    ]


def _mixing_steps(
    event_shape: tuple[int, ...], architecture: Architecture, context_dim: int
) -> list[Bijection]:
    """At each resolution squeeze, then steps of norm, 1×1 convolution and a split coupling."""
    channels, height, width = event_shape
    layers: list[Bijection] = []
    for filters, couplings in zip(architecture.filters, architecture.couplings, strict=True):
        # An odd size cannot be squeezed again: its steps stay at the resolution reached so far.
        if height % 2 == 0 and width % 2 == 0:
            layers.append(Squeeze())
            channels, height, width = 4 * channels, height // 2, width // 2
        kept = channels // 2
        for _ in range(couplings):
            conditioner = ResidualConditioner(
                kept,
                2 * (channels - kept),
                filters,
                architecture.residual_blocks,
                context_dim,
                modulated=architecture.modulated,
            )
            layers += [
                ActivationNorm(channels),
                InvertibleConvolution(channels),
                SplitCoupling(slice(None, kept), slice(kept, None), conditioner),
            ]
    layers.append(Flatten(channels, height, width))
    return layers + _dense_steps(math.prod(event_shape), architecture, context_dim)


def _dense_layers(
    event_shape: tuple[int, ...], architecture: Architecture, context_dim: int
) -> list[Bijection]:
    """Dense couplings only; images are given normal marginals first."""
    is_image = len(event_shape) == 3
    pixels: list[Bijection] = [PixelGaussianisation(), Flatten(*event_shape)] if is_image else []
    return pixels + _dense_steps(math.prod(event_shape), architecture, context_dim)


def _dense_steps(dim: int, architecture: Architecture, context_dim: int) -> list[Bijection]:
    """Couplings between odd and even dimensions in turn, each behind a norm, and a last norm."""
    layers: list[Bijection] = []
    for i in range(architecture.dense_couplings):
        kept, moved = slice(1 - i % 2, None, 2), slice(i % 2, None, 2)
        coupling = _dense_coupling(dim, kept, moved, architecture, context_dim)
        layers += [ActivationNorm(dim), coupling]
    return [*layers, ActivationNorm(dim)]


def _dense_coupling(
    dim: int, kept: slice, moved: slice, architecture: Architecture, context_dim: int
) -> SplitCoupling:
    """Return a coupling of two slices of a vector's dimensions, which together are all."""
    kept_dim = len(range(*kept.indices(dim)))
    conditioner = DenseConditioner(
        kept_dim,
        2 * (dim - kept_dim),
        architecture.dense_units,
        context_dim,
        modulated=architecture.modulated,
    )
    return SplitCoupling(kept, moved, conditioner)


def _linear_layers(
    event_shape: tuple[int, ...], architecture: Architecture, _: int
) -> list[Bijection]:
    """Any invertible affine map, or one that mixes only what some vectors span."""
    (dim,) = event_shape
    return [SpannedMap(dim, architecture.rank) if architecture.rank else LinearMap(dim)]


def _affine_layers(event_shape: tuple[int, ...], *_: object) -> list[Bijection]:
    """A scale and a shift of every dimension."""
    return [ActivationNorm(*event_shape)]
