"""Binary masks of couplings: 1 where an element is kept, 0 where it is transformed."""

from __future__ import annotations

import torch
from torch import Tensor


def checkerboard_mask(height: int, width: int, parity: int = 0) -> Tensor:
    """Return a ``(1, height, width)`` mask: with parity 0 it is 1 where row + column is odd.

    Example:
        >>> checkerboard_mask(2, 3)
        tensor([[[0., 1., 0.],
                 [1., 0., 1.]]])
    """
    rows, columns = torch.arange(height).unsqueeze(1), torch.arange(width)
    return ((rows + columns + parity) % 2).to(torch.get_default_dtype()).unsqueeze(0)


def channel_mask(channels: int, parity: int = 0) -> Tensor:
    """Return a ``(channels, 1, 1)`` mask: with parity 0 it keeps the first half of the channels.

    Example:
        >>> channel_mask(4).flatten()
        tensor([1., 1., 0., 0.])
    """
    first_half = (torch.arange(channels) < channels // 2).to(torch.get_default_dtype())
    return (first_half if parity == 0 else 1 - first_half).view(-1, 1, 1)


def alternating_mask(dim: int, parity: int = 0) -> Tensor:
    """Return a ``(dim,)`` mask: with parity 0 ("even") it keeps odd indices.

    Example:
        >>> alternating_mask(4)
        tensor([0., 1., 0., 1.])
    """
    return ((torch.arange(dim) + parity) % 2).to(torch.get_default_dtype())
