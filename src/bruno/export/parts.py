r"""The graphs that a model is exported as: functions of tensors, without Python around them.

======== ================================================ =================================
graph    inputs                                           outputs
======== ================================================ =================================
encode   ``x`` (batch, \*event) [, ``context``]           ``z`` (batch, D), ``log_det`` (batch)
log_prob ``z``, ``log_det``, ``count`` (sets), ``mean``   ``log_prob`` (batch, sets)
         (sets, D), ``scatter`` (sets, D)
sample   ``noise`` (draws, D), ``count`` (), ``mean``     ``x`` (draws, \*event)
         (D), ``scatter`` (D) [, ``context``]
======== ================================================ =================================

``count``, ``mean`` and ``scatter`` are an :class:`~bruno.evidence.Evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bruno.evidence import Evidence
from bruno.flows.bijection import FACTORY_KWARGS
from bruno.model import Bruno
from bruno.seeding import generator_for

_BATCH, _SETS = 3, 2  # sizes of the examples; none that a graph could take for a constant


@dataclass(frozen=True)
class Part:
    """A graph to be made, with examples of its inputs.

    Attributes:
        name: ``encode``, ``log_prob`` or ``sample``.
        module: The function.
        inputs: Examples of the inputs, by name, in order.
        axes: Names of the axes of any length, by input and axis.
        outputs: Names of the outputs, in order.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]


class _Encode(nn.Module):
    def __init__(self, model: Bruno) -> None:
        super().__init__()
        self.flow = model.flow

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.flow(x, context)
        return z, log_det


class _LogProb(nn.Module):
    def __init__(self, model: Bruno) -> None:
        super().__init__()
        self.process = model.process

    def forward(
        self, z: Tensor, log_det: Tensor, count: Tensor, mean: Tensor, scatter: Tensor
    ) -> Tensor:
        of_latent = self.process.log_prob_given(z, Evidence(count, mean, scatter))
        return of_latent + log_det.double().unsqueeze(1)


class _Sample(nn.Module):
    def __init__(self, model: Bruno) -> None:
        super().__init__()
        self.flow, self.process = model.flow, model.process

    def forward(
        self,
        noise: Tensor,
        count: Tensor,
        mean: Tensor,
        scatter: Tensor,
        context: Tensor | None = None,
    ) -> Tensor:
        predictive: Any = self.process.predictive(Evidence(count, mean, scatter)).base_dist
        return self.flow.inverse(predictive.loc + predictive.scale * noise, context)[0]


def parts_of(model: Bruno) -> dict[str, Part]:
    """Return the graphs of a model by name.

    Args:
        model: A frozen model (see :func:`~bruno.export.frozen.frozen`).
    """
    generator = generator_for(0)
    flow, dim = model.flow, model.process.dim
    x = torch.rand(_BATCH, *model.event_shape, generator=generator, **FACTORY_KWARGS).to(flow.dtype)
    if len(model.event_shape) == 3:
        x = 256 * x
    context = {}
    if flow.context_dim:
        drawn = torch.rand(_BATCH, flow.context_dim, generator=generator, **FACTORY_KWARGS)
        context["context"] = drawn.to(x)
    with torch.no_grad():
        z, log_det = flow(x, context.get("context"))
    seen = Evidence.stack([Evidence.of(z), Evidence.of(z[:1])])
    first = seen[0]
    per_element = {name: {0: "batch"} for name in ("x", "context", "z", "log_det")}
    per_draw = {name: {0: "draws"} for name in ("noise", "context")}
    per_set = {name: {0: "sets"} for name in ("count", "mean", "scatter")}
    of_sets = {"count": seen.count, "mean": seen.mean, "scatter": seen.scatter}
    of_set = {"count": first.count, "mean": first.mean, "scatter": first.scatter}
    noise = torch.randn(_BATCH, dim, generator=generator, dtype=torch.float64, device="cpu")
    parts = [
        ("encode", _Encode(model), {"x": x, **context}, per_element, ("z", "log_det")),
        (
            "log_prob",
            _LogProb(model),
            {"z": z, "log_det": log_det, **of_sets},
            per_element | per_set,
            ("log_prob",),
        ),
        ("sample", _Sample(model), {"noise": noise, **of_set, **context}, per_draw, ("x",)),
    ]
    return {
        name: Part(name, module, inputs, {key: axes[key] for key in inputs if key in axes}, outputs)
        for name, module, inputs, axes, outputs in parts
    }
