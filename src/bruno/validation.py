"""Checks of arguments: each error names the argument, the expected values and the given one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bruno.errors import UserError


def values_can_be_checked(x: Tensor) -> bool:
    """Return whether the numbers of a tensor can be read, as every check of values does.

    They cannot be read while a function is compiled, exported or traced, under ``torch.func.vmap``
    (also inside or outside of other transforms, as in per-sample gradients), and on the meta
    device. A check that depends on values is skipped there; checks of shapes and dtypes never are.

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
        name: Name of the tensor, for the error.
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


def check_choice(name: str, value: Any, choices: Collection[str | None]) -> None:
    """Raise if a value is not one of a few.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        choices: The values allowed.

    Raises:
        UserError: With the choices there are.

    Example:
        >>> check_choice("split", "all", ("train", "test"))
        Traceback (most recent call last):
        bruno.errors.UserError: split: expected one of train, test, got 'all'
    """
    # Of another type first: an unhashable value cannot be looked up.
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise UserError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")


def check_number(name: str, value: Any, expected: str, holds: Callable[[Any], bool]) -> None:
    """Raise if a value is not a real number with a property.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        expected: Description of the numbers allowed, for the error.
        holds: Whether a number is one of them.

    Raises:
        UserError: With the description.
    """
    if _is_boolean(value) or not isinstance(value, Real) or not holds(value):
        raise UserError(f"{name}: expected {expected}, got {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Raise if a value is not a positive number; infinity is one.

    Args:
        name: Name of the argument, for the error.
        value: The value.

    Raises:
        UserError: With the value.
    """
    check_number(name, value, "a positive number", lambda number: number > 0)


def check_share(
    name: str,
    value: Any,
    *,
    highest: float = 1.0,
    without_zero: bool = False,
    without_highest: bool = False,
) -> None:
    """Raise if a value is not a share, a number in [0, 1] or in a part of it.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        highest: Largest value allowed.
        without_zero: Whether 0 is not allowed.
        without_highest: Whether the largest value is not allowed.

    Raises:
        UserError: With the interval.

    Example:
        >>> check_share("decay", 1.0, without_highest=True)
        Traceback (most recent call last):
        bruno.errors.UserError: decay: expected a number in [0, 1), got 1.0
    """
    interval = f"{'(' if without_zero else '['}0, {highest:g}{')' if without_highest else ']'}"

    def holds(share: Any) -> bool:
        above = share > 0 if without_zero else share >= 0
        below = share < highest if without_highest else share <= highest
        return bool(above and below)

    check_number(name, value, f"a number in {interval}", holds)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise if a value is not a whole number of at least ``least``.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        least: Smallest number allowed.

    Raises:
        UserError: With the smallest number allowed.

    Example:
        >>> check_whole("steps", 0, 1)
        Traceback (most recent call last):
        bruno.errors.UserError: steps: expected a whole number of at least 1, got 0
    """
    if _is_boolean(value) or not isinstance(value, Integral) or int(value) < least:
        raise UserError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def _is_boolean(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))
