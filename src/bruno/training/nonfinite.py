"""Finding where numbers stopped being finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bruno.errors import UserError
from bruno.training.batches import Batch
from bruno.training.objectives import Objective


class NonFiniteError(UserError):
    """Training met NaN or infinity.

    Args:
        place: Where, such as a layer.
        step: When.
    """

    def __init__(self, place: str, step: int) -> None:
        super().__init__(
            f"training: expected finite numbers, got NaN or infinity in {place} at step {step}; a "
            "lower learning_rate or gradient_clip, or a longer warmup_steps, may help"
        )


def first_non_finite_layer(objective: Objective, batch: Batch, shot: int) -> str | None:
    """Run a batch once more and name the first layer with an output that is not finite.

    Args:
        objective: The model with its objective.
        batch: The batch.
        shot: Support size of the step.

    Returns:
        The output of that layer in words, or ``None`` if all are finite.
    """
    found: list[str] = []

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and not all(bool(t.isfinite().all()) for t in _tensors(output)):
                found.append(name)

        return hook

    # Inner layers report before the layers that contain them, so the first is the innermost.
    handles = [
        module.register_forward_hook(hook_for(name))
        for name, module in objective.model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            objective(batch.x, shot, batch.context, batch.generator)
    except UserError:
        # The process refuses latent vectors that are not finite; the layer is known by then.
        pass
    finally:
        for handle in handles:
            handle.remove()
    return f"the output of {found[0]}" if found else None


def first_non_finite_gradient(objective: Objective) -> str | None:
    """Name a parameter whose gradient is not finite, if there is one."""
    for name, parameter in objective.model.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return f"the gradient of {name}"
    return None


def _tensors(output: Any) -> Iterator[Tensor]:
    if torch.is_tensor(output):
        yield output
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)
