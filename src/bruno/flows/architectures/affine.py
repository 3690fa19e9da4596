"""Maps of vectors, set from statistics of data rather than trained: affine, behind powers."""

from __future__ import annotations

from dataclasses import dataclass

from bruno.errors import UserError
from bruno.flows.affine import ActivationNorm, FullAffine, LowRankAffine
from bruno.flows.architectures.architecture import Architecture, EventShape, size
from bruno.flows.bijection import Bijection
from bruno.flows.yeo_johnson import YeoJohnson


@dataclass(frozen=True)
class AffineSizes:
    """Sizes of the full affine map.

    Attributes:
        rank: Dimension of the subspace that is mixed, in O(D · rank); 0 for the whole space.
        power_maps: Yeo-Johnson maps of every dimension in front: 1, or 0 for none.
    """

    rank: int = size(0)
    power_maps: int = size(0, least=0)


@dataclass(frozen=True)
class DiagonalSizes:
    """Sizes of the diagonal map.

    Attributes:
        power_maps: Yeo-Johnson maps of every dimension in front: 1, or 0 for none.
    """

    power_maps: int = size(0, least=0)


def affine_layers(event_shape: EventShape, _: int, sizes: AffineSizes) -> list[Bijection]:
    """Return a full or low-rank affine map.

    Args:
        event_shape: ``(D,)``.
        sizes: The rank.

    Raises:
        UserError: If the rank exceeds the dimension, or there is more than one power map.
    """
    (dim,) = event_shape
    if sizes.rank > dim:
        raise UserError(f"rank: expected at most the {dim} dimensions, got {sizes.rank}")
    affine = LowRankAffine(dim, sizes.rank) if sizes.rank else FullAffine(dim)
    return [*_power_maps(dim, sizes.power_maps), affine]


def diagonal_layers(event_shape: EventShape, _: int, sizes: DiagonalSizes) -> list[Bijection]:
    """Return a scale and a shift of every dimension.

    Args:
        event_shape: ``(D,)``.
        sizes: Whether there is a power map.

    Raises:
        UserError: If there is more than one.
    """
    return [*_power_maps(event_shape[0], sizes.power_maps), ActivationNorm(*event_shape)]


def _power_maps(dim: int, number: int) -> list[Bijection]:
    if number > 1:
        raise UserError(f"power_maps: expected 0 or 1, got {number}")
    return [YeoJohnson(dim)] * number


AFFINE = Architecture(
    affine_layers,
    AffineSizes,
    "for vectors: an invertible matrix and a shift, or low-rank with a rank",
    takes_images=False,
    takes_vectors=True,
    takes_context=False,
)
DIAGONAL = Architecture(
    diagonal_layers,
    DiagonalSizes,
    "for vectors: a scale and a shift of every dimension",
    takes_images=False,
    takes_vectors=True,
    takes_context=False,
)
