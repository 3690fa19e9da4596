"""A flow that classifies by likelihood alone: dense couplings of the lowest frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bruno.flows.affine import ActivationNorm
from bruno.flows.architectures.architecture import Architecture, EventShape, check_divisible, size
from bruno.flows.architectures.steps import dense_coupling
from bruno.flows.bijection import Bijection
from bruno.flows.linear import DiscreteCosineTransform, InvertibleConv1x1
from bruno.flows.preprocessing import PixelGaussianisation
from bruno.flows.reshape import Chain, IndexedSubset


@dataclass(frozen=True)
class SpectralSizes:
    """Sizes of the flow.

    Attributes:
        frequencies: Coefficients of the cosine transform, lowest first, that are mixed with each
            other; at most half of all.
        dense_units: Width of the conditioners.
        dense_couplings: Number of couplings that mix them.
    """

    frequencies: int = size(64, least=2)
    dense_units: int = size(512)
    dense_couplings: int = size(8, least=0)


def spectral_layers(
    event_shape: EventShape, context_dim: int, sizes: SpectralSizes
) -> list[Bijection]:
    """Return a cosine transform of Gaussianised pixels, high frequencies given the low ones.

    Args:
        event_shape: ``(C, H, W)``.
        context_dim: Size of the context of the couplings; 0 for none.
        sizes: The sizes.

    Raises:
        UserError: If the height or width is odd.
    """
    check_divisible(event_shape, 2)
    dim = math.prod(event_shape)
    low = min(sizes.frequencies, dim // 2)
    half = (slice(None, low // 2), slice(low // 2, None))
    steps: list[Bijection] = []
    for _ in range(sizes.dense_couplings):
        steps += [
            ActivationNorm(low),
            InvertibleConv1x1(low),
            dense_coupling(low, *half, sizes.dense_units, context_dim),
        ]
    steps += [ActivationNorm(low), InvertibleConv1x1(low)]
    coarse_to_fine = dense_coupling(
        dim, slice(None, low), slice(low, None), sizes.dense_units, context_dim
    )
    return [
        PixelGaussianisation(),
        DiscreteCosineTransform(*event_shape),
        ActivationNorm(dim),
        coarse_to_fine,
        IndexedSubset(low, Chain(steps)),
        ActivationNorm(dim),
    ]


SPECTRAL = Architecture(
    spectral_layers,
    SpectralSizes,
    "classifies by likelihood alone: dense couplings of the lowest frequencies of the image",
)
