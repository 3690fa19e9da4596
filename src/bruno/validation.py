"""Checks of arguments: each error names the argument, the expected values and the given one."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bruno.errors import UserError

_MAKES_A_TENSOR = "torch.as_tensor makes one"


def values_can_be_checked(x: Tensor) -> bool:
    """Return whether the numbers of a tensor can be read, as every check of values does.

    They cannot be read while a function is compiled, exported, traced or recorded as a CUDA graph,
    under ``torch.func.vmap`` (also inside or outside of other transforms, as in per-sample
    gradients), and on the meta device. A check that depends on values is skipped there; checks of
    shapes and dtypes never are.

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
    if is_traced or x.is_meta or (x.is_cuda and torch.cuda.is_current_stream_capturing()):
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


def check_type(name: str, value: Any, kind: type, hint: str = "") -> None:
    """Raise if a value is not an instance of a class.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        kind: The class.
        hint: How to get an instance, for the error.

    Raises:
        UserError: With both classes.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        end = f"; {hint}" if hint else ""
        raise UserError(
            f"{name}: expected {article} {kind.__name__}, got {type(value).__name__}{end}"
        )


def check_tensor(name: str, x: Any) -> None:
    """Raise if a value is not a tensor, such as a list or an array of NumPy.

    Args:
        name: Name of the argument, for the error.
        x: The value.

    Raises:
        UserError: With its class.

    Example:
        >>> check_tensor("x", [1.0, 2.0])
        Traceback (most recent call last):
        bruno.errors.UserError: x: expected a Tensor, got list; torch.as_tensor makes one
    """
    check_type(name, x, Tensor, _MAKES_A_TENSOR)


def check_floating(name: str, x: Any, hint: str = "") -> None:
    """Raise if a value is not a floating-point tensor.

    Args:
        name: Name of the argument, for the error.
        x: The value.
        hint: How to turn a tensor of integers into one, for the error.

    Raises:
        UserError: With its class or dtype.
    """
    is_tensor = isinstance(x, Tensor)
    if is_tensor and x.is_floating_point():
        return
    kind = x.dtype if is_tensor else type(x).__name__
    hint = hint if is_tensor else _MAKES_A_TENSOR
    end = f"; {hint}" if hint else ""
    raise UserError(f"{name}: expected a floating-point tensor, got {kind}{end}")


def check_generator(name: str, generator: Any) -> None:
    """Raise if a value is not a generator of torch, such as a seed.

    Args:
        name: Name of the argument, for the error.
        generator: The value.

    Raises:
        UserError: With its class.
    """
    check_type(name, generator, torch.Generator, "bruno.seeding.generator_for(seed) makes one")


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


def check_whole(name: str, value: Any, least: int | None = None) -> None:
    """Raise if a value is not a whole number of at least ``least``.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        least: Smallest number allowed; any by default.

    Raises:
        UserError: With the smallest number allowed.

    Example:
        >>> check_whole("steps", 0, 1)
        Traceback (most recent call last):
        bruno.errors.UserError: steps: expected a whole number of at least 1, got 0
    """
    is_whole = isinstance(value, Integral) and not _is_boolean(value)
    if not is_whole or (least is not None and int(value) < least):
        limit = "" if least is None else f" of at least {least}"
        raise UserError(f"{name}: expected a whole number{limit}, got {value!r}")


def check_counts(name: str, values: Any, least: int) -> None:
    """Raise if a value is not a sequence of whole numbers of at least ``least``.

    Args:
        name: Name of the argument, for the error.
        values: The value.
        least: Smallest number allowed.

    Raises:
        UserError: With the smallest number allowed.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{name}: expected a list of whole numbers, got {values!r}")
    for value in values:
        check_whole(name, value, least)


def checked_shape(name: str, shape: Any, least: int = 0) -> tuple[int, ...]:
    """Return a shape as a tuple of integers; a single number stands for one dimension.

    Args:
        name: Name of the argument, for the error.
        shape: A whole number or a sequence of them.
        least: Smallest size allowed.

    Raises:
        UserError: If it is neither, or a size is too small.

    Example:
        >>> checked_shape("batch_shape", 3), checked_shape("batch_shape", (2, 3))
        ((3,), (2, 3))
    """
    try:
        sizes = (
            tuple(operator.index(size) for size in shape)
            if isinstance(shape, Sequence)
            else (operator.index(shape),)
        )
    except TypeError:
        raise UserError(
            f"{name}: expected a whole number or a shape of them, got {shape!r}"
        ) from None
    if any(size < least for size in sizes):
        raise UserError(f"{name}: expected sizes of at least {least}, got {shape!r}")
    return sizes


def _is_boolean(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))
