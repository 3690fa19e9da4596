"""A flow for likelihood: pixels given those of coarser lattices, then Glow steps on a quarter."""

from __future__ import annotations

from dataclasses import dataclass

from bruno.flows.architectures.architecture import Architecture, EventShape, check_divisible, size
from bruno.flows.architectures.steps import convolutional_then_dense
from bruno.flows.bijection import Bijection
from bruno.flows.lattice import LatticeGaussianisation
from bruno.flows.reshape import Chain, StridedSubset


@dataclass(frozen=True)
class LatticeSizes:
    """Sizes of the flow.

    Attributes:
        filters: Width of the convolutional conditioners of the coarse quarter of the pixels.
        couplings: Glow steps there.
        residual_blocks: Residual blocks in each of these conditioners.
        dense_units: Width of the dense conditioners.
        dense_couplings: Number of dense couplings behind the convolutional ones.
        lattice_filters: Width of the networks that predict pixels from coarser lattices, at each
            halving of the distance, finest first.
        lattice_blocks: Residual blocks of these networks.
        grey_groups: Groups of grey levels to which they assign probabilities.
    """

    filters: tuple[int, ...] = size((48,))
    couplings: tuple[int, ...] = size((8,), least=0)
    residual_blocks: int = size(1, least=0)
    dense_units: int = size(512)
    dense_couplings: int = size(4, least=0)
    lattice_filters: tuple[int, ...] = size((48, 48))
    lattice_blocks: int = size(2, least=0)
    grey_groups: int = size(96)


def lattice_layers(
    event_shape: EventShape, context_dim: int, sizes: LatticeSizes
) -> list[Bijection]:
    """Return a lattice Gaussianisation, then Glow steps on every second pixel along each axis.

    Args:
        event_shape: ``(C, H, W)``, height and width multiples of 4.
        context_dim: Size of the context of the networks; 0 for none.
        sizes: The sizes.

    Raises:
        UserError: If the height or width is no multiple of 4.
    """
    channels, height, width = event_shape
    check_divisible(event_shape, 2 ** len(sizes.lattice_filters))
    lattice = LatticeGaussianisation(
        channels,
        height,
        width,
        filters=sizes.lattice_filters,
        residual_blocks=sizes.lattice_blocks,
        groups=sizes.grey_groups,
        context_dim=context_dim,
    )
    mixing = convolutional_then_dense(
        (channels, height // 2, width // 2),
        context_dim,
        filters=sizes.filters,
        couplings=sizes.couplings,
        residual_blocks=sizes.residual_blocks,
        dense_couplings=sizes.dense_couplings,
        dense_units=sizes.dense_units,
    )
    return [lattice, StridedSubset(height, width, Chain(mixing))]


LATTICE = Architecture(
    lattice_layers,
    LatticeSizes,
    "for likelihood: pixels given coarser lattices, Glow steps on a quarter of them",
)
