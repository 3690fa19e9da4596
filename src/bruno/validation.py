"""Checks of the numbers in tensors, which step aside where there are no numbers to look at."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bruno.errors import UserError


def values_can_be_checked(x: Tensor) -> bool:
    """Return whether the numbers of a tensor can be looked at, as every check of values does.

    They cannot while a function is compiled, exported or traced, under ``torch.func.vmap`` (also
    inside or outside of other transforms, as in per-sample gradients), and on the meta device.
    A check that depends on values is skipped there; checks of shapes and dtypes never are.

    Example:
        >>> seen = []
        >>> def square(x):
        ...     seen.append(values_can_be_checked(x))
        ...     return x.square()
        >>> _ = square(torch.ones(3)), torch.func.vmap(square)(torch.ones(3))
        >>> seen
        [True, False]
    """
    is_traced: bool = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if is_traced or x.is_meta:
        return False
    return not _is_batched(x)


def _is_batched(x: Tensor) -> bool:
    """Return whether a transform of ``torch.func`` has hidden a batch dimension of a tensor."""
    # Torch has no public question for this; these are what its own conditionals ask.
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


def check_finite(name: str, x: Tensor) -> None:
    """Raise if a number of a floating-point tensor is NaN or infinite.

    Args:
        name: What the error calls the tensor.
        x: The tensor, of any shape.

    Raises:
        UserError: With the name.

    Example:
        >>> check_finite("x", torch.tensor([1.0, torch.nan]))
        Traceback (most recent call last):
        bruno.errors.UserError: x: expected finite numbers, got NaN or infinity
    """
    if values_can_be_checked(x) and not _all_finite(x):
        raise UserError(f"{name}: expected finite numbers, got NaN or infinity")


def _all_finite(x: Tensor) -> bool:
    # The sum is finite exactly if every summand is, short of overflow; it is the faster question.
    return math.isfinite(x.detach().sum()) or bool(torch.isfinite(x).all())
