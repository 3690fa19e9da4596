"""The encoder of a service: elements to codes, in one call of a traced graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bruno.flows import Flow
from bruno.flows.block_sums import code_only

_TRACED, _CHECKED = 3, 5  # numbers of elements
# Greatest difference of codes, which are of the order of 1: some roundings in single
# precision. The codes of an element differ as much with the number of elements beside it.
_TOLERANCE = 1e-4


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
    """Return a coder as one call, or the coder itself if that would give other codes.

    A thousand small operations cost more than their arithmetic, and Python's lock, which requests
    need meanwhile, is taken again after each. Traced, constants are computed once, log-determinants
    not at all, and small batches take half the time or less.

    Args:
        coder: The coder, whose weights are frozen.
        example: Returns a number of elements to trace and to check with.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # As a function: a graph of modules takes a second more to make, and is no quicker.
        call: Callable[[Tensor], Tensor] = torch.jit.trace(
            lambda x: coder(x), example(_TRACED), check_trace=False
        )
    x = example(_CHECKED)
    # The first calls are optimised for what comes.
    is_same = all(
        torch.allclose(call(part), coder(part), rtol=_TOLERANCE, atol=_TOLERANCE)
        for part in (x, x, x[:1], x[:1])
    )
    return call if is_same else coder
