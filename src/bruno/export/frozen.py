"""A copy of a model for inference: everything that depends on parameters alone is a constant."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from bruno.flows.affine import InvertibleConv1x1
from bruno.flows.bijection import FACTORY_KWARGS, Bijection
from bruno.model import Bruno


def frozen(model: Bruno, dtype: torch.dtype | None = None) -> Bruno:
    """Return a copy of a model on the CPU, without gradients, with its matrices multiplied out.

    Weight normalisation is applied, and the weights of invertible 1×1 convolutions and their
    inverses, which no other runtime can invert, are stored.

    Args:
        model: The model; it stays as it is.
        dtype: Precision of the flow, ``torch.float32`` or ``torch.float64``; by default its own.
    """
    copied = copy.deepcopy(model).cpu().eval().requires_grad_(requires_grad=False)
    if dtype is not None:
        copied.flow.to(dtype)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, InvertibleConv1x1):
                setattr(module, name, _ConstantConv1x1(child))
            elif is_parametrized(child, "weight"):
                setattr(module, name, _without_weight_norm(child))
    return copied


def _without_weight_norm(layer: nn.Module) -> nn.Module:
    """Return a layer of the same function with its weight as it is.

    Not ``remove_parametrizations``, which would change the class that the layers of the model that
    was copied share.
    """
    plain: nn.Linear | nn.Conv2d
    if isinstance(layer, nn.Linear):
        plain = nn.Linear(layer.in_features, layer.out_features, **FACTORY_KWARGS)
    elif isinstance(layer, nn.Conv2d):
        plain = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            **FACTORY_KWARGS,
        )
    else:
        raise TypeError(f"expected a linear or convolutional layer, got {type(layer).__name__}")
    plain.to(layer.weight)
    plain.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    return plain.requires_grad_(requires_grad=False)


class _ConstantConv1x1(Bijection):
    """An invertible 1×1 convolution whose weight, inverse and log-determinant are constants."""

    matrix: Tensor
    inverse_matrix: Tensor
    log_abs_det: Tensor

    def __init__(self, layer: InvertibleConv1x1) -> None:
        super().__init__()
        weight, dtype = layer.weight(), layer.lower.dtype
        self.register_buffer("matrix", weight.to(dtype))
        self.register_buffer("inverse_matrix", torch.linalg.inv(weight).to(dtype))
        self.register_buffer("log_abs_det", layer.log_diagonal.sum())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply the channels of every position by the weight.

        Args:
            x: Data, ``(B, C, H, W)`` or ``(B, C)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        return _multiply(x, self.matrix), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply the channels of every position by the inverse of the weight.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` or ``(B, C)`` and log-determinants ``(B,)``, in nats.
        """
        return _multiply(z, self.inverse_matrix), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        positions = x.shape[2] * x.shape[3] if x.dim() == 4 else 1
        return (self.log_abs_det * positions).expand(x.shape[0])


def _multiply(x: Tensor, weight: Tensor) -> Tensor:
    weight = weight.to(x.dtype)
    if x.dim() == 2:
        return nn.functional.linear(x, weight)
    return nn.functional.conv2d(x, weight[..., None, None])
