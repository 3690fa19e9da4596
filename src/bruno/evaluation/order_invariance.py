"""Order invariance of the joint log-density in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.model import Bruno
from bruno.validation import check_generator, check_tensor, check_whole


@dataclass(frozen=True)
class ExchangeabilityResult:
    """Rounding errors of laws that hold exactly in real arithmetic.

    Attributes:
        elements: Size of the set.
        permutations: Number of random orders tried.
        log_prob: Joint log-density of the set in the order given, in nats.
        spread: Largest minus smallest joint log-density over all orders, in nats.
        relative_spread: The same, relative to the size of :attr:`log_prob` (or to 1 nat if that is
            smaller).
        chain_error: Distance of the sum of one-step-ahead terms from the joint, in nats.
    """

    elements: int
    permutations: int
    log_prob: float
    spread: float
    relative_spread: float
    chain_error: float

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return dict(self.__dict__)

    def rows(self) -> list[list[str]]:
        """Return elements, orders, joint log-density, spreads and error of the chain."""
        return [
            [
                f"{self.elements}",
                f"{self.permutations}",
                f"{self.log_prob:.2f}",
                f"{self.spread:.1e}",
                f"{self.relative_spread:.1e}",
                f"{self.chain_error:.1e}",
            ]
        ]


@torch.no_grad()
def exchangeability(
    model: Bruno,
    x: Tensor,
    permutations: int,
    generator: torch.Generator,
    context: Tensor | None = None,
) -> ExchangeabilityResult:
    """Compare the joint log-density of a set over random orders, and with its chain of terms.

    Every order goes through the whole model, flow included.

    Args:
        model: The model.
        x: One set, ``(n, *event)``.
        permutations: Number of random orders to try, besides the one given.
        generator: Source of the orders, on the CPU.
        context: Labels of the elements for a conditional model, ``(n, context_dim)``.

    Returns:
        The differences.

    Raises:
        UserError: If ``permutations`` is below 1, or ``x`` is not one set the flow takes.
    """
    check_whole("permutations", permutations, 1)
    check_tensor("x", x)
    check_generator("generator", generator)
    if x.shape[1:] != model.event_shape:
        event = ", ".join(map(str, model.event_shape))
        raise UserError(f"x: expected one set of shape (n, {event}), got {tuple(x.shape)}")
    joint = float(model.log_prob(x, context))
    joints = [joint]
    for _ in range(permutations):
        order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
        permuted = None if context is None else context[order]
        joints.append(float(model.log_prob(x[order], permuted)))
    spread = max(joints) - min(joints)
    chain = float(model.predictive_log_prob(x, context).sum())
    return ExchangeabilityResult(
        elements=len(x),
        permutations=permutations,
        log_prob=joint,
        spread=spread,
        relative_spread=spread / max(abs(joint), 1.0),
        chain_error=abs(chain - joint),
    )
