"""How methods read and change an estimator that several threads share.

Every update is one assignment of a new object in the place of another, which is never changed:
threads that read meanwhile find all of it or nothing, and so does an interrupt. Updates exclude one
another by a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

import torch


class Shared(Protocol):
    """An object that several threads read and change."""

    @property
    def _updating(self) -> RLock:
        """The lock of its updates."""

    def _as_it_is(self) -> Self:
        """Return a copy to read from, that does not change with the original."""


_Shared = TypeVar("_Shared", bound=Shared)
_P = ParamSpec("_P")
_T = TypeVar("_T")


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Make tensors that can be used later, within ``torch.inference_mode()`` too."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _without_gradients() -> Any:
    return _plain_tensors() if torch.is_inference_mode_enabled() else torch.no_grad()


def reads(
    method: Callable[Concatenate[_Shared, _P], _T],
) -> Callable[Concatenate[_Shared, _P], _T]:
    """Let a method read the estimator as it is when it begins, whatever other threads change."""

    @wraps(method)
    def read(self: _Shared, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with _without_gradients():
            return method(self._as_it_is(), *args, **kwargs)

    return read


def updates(
    method: Callable[Concatenate[_Shared, _P], _T],
) -> Callable[Concatenate[_Shared, _P], _T]:
    """Let a method that changes the estimator run while no other of these does."""

    @wraps(method)
    def update(self: _Shared, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self._updating, _without_gradients():
            return method(self, *args, **kwargs)

    return update
