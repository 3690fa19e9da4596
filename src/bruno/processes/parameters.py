"""Parameters of processes: as vectors of one length, and without bounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bruno.errors import UserError


def softplus_inverse(y: Tensor) -> Tensor:
    """Return x with softplus(x) = y > 0, without overflow for large y."""
    y = y.double()
    return y + torch.log(-torch.expm1(-y))


def as_vectors(**parameters: Tensor | float) -> dict[str, Tensor]:
    """Return finite float64 vectors of one common length; scalars are repeated."""
    tensors = {}
    for name, value in parameters.items():
        try:
            tensor = torch.as_tensor(value, device="cpu", dtype=torch.float64).detach()
        except (TypeError, ValueError):
            raise UserError(f"{name}: expected numbers of shape (D,), got {value!r}") from None
        tensors[name] = tensor
        if tensor.dim() > 1 or not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name}: expected finite numbers of shape (D,), got {tensor}")
    try:
        # Not torch's, whose first call imports sympy, for a second.
        shape = np.broadcast_shapes(*(tuple(tensor.shape) for tensor in tensors.values()), (1,))
    except ValueError:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise UserError(f"parameters: expected one common shape (D,), got {shapes}") from None
    return {name: tensor.expand(shape) for name, tensor in tensors.items()}
