"""Whether all numbers of a tensor are finite, in one pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def all_finite(x: Tensor) -> bool:
    """Return whether no number of a floating-point tensor is NaN or infinite.

    Example:
        >>> all_finite(torch.tensor([1.0, 2.0])), all_finite(torch.tensor([1.0, torch.nan]))
        (True, False)
    """
    # The sum is finite exactly if every summand is, short of overflow; it is the faster question.
    return math.isfinite(x.detach().sum()) or bool(torch.isfinite(x).all())
