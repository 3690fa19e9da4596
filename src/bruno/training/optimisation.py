"""The optimiser of a training run, and the average of its weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from bruno.model import Bruno
from bruno.training.config import TrainingConfig


def make_optimiser(model: Bruno, training: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser: the flow and the process have learning rates of their own.

    Args:
        model: The model.
        training: Learning rates and weight decay; only weights of the flow decay.
    """
    return torch.optim.AdamW(
        [
            {
                "params": [p for p in model.flow.parameters() if p.requires_grad],
                "lr": training.learning_rate,
                "weight_decay": training.weight_decay,
            },
            {
                "params": list(model.process.parameters()),
                "lr": training.process_learning_rate,
                "weight_decay": 0.0,
            },
        ],
        betas=(0.9, 0.99),
    )


Tensors = tuple[Tensor, ...] | list[Tensor]


def warmed_up_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Return an exponential moving average whose decay grows, so that it forgets its start.

    Args:
        decay: Decay per step that it grows to.
    """

    @torch.no_grad()
    def update(averages: Tensors, values: Tensors, updates: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averages, values, share)

    return update


def cpu_by_default() -> AbstractContextManager[Any]:
    """Return a context with the CPU as default device, where torch's optimisers count steps."""
    # A context costs every operation microseconds, so there is none where it would change nothing.
    default = torch.get_default_device()
    return nullcontext() if default.type == "cpu" else torch.device("cpu")
