"""Latent dimensions that are correlated within a set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bruno.processes import ExchangeableProcess


@torch.no_grad()
def correlated_dimensions(
    process: ExchangeableProcess, epsilons: Tensor | Sequence[float]
) -> Tensor:
    r"""Count the latent dimensions whose correlation :math:`\rho / v` exceeds thresholds.

    The predictive depends on the set through these only (BRUNO paper, appendix).

    Args:
        process: The process.
        epsilons: Thresholds, shape ``(E,)``.

    Returns:
        Counts, int64 ``(E,)``, on the CPU.

    Example:
        >>> from bruno import ExchangeableGaussian
        >>> process = ExchangeableGaussian.from_parameters(torch.ones(3), torch.tensor([0, .1, .9]))
        >>> correlated_dimensions(process, [0.01, 0.5])
        tensor([2, 1])
    """
    thresholds = torch.as_tensor(epsilons, device="cpu", dtype=torch.float64)
    return (process.correlation.cpu() > thresholds.unsqueeze(-1)).sum(-1)
