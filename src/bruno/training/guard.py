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
    """Training met NaN or infinity; the message names the layer and the step."""


def explain_non_finite(objective: Objective, batch: Batch, shot: int, step: int) -> NonFiniteError:
    """Return the error for a step whose loss or gradient is not finite.

    Runs the batch once more and looks at what comes out of every layer, then at the gradients.
    """
    layer = _first_bad_layer(objective, batch, shot) or _first_bad_gradient(objective)
    return NonFiniteError(
        f"training: expected finite numbers, got NaN or infinity in {layer or 'the loss'} at step "
        f"{step}; a lower learning_rate or gradient_clip, or a longer warmup_steps, may help"
    )


def _first_bad_layer(objective: Objective, batch: Batch, shot: int) -> str | None:
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


def _first_bad_gradient(objective: Objective) -> str | None:
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
