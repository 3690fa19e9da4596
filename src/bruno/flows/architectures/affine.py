"""Affine maps of vectors, set from statistics of data rather than trained."""

from __future__ import annotations

from dataclasses import dataclass

from bruno.errors import UserError
from bruno.flows.affine import ActivationNorm, FullAffine, LowRankAffine
from bruno.flows.architectures.architecture import Architecture, EventShape, size
from bruno.flows.bijection import Bijection


@dataclass(frozen=True)
class AffineSizes:
    """Sizes of the full affine map.

    Attributes:
        rank: Dimension of the subspace that is mixed, in O(D · rank); 0 for the whole space.
    """

    rank: int = size(0)


@dataclass(frozen=True)
class DiagonalSizes:
    """The diagonal map has no sizes."""


def affine_layers(event_shape: EventShape, _: int, sizes: AffineSizes) -> list[Bijection]:
    """Return a full or low-rank affine map.

    Args:
        event_shape: ``(D,)``.
        sizes: The rank.

    Raises:
        UserError: If the rank exceeds the dimension.
    """
    (dim,) = event_shape
    if sizes.rank > dim:
        raise UserError(f"rank: expected at most the {dim} dimensions, got {sizes.rank}")
    return [LowRankAffine(dim, sizes.rank) if sizes.rank else FullAffine(dim)]


def diagonal_layers(event_shape: EventShape, _: int, __: DiagonalSizes) -> list[Bijection]:
    """Return a scale and a shift of every dimension.

    Args:
        event_shape: ``(D,)``.
    """
    return [ActivationNorm(*event_shape)]


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
