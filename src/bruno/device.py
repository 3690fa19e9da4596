"""Where computations run."""

from __future__ import annotations

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
