"""Gradients by CUDA graphs: the kernels of a step are recorded once and launched together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bruno.training.batches import Batch
from bruno.training.objectives import Losses, Objective

# Calls before the recording, in which libraries choose their kernels and take their memory.
_WARM_UP_CALLS = 3


class GradientGraphs:
    """The gradients of an objective, recorded for batches of one shape on one CUDA device.

    The flows of small images are thousands of small kernels a step, and launching them one by one
    takes several times as long as running them.

    Gradients are added to those of the parameters, which have to stay the same tensors: an
    optimiser may set them to zero, not to ``None``. Values are not checked inside a graph, and a
    part of the objective that draws from a generator cannot be recorded.

    Args:
        objective: The objective, on the device.
        batch: A batch of the shapes that all will have, on the device.
        shots: The support sizes that will be asked for.
        scale: Factor of the loss.
    """

    def __init__(
        self, objective: Objective, batch: Batch, shots: Sequence[int], scale: float = 1.0
    ) -> None:
        self._objective, self._scale = objective, scale
        self._x = batch.x.clone()
        self._context = None if batch.context is None else batch.context.clone()
        self._graphs = {shot: self._recorded(shot) for shot in dict.fromkeys(shots)}
        objective.zero_grad(set_to_none=False)

    def __call__(self, batch: Batch, shot: int) -> Losses:
        """Add the gradients of a batch to those of the parameters, and return its figures.

        Args:
            batch: The batch.
            shot: Support size of the step.
        """
        self._x.copy_(batch.x)
        if self._context is not None and batch.context is not None:
            self._context.copy_(batch.context)
        graph, losses = self._graphs[shot]
        graph.replay()
        # The next launch overwrites the figures of this one.
        return Losses(*(figure.clone() for figure in losses))

    def _recorded(self, shot: int) -> tuple[torch.cuda.CUDAGraph, Losses]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_CALLS):
                self._gradients(shot)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = self._gradients(shot)
        return graph, losses

    def _gradients(self, shot: int) -> Losses:
        losses: Losses = self._objective(self._x, shot, self._context)
        (losses.loss * self._scale).backward()
        return Losses(*(figure.detach() for figure in losses))
