"""The strided convolutional network of optimisation-based systems, as a function of its parameters.

Batch norm takes its statistics from the examples of the task alone, also for queries. Published
figures of MAML are transductive: there, the statistics are those of all queries of a task at once,
which carry information about the classes of the queries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from bruno.baselines.encoder import computes_in_bfloat16
from bruno.flows.bijection import FACTORY_KWARGS

Parameters = dict[str, Tensor]

_EPSILON = 1e-5
_LAYERS = 4


def initial_parameters(event_shape: tuple[int, ...], filters: int, classes: int) -> Parameters:
    """Return parameters of four 3 x 3 convolutions of stride 2 and a linear layer.

    Args:
        event_shape: Shape ``(C, H, W)`` of an image.
        filters: Width of the convolutions.
        classes: Outputs of the linear layer.

    Returns:
        Tensors by name: He initialisation, a linear layer near zero.
    """
    parameters: Parameters = {}
    channels = event_shape[0]
    for layer in range(_LAYERS):
        scale = math.sqrt(2 / (9 * channels))
        parameters[f"weight{layer}"] = scale * torch.randn(
            filters, channels, 3, 3, **FACTORY_KWARGS
        )
        parameters[f"scale{layer}"] = torch.ones(filters, **FACTORY_KWARGS)
        parameters[f"shift{layer}"] = torch.zeros(filters, **FACTORY_KWARGS)
        channels = filters
    parameters["head"] = 0.01 * torch.randn(classes, filters, **FACTORY_KWARGS)
    parameters["bias"] = torch.zeros(classes, **FACTORY_KWARGS)
    return parameters


def logits(parameters: Parameters, images: Tensor, given: int) -> Tensor:
    """Return the outputs of the network, ``(N, classes)``.

    Args:
        parameters: As :func:`initial_parameters` returns them.
        images: uint8 images of examples, then of queries, ``(N, C, H, W)``.
        given: Number of examples, whose statistics batch norm uses.
    """
    x = images.to(parameters["bias"].dtype) / 255
    for layer in range(_LAYERS):
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16()):
            x = conv2d(x, parameters[f"weight{layer}"], stride=2, padding=1)
        x = x.to(parameters["bias"].dtype)
        examples = x[:given]
        mean = examples.mean((0, 2, 3), keepdim=True)
        variance = examples.var((0, 2, 3), unbiased=False, keepdim=True)
        scale = parameters[f"scale{layer}"].view(-1, 1, 1)
        shift = parameters[f"shift{layer}"].view(-1, 1, 1)
        x = ((x - mean) * (variance + _EPSILON).rsqrt() * scale + shift).relu()
    return x.mean((2, 3)) @ parameters["head"].T + parameters["bias"]
