"""The networks inside couplings: from the part that is kept to the parameters of the rest.

Every layer but the last is weight-normalised; the last starts at zero, with and without context,
so a new coupling is the identity. ``context``, where a network has it, is ``(B, context_dim)``.
It can also modulate a network: scale every hidden unit before its nonlinearity, and shift it
(Perez et al., *FiLM*, AAAI 2018). The dependence on the kept part can then differ from context to
context, which additive context features learn slowly. Networks compute in the precision of their
parameters, whatever that of the element is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, leaky_relu
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from bruno.flows.affine import channel_moments
from bruno.flows.bijection import FACTORY_KWARGS
from bruno.validation import values_can_be_checked

_DENSE_CONTEXT_UNITS = 16

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class ResidualConditioner(nn.Module):
    """A residual convolutional network of constant resolution.

    A 1×1 convolution to ``filters``, ``residual_blocks`` of two 3×3 convolutions (ELU, and ELU
    after the skip), a 1×1 convolution to the output. A linear map of the context is added before
    every nonlinearity (Korshunova et al., *Conditional BRUNO*, 2018).

    Args:
        in_channels: Channels of the input, which is ``(B, in_channels, H, W)``.
        out_channels: Channels of the output.
        filters: Width of the hidden layers.
        residual_blocks: Number of residual blocks.
        context_dim: Size of the context; 0 for none.
        modulated: Whether the context scales the hidden layers, too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: int,
        residual_blocks: int,
        context_dim: int = 0,
        *,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv2d(in_channels, filters, 1, **FACTORY_KWARGS))
        self.hidden = nn.ModuleList(
            weight_norm(nn.Conv2d(filters, filters, 3, padding=1, **FACTORY_KWARGS))
            for _ in range(2 * residual_blocks)
        )
        self.last = _zeroed(nn.Conv2d(filters, out_channels, 1, **FACTORY_KWARGS))
        widths = [filters] * (1 + len(self.hidden)) if context_dim else []
        self.contexts = nn.ModuleList(
            nn.Linear(context_dim, w, bias=False, **FACTORY_KWARGS) for w in widths
        )
        if context_dim:
            self.contexts.append(
                _zeroed(nn.Linear(context_dim, out_channels, bias=False, **FACTORY_KWARGS))
            )
        self.scales = _scales(context_dim, widths) if modulated else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the ``(B, out_channels, H, W)`` output.

        Args:
            x: Input, ``(B, in_channels, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.
        """
        x = x.to(self.last.weight.dtype)
        is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if values_can_be_checked(x) or is_traced:
            # A tenth faster on a CPU; compilers choose layouts themselves, and vmap has none.
            x = x.contiguous(memory_format=torch.channels_last)
        hidden = elu(self._add_context(self.first(x), 0, context))
        for layer in range(0, len(self.hidden), 2):
            inner = elu(self._add_context(self.hidden[layer](hidden), layer + 1, context))
            inner = self._add_context(self.hidden[layer + 1](inner), layer + 2, context)
            hidden = elu(hidden + inner)
        return self._add_context(self.last(hidden), -1, context)

    def _add_context(self, hidden: Tensor, layer: int, context: Tensor | None) -> Tensor:
        if context is None:
            return hidden
        if self.scales is not None and layer >= 0:
            hidden = hidden * (1 + self.scales[layer](context)[..., None, None])
        shift: Tensor = self.contexts[layer](context)
        return hidden + shift[..., None, None]


class DenseConditioner(nn.Module):
    """A network of two hidden layers on vectors.

    A small leaky-ReLU map of the context is concatenated to the input of every layer.

    Args:
        in_features: Size of the input, which is ``(B, in_features)``.
        out_features: Size of the output.
        units: Width of the two hidden layers.
        context_dim: Size of the context; 0 for none.
        modulated: Whether the context scales the hidden layers, too.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        units: int,
        context_dim: int = 0,
        *,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        extra = _DENSE_CONTEXT_UNITS if context_dim else 0
        self.context = nn.Linear(context_dim, extra, **FACTORY_KWARGS) if context_dim else None
        self.hidden = nn.ModuleList(
            weight_norm(nn.Linear(size + extra, units, **FACTORY_KWARGS))
            for size in (in_features, units)
        )
        self.last = _zeroed(nn.Linear(units + extra, out_features, **FACTORY_KWARGS))
        self.scales = _scales(context_dim, [units] * 2) if modulated and context_dim else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the ``(B, out_features)`` output.

        Args:
            x: Input, ``(B, in_features)``.
            context: Context of the elements, ``(B, context_dim)``.
        """
        x = x.to(self.last.weight.dtype)
        extra = None
        if self.context is not None and context is not None:
            extra = leaky_relu(self.context(context))
        for i, layer in enumerate(self.hidden):
            x = layer(_joined(x, extra))
            if self.scales is not None and context is not None:
                x = x * (1 + self.scales[i](context))
            x = elu(x)
        output: Tensor = self.last(_joined(x, extra))
        return output


@contextmanager
def data_dependent_initialisation(network: nn.Module) -> Iterator[None]:
    """Set the weight-normalised layers inside a network from the batch that passes meanwhile.

    Every hidden activation is given mean 0 and standard deviation 1 (Salimans & Kingma, *Weight
    Normalization*, NeurIPS 2016, section 3). Each layer passes its *normalised* activation on, so
    the layers behind it are set for the inputs they will receive.

    Args:
        network: Any module with weight-normalised layers inside; those are changed in place.
    """
    hooks = [
        module.register_forward_hook(_normalise)
        for module in network.modules()
        if is_parametrized(module, "weight")
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _normalise(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
    mean, std = channel_moments(output)
    gain: Tensor = module.parametrizations.weight.original0  # type: ignore[union-attr, assignment]
    bias: Tensor = module.bias  # type: ignore[assignment]
    gain.div_(std.view(-1, *[1] * (gain.dim() - 1)))
    bias.sub_(mean).div_(std)
    shape = (-1, *[1] * (output.dim() - 2))
    return (output - mean.view(shape)) / std.view(shape)


def _joined(x: Tensor, extra: Tensor | None) -> Tensor:
    return x if extra is None else torch.cat([x, extra.to(x.dtype)], -1)


def _scales(context_dim: int, widths: list[int]) -> nn.ModuleList:
    return nn.ModuleList(
        _zeroed(nn.Linear(context_dim, width, bias=False, **FACTORY_KWARGS)) for width in widths
    )


def _zeroed(layer: Layer) -> Layer:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
