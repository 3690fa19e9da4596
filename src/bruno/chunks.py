"""Sizes of chunks: how many rows are computed at once, so that memory stays bounded."""

from __future__ import annotations

import torch

CACHE_ELEMENTS = 2**17
"""On a CPU: 1 MiB of float64 stays in the L2 cache, which is about four times faster."""
GPU_ELEMENTS = 2**23
"""On other devices: 64 MiB of float64 keep them busy."""
MEMORY_ELEMENTS = 2**20
"""Temporaries that are passed over once: 8 MiB of float64."""
TABLE_ELEMENTS = 2**21
"""Numbers of a table that pass a flow together: 16 MiB of float64."""
PIXELS = 2**19
"""Pixels of images that pass a flow together, each worth some dozens of filters."""


def rows_per_chunk(elements_per_row: int, limit: int) -> int:
    """Return the largest number of rows within a limit, at least 1.

    Args:
        elements_per_row: Elements of the largest temporary, for one row.
        limit: Elements of the largest temporary in all, such as :data:`MEMORY_ELEMENTS`.

    Returns:
        A number of rows, as ``Tensor.split`` takes it.

    Example:
        >>> rows_per_chunk(300, 1000), rows_per_chunk(5000, 1000)
        (3, 1)
    """
    return max(1, limit // max(1, elements_per_row))


def device_limit(device: torch.device) -> int:
    """Return the elements of a temporary that several operations pass over, by device."""
    return CACHE_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS
