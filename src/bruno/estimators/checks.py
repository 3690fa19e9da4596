"""Checks of the parameters of estimators: each error names the parameter and what came."""

from __future__ import annotations

from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import Any

import numpy as np

from bruno.errors import UserError


def check_choice(name: str, value: Any, choices: Collection[str | None]) -> None:
    """Raise if a value is not one of a few.

    Raises:
        UserError: With the choices there are.
    """
    # Of another type first: what cannot be hashed cannot be looked up.
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise UserError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")


def check_number(name: str, value: Any, expected: str, holds: Callable[[Any], bool]) -> None:
    """Raise if a value is not a number of which something holds.

    Raises:
        UserError: That says what was expected.
    """
    if _is_boolean(value) or not isinstance(value, Real) or not holds(value):
        raise UserError(f"{name}: expected {expected}, got {value!r}")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise if a value is not a whole number of at least ``least``.

    Raises:
        UserError: That says what was expected.
    """
    if _is_boolean(value) or not isinstance(value, Integral) or int(value) < least:
        raise UserError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def _is_boolean(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))
