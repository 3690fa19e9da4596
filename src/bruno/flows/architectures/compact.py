"""A flow for CPUs: marginal Gaussianisation, then Glow steps with small networks."""

from __future__ import annotations

from dataclasses import dataclass

from bruno.flows.architectures.architecture import Architecture, EventShape, check_divisible, size
from bruno.flows.architectures.steps import convolutional_then_dense
from bruno.flows.bijection import Bijection
from bruno.flows.preprocessing import PixelGaussianisation


@dataclass(frozen=True)
class CompactSizes:
    """Sizes of the flow.

    Attributes:
        filters: Width of the convolutional conditioners at a half and a quarter of the resolution.
        couplings: Glow steps at each of them.
        residual_blocks: Residual blocks in each convolutional conditioner.
        dense_units: Width of the dense conditioners.
        dense_couplings: Number of dense couplings behind the convolutional ones.
    """

    filters: tuple[int, ...] = size((32, 64))
    couplings: tuple[int, ...] = size((4, 6), least=0)
    residual_blocks: int = size(1, least=0)
    dense_units: int = size(512)
    dense_couplings: int = size(4, least=0)


def compact_layers(
    event_shape: EventShape, context_dim: int, sizes: CompactSizes
) -> list[Bijection]:
    """Return marginal Gaussianisation, then Glow steps, then dense couplings.

    Args:
        event_shape: ``(C, H, W)``, height and width even.
        context_dim: Size of the context of the couplings; 0 for none.
        sizes: The sizes.

    Raises:
        UserError: If the height or width is odd.
    """
    check_divisible(event_shape, 2)
    steps = convolutional_then_dense(
        event_shape,
        context_dim,
        filters=sizes.filters,
        couplings=sizes.couplings,
        residual_blocks=sizes.residual_blocks,
        dense_couplings=sizes.dense_couplings,
        dense_units=sizes.dense_units,
    )
    return [PixelGaussianisation(), *steps]


COMPACT = Architecture(
    compact_layers,
    CompactSizes,
    "for CPUs: squeezed first, few Glow steps with small networks, then dense couplings",
)
