"""Flow on block sums by splines, with pixels autoregressive given the sums."""

from __future__ import annotations

from dataclasses import dataclass

from bruno.flows.affine import ActivationNorm
from bruno.flows.architectures.architecture import Architecture, EventShape, check_divisible, size
from bruno.flows.bijection import Bijection
from bruno.flows.block_sums import BlockSums
from bruno.flows.conditioners import DenseConditioner, ResidualConditioner
from bruno.flows.linear import DiscreteCosineTransform, InvertibleConv1x1
from bruno.flows.reshape import Chain
from bruno.flows.spline import SplineCoupling


@dataclass(frozen=True)
class SumsSizes:
    """Sizes of the flow on block sums and pixels.

    Attributes:
        filters: Width of the convolutional conditioners on the sums.
        couplings: Number of convolutional couplings on the sums.
        residual_blocks: Residual blocks in each convolutional conditioner.
        dense_units: Width of the dense conditioners on the sums.
        dense_couplings: Number of dense couplings on the sums.
        bins: Number of bins of each spline.
        pixel_units: Width of the network for the pixels given the sums.
    """

    filters: int = size(64)
    couplings: int = size(4, least=0)
    residual_blocks: int = size(1, least=0)
    dense_units: int = size(384)
    dense_couplings: int = size(4, least=0)
    bins: int = size(8, least=2)
    pixel_units: int = size(256)


def sums_layers(event_shape: EventShape, context_dim: int, sizes: SumsSizes) -> list[Bijection]:
    """Return the layers: block sums, with spline couplings on them, and pixels given the sums.

    Args:
        event_shape: ``(C, H, W)``, height and width multiples of 4.
        context_dim: Size of the context of the networks; 0 for none.
        sizes: Sizes of the layers.

    Raises:
        UserError: If the height or width is not a multiple of 4.
    """
    channels, height, width = event_shape
    check_divisible(event_shape, 4)
    in_code = (4 * channels, height // 4, width // 4)
    parameters = 3 * sizes.bins - 1
    half = in_code[0] // 2
    steps: list[Bijection] = []
    for _ in range(sizes.couplings):
        convolutional = ResidualConditioner(
            half,
            (in_code[0] - half) * parameters,
            sizes.filters,
            sizes.residual_blocks,
            context_dim,
            modulated=True,
        )
        steps += [
            ActivationNorm(in_code[0]),
            InvertibleConv1x1(in_code[0]),
            SplineCoupling(slice(None, half), slice(half, None), convolutional, bins=sizes.bins),
        ]
    dim = in_code[0] * in_code[1] * in_code[2]
    steps += [DiscreteCosineTransform(*in_code), ActivationNorm(dim)]
    for i in range(sizes.dense_couplings):
        kept, moved = slice(1 - i % 2, None, 2), slice(i % 2, None, 2)
        kept_dim = len(range(*kept.indices(dim)))
        dense = DenseConditioner(
            kept_dim, (dim - kept_dim) * parameters, sizes.dense_units, context_dim, modulated=True
        )
        steps += [
            InvertibleConv1x1(dim, rotated=False),
            ActivationNorm(dim),
            SplineCoupling(kept, moved, dense, bins=sizes.bins),
        ]
    steps += [InvertibleConv1x1(dim, rotated=False), ActivationNorm(dim)]
    return [
        BlockSums(Chain(steps), event_shape, pixel_units=sizes.pixel_units, context_dim=context_dim)
    ]


SUMS = Architecture(
    sums_layers,
    SumsSizes,
    "for samples that resemble the observed set: splines on block sums, pixels given the sums",
    encodes_angles=True,
)
