"""Flows for inference alone, with weights computed once."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import remove_parametrizations

from bruno.flows.linear import InvertibleConv1x1


@torch.no_grad()
def freeze_weights(flow: nn.Module) -> None:
    """Compute the weights of a flow once, which each pass otherwise computes from parameters.

    Small batches then take about half the time, and give the same bits. The flow cannot be trained
    or saved any more, and keeps its dtype.

    Args:
        flow: The flow, changed in place.
    """
    for module in list(flow.modules()):
        for name in list(getattr(module, "parametrizations", ())):
            remove_parametrizations(module, name, leave_parametrized=True)
        if isinstance(module, InvertibleConv1x1):
            module.freeze()
        if isinstance(module, nn.Conv2d):
            # As its inputs are: otherwise every call brings the weight into their order.
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    flow.requires_grad_(False)
