"""Binary masks of couplings: 1 where an element is kept, 0 where it is transformed."""

from __future__ import annotations

import torch
from torch import Tensor

from bruno.flows.bijection import FACTORY_KWARGS


def checkerboard_mask(height: int, width: int, parity: int = 0) -> Tensor:
    """Return a ``(1, height, width)`` mask: with parity 0 it is 1 where row + column is odd.

    Args:
        height: Height of the image.
        width: Width of the image.
        parity: 0, or 1 for the complement.

    Example:
        >>> checkerboard_mask(2, 3)
        tensor([[[0., 1., 0.],
                 [1., 0., 1.]]])
    """
    rows, columns = torch.arange(height, **FACTORY_KWARGS), torch.arange(width, **FACTORY_KWARGS)
    return ((rows.unsqueeze(1) + columns + parity) % 2).unsqueeze(0)


def channel_mask(channels: int, parity: int = 0) -> Tensor:
    """Return a ``(channels, 1, 1)`` mask: with parity 0 it keeps the first half of the channels.

    Args:
        channels: Number of channels.
        parity: 0, or 1 for the complement.

    Example:
        >>> channel_mask(4).flatten()
        tensor([1., 1., 0., 0.])
    """
    first_half = torch.ones(channels, **FACTORY_KWARGS)
    first_half[channels // 2 :] = 0
    return (first_half if parity == 0 else 1 - first_half).view(-1, 1, 1)


def alternating_mask(dim: int, parity: int = 0) -> Tensor:
    """Return a ``(dim,)`` mask: with parity 0 ("even") it keeps odd indices.

    Args:
        dim: Number of dimensions.
        parity: 0, or 1 for the complement.

    Example:
        >>> alternating_mask(4)
        tensor([0., 1., 0., 1.])
    """
    return (torch.arange(dim, **FACTORY_KWARGS) + parity) % 2
