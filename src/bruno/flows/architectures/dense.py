"""Dense couplings only, for vectors, or for images as vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bruno.errors import UserError
from bruno.flows.architectures.architecture import Architecture, EventShape, size
from bruno.flows.architectures.steps import dense_steps
from bruno.flows.bijection import Bijection
from bruno.flows.preprocessing import PixelGaussianisation
from bruno.flows.reshape import Flatten


@dataclass(frozen=True)
class DenseSizes:
    """Sizes of the flow.

    Attributes:
        dense_units: Width of the conditioners.
        dense_couplings: Number of couplings.
    """

    dense_units: int = size(256)
    dense_couplings: int = size(6, least=0)


def dense_layers(event_shape: EventShape, context_dim: int, sizes: DenseSizes) -> list[Bijection]:
    """Return dense couplings; images get marginal Gaussianisation first.

    Args:
        event_shape: ``(C, H, W)`` or ``(D,)``, at least 2 dimensions in all.
        context_dim: Size of the context of the couplings; 0 for none.
        sizes: The sizes.

    Raises:
        UserError: If there is only one dimension.
    """
    dim = math.prod(event_shape)
    if dim < 2:
        raise UserError(f"event_shape: couplings need (D,) with D >= 2, got {event_shape}")
    is_image = len(event_shape) == 3
    pixels: list[Bijection] = [PixelGaussianisation(), Flatten(*event_shape)] if is_image else []
    return pixels + dense_steps(
        dim, context_dim, couplings=sizes.dense_couplings, units=sizes.dense_units
    )


DENSE = Architecture(
    dense_layers,
    DenseSizes,
    "dense couplings only, for vectors or images as vectors",
    takes_vectors=True,
)
