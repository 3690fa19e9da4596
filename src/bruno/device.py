"""Where computations run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bruno.errors import UserError


def resolve_device(device: str) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` is the GPU if there is one.

    Raises:
        UserError: If the device is unknown or not there.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise UserError(f"device: expected auto, cpu or cuda, got {device!r}")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("device: cuda was asked for, but torch sees no CUDA device")
    return "cuda" if available and device != "cpu" else "cpu"


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one CPU thread inside a ``with`` block.

    CPU times are then comparable. In small pieces of work a second thread brings little, and beside
    another job on the same cores waiting for it after every operation makes the whole up to fifty
    times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
