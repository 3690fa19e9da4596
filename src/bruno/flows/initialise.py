"""Data-dependent initialisation of weight-normalised layers and activation norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from bruno.flows.bijection import Bijection
from bruno.flows.linear import ActivationNorm, LinearMap, SpannedMap
from bruno.flows.preprocessing import PixelGaussianisation

# A channel that is constant on the batch keeps a finite scale.
_SMALLEST_DEVIATION = 1e-3


@torch.no_grad()
def initialise_from_data(flow: Bijection, x: Tensor, context: Tensor | None = None) -> None:
    """Make every hidden activation of a flow standard (mean 0, deviation 1) on a batch, in place.

    Weight-normalised layers (Salimans & Kingma, NeurIPS 2016, section 3) and activation norms are
    set in the order in which the batch passes through them, and each passes its *normalised*
    activation on, so that the layers behind it are set for what they will really see. A
    :class:`~bruno.flows.preprocessing.PixelGaussianisation` takes the counts of grey levels.

    Args:
        flow: A flow; its parameters are changed.
        x: A batch of elements, ``(B, *event)``, of at least two elements.
        context: Context of the elements, if the flow has one.
    """
    hooks = []
    for module in flow.modules():
        if isinstance(module, PixelGaussianisation):
            hooks.append(module.register_forward_pre_hook(_fit))
        elif isinstance(module, ActivationNorm):
            hooks.append(module.register_forward_hook(_normalise_activation_norm))
        elif isinstance(module, LinearMap):
            hooks.append(module.register_forward_pre_hook(_normalise_linear_map))
        elif isinstance(module, SpannedMap):
            hooks.append(module.register_forward_pre_hook(_normalise_spanned_map))
        elif is_parametrized(module, "weight"):
            hooks.append(module.register_forward_hook(_normalise_weight_norm))
    try:
        flow(x, context)
    finally:
        for hook in hooks:
            hook.remove()


def _fit(module: PixelGaussianisation, inputs: tuple[Any, ...]) -> None:
    module.fit(inputs[0])


def _channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every channel of ``(B, C, ...)``, each ``(C,)``."""
    per_channel = x.transpose(0, 1).flatten(1)
    return per_channel.mean(1), per_channel.std(1).clamp_min(_SMALLEST_DEVIATION)


def _normalise_activation_norm(
    module: ActivationNorm, inputs: tuple[Any, ...], _: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    mean, deviation = _channel_moments(inputs[0])
    module.shift.copy_(-mean)
    module.log_scale.copy_(-deviation.log())
    return module.forward(inputs[0])


def _normalise_linear_map(module: LinearMap, inputs: tuple[Any, ...]) -> None:
    mean, deviation = _channel_moments(inputs[0])
    module.set(-mean, (1 / deviation).diag(), deviation.diag(), -deviation.log().sum())


def _normalise_spanned_map(module: SpannedMap, inputs: tuple[Any, ...]) -> None:
    mean, deviation = _channel_moments(inputs[0])
    matrix = module.matrix
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    module.span(torch.zeros_like(module.weighted))
    module.set(-mean, 1 / deviation, identity, identity, module.log_abs_det.new_zeros(()))


def _normalise_weight_norm(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
    mean, deviation = _channel_moments(output)
    gain: Tensor = module.parametrizations.weight.original0  # type: ignore[union-attr, assignment]
    bias: Tensor = module.bias  # type: ignore[assignment]
    gain.div_(deviation.view(-1, *[1] * (gain.dim() - 1)))
    bias.sub_(mean).div_(deviation)
    shape = (-1, *[1] * (output.dim() - 2))
    return (output - mean.view(shape)) / deviation.view(shape)
