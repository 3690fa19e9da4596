"""The encoder of a service: elements to codes, as one call where that gives the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bruno.flows import Flow
from bruno.flows.block_sums import code_only

_TRACED, _CHECKED = 3, 5  # numbers of elements


class Coder(nn.Module):
    """The leading latent dimensions of a flow, in float64.

    Args:
        flow: The flow.
        dim: How many.
    """

    def __init__(self, flow: Flow, dim: int) -> None:
        super().__init__()
        self._flow, self._dim = flow, dim

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes ``(N, dim)`` of elements ``(N, *event)``."""
        with code_only():
            codes: Tensor = self._flow(x)[0]
        return codes[:, : self._dim].double()


@torch.no_grad()
def traced(coder: Coder, example: Callable[[int], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a coder as one call, or the coder itself if that would give other bits.

    A thousand small operations cost more than their arithmetic, and Python's lock, which requests
    need meanwhile, is taken again after each. Traced, small batches take half the time or less.

    Args:
        coder: The coder, whose weights stay as they are.
        example: Returns a number of elements to trace and to check with.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call: Callable[[Tensor], Tensor] = torch.jit.freeze(
            torch.jit.trace(coder.eval(), example(_TRACED), check_trace=False)
        )
    x = example(_CHECKED)
    # The first calls are optimised for what comes.
    is_same = all(torch.equal(call(part), coder(part)) for part in (x, x, x[:1], x[:1]))
    return call if is_same else coder
