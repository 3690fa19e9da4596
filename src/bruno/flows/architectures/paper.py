"""The flows of BRUNO and of Conditional BRUNO, as published."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from bruno.flows.architectures.architecture import Architecture, EventShape, check_divisible, size
from bruno.flows.bijection import Bijection
from bruno.flows.conditioners import DenseConditioner, ResidualConditioner
from bruno.flows.coupling import MaskedCoupling
from bruno.flows.masks import alternating_mask, channel_mask, checkerboard_mask
from bruno.flows.preprocessing import PixelLogit
from bruno.flows.reshape import Chain, FactorOut, Flatten, Squeeze, Unsqueeze


@dataclass(frozen=True)
class PaperSizes:
    """Sizes of the flow of BRUNO.

    Attributes:
        filters: Width of the convolutional conditioners.
        residual_blocks: Residual blocks in each of them.
        scales: Resolutions of masked couplings.
        dense_units: Width of the dense conditioners.
        dense_couplings: Number of dense couplings.
    """

    filters: tuple[int, ...] = size((64,))
    residual_blocks: int = size(8, least=0)
    scales: int = size(2)
    dense_units: int = size(512)
    dense_couplings: int = size(6, least=0)


@dataclass(frozen=True)
class ConditionalPaperSizes(PaperSizes):
    """Sizes of the flow of Conditional BRUNO, as :class:`PaperSizes`."""

    residual_blocks: int = size(6, least=0)
    scales: int = size(3)
    dense_units: int = size(256)


def paper_layers(event_shape: EventShape, context_dim: int, sizes: PaperSizes) -> list[Bijection]:
    """Return scales of masked couplings, half factored out between them, then dense couplings.

    Args:
        event_shape: ``(C, H, W)``.
        context_dim: Size of the context of the couplings; 0 for none.
        sizes: The sizes.

    Raises:
        UserError: If the height and width cannot be halved as often as there are scales.
    """
    check_divisible(event_shape, 2 ** max(1, sizes.scales - 1))
    channels, height, width = event_shape
    dim = math.prod(event_shape)
    dense = [
        MaskedCoupling(
            alternating_mask(dim, i % 2),
            DenseConditioner(dim, 2 * dim, sizes.dense_units, context_dim),
        )
        for i in range(sizes.dense_couplings)
    ]
    first = _scale(event_shape, context_dim, sizes, sizes.scales)
    flat = event_shape if sizes.scales == 1 else (4 * channels, height // 2, width // 2)
    return [PixelLogit(), *first, Flatten(*flat), *dense]


def _scale(
    event_shape: EventShape, context_dim: int, sizes: PaperSizes, scales: int
) -> list[Bijection]:
    """Return the layers from an image to a squeezed one; the last scale keeps the shape."""
    channels, height, width = event_shape

    def coupling(mask: Tensor, channels: int) -> MaskedCoupling:
        (filters,) = sizes.filters
        return MaskedCoupling(
            mask,
            ResidualConditioner(
                channels, 2 * channels, filters, sizes.residual_blocks, context_dim
            ),
        )

    number = 4 if scales == 1 else 3
    fine = [coupling(checkerboard_mask(height, width, i % 2), channels) for i in range(number)]
    if scales == 1:
        return [*fine]
    middle = [coupling(channel_mask(4 * channels, i % 2), 4 * channels) for i in range(3)]
    rest = (2 * channels, height // 2, width // 2)
    coarse = _scale(rest, context_dim, sizes, scales - 1)
    if scales > 2:
        coarse.append(Unsqueeze())
    return [*fine, Squeeze(), *middle, FactorOut(Chain(coarse))]


PAPER = Architecture(
    paper_layers,
    PaperSizes,
    "BRUNO (2018): masked couplings with eight residual blocks at full resolution, then six dense",
)
CONDITIONAL_PAPER = Architecture(
    paper_layers,
    ConditionalPaperSizes,
    "Conditional BRUNO (2018): three resolutions, six residual blocks; sizes are multiples of 4",
)
