r"""What a model is trained for: likelihood of sets, telling sets apart, or both at once.

Every image passes the flow once. The generative objective is the joint log-likelihood of the sets
of a batch; the discriminative one reuses the same latent vectors: some images of each set become
its support, and every other image of the batch is a query against every set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.processes import ExchangeableProcess


@dataclass(frozen=True)
class ObjectiveConfig:
    """The weights of the two objectives.

    Attributes:
        generative_weight: Weight of the negative log-likelihood in nats per dimension.
        discriminative_weight: Weight of the cross-entropy in nats per query.
        shots: Support sizes, used in turn from step to step.
        supports: How many different supports of that size are drawn from each set in a step; each
            is scored by all its remaining images. 0 means one starting at every image.
    """

    generative_weight: float = 1.0
    discriminative_weight: float = 1.0
    shots: tuple[int, ...] = (1,)
    supports: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: If a weight is negative, both are 0, or a support size is not positive.
        """
        weights = (self.generative_weight, self.discriminative_weight)
        if min(weights) < 0 or max(weights) == 0:
            raise UserError(
                "objective: expected non-negative generative_weight and discriminative_weight, "
                f"one of them positive, got {weights[0]:g} and {weights[1]:g}"
            )
        if not self.shots or min(self.shots) < 1:
            raise UserError(f"shots: expected positive support sizes, got {list(self.shots)}")
        if self.supports < 0:
            raise UserError(f"supports: expected 0 or more, got {self.supports}")


class Losses(NamedTuple):
    """The figures of a batch.

    Attributes:
        loss: What is minimised.
        nats: Negative log-likelihood per image, nats.
        cross_entropy: Of the class of a query, nats.
        accuracy: Share of queries whose own set is the most likely.
    """

    loss: Tensor
    nats: Tensor
    cross_entropy: Tensor
    accuracy: Tensor


class Objective(nn.Module):
    """A model with its objective, as one module that a distributed wrapper can call.

    Args:
        model: The model.
        config: The weights.
        autocast: Whether the conditioners of the flow compute in bfloat16.
    """

    def __init__(self, model: Bruno, config: ObjectiveConfig, *, autocast: bool = False) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.autocast = autocast

    def forward(self, x: Tensor, shot: int, context: Tensor | None = None) -> Losses:
        """Return the losses of a batch of sets.

        Args:
            x: Sets of different classes, shape ``(S, n, *event)``.
            shot: Support size of the discriminative objective, less than ``n``.
            context: Labels, ``(S, n, context_dim)``.
        """
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            z, log_det = self.model(x, context)
        process = self.model.process
        joint = process.log_prob(z) + log_det.double().sum(-1)
        nats = -joint.mean() / x.shape[1]
        cross_entropy = accuracy = torch.full_like(nats, torch.nan)
        loss = self.config.generative_weight * nats / process.dim
        if self.config.discriminative_weight:
            supports = self.config.supports or x.shape[1]
            cross_entropy, accuracy = classify_remaining(process, z, shot, supports)
            loss = loss + self.config.discriminative_weight * cross_entropy
        return Losses(loss, nats, cross_entropy, accuracy)


def classify_remaining(
    process: ExchangeableProcess, z: Tensor, shot: int, supports: int
) -> tuple[Tensor, Tensor]:
    r"""Classify every image of every set, given a few of each, with a softmax over the sets.

    Support ``k`` of a set is its images ``k..k + shot − 1``, cyclically; its queries are all the
    others. The logits are :math:`\log p(z_q | \text{support})`, exact and without temperature.

    Args:
        process: The latent process.
        z: Latent sets, ``(S, n, D)``.
        shot: Images in a support, less than ``n``.
        supports: How many of the ``n`` cyclic supports are used, spread evenly.

    Returns:
        Mean cross-entropy in nats, and accuracy.

    Raises:
        UserError: If the shot leaves no query.
    """
    sets, n = z.shape[:2]
    if shot >= n:
        raise UserError(f"shot: expected fewer than the {n} images of a set, got {shot}")
    supports = min(supports, n)
    starts = torch.arange(supports, device=z.device) * n // supports
    members = (starts.unsqueeze(1) + torch.arange(n, device=z.device)) % n  # (K, n)
    evidence = Evidence.of(z[:, members[:, :shot]])  # batch (S, K)
    flat = Evidence(*(t.flatten(0, 1) for t in (evidence.count, evidence.mean, evidence.scatter)))
    log_prob = process.log_prob_given(z.flatten(0, 1), flat)  # (S·n, S·K)
    log_prob = log_prob.view(sets, n, sets, supports).permute(3, 0, 1, 2)  # (K, S, n, candidate)
    queries = members[:, shot:].view(supports, 1, -1, 1).expand(-1, sets, -1, sets)
    log_prob = log_prob.gather(2, queries)
    truth = torch.arange(sets, device=z.device).view(1, -1, 1).expand(log_prob.shape[:3])
    cross_entropy = nn.functional.cross_entropy(log_prob.flatten(0, 2), truth.flatten())
    accuracy = (log_prob.argmax(-1) == truth).double().mean()
    return cross_entropy, accuracy
