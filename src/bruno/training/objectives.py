r"""Training objectives: likelihood of sets, classification among sets, or both at once.

Every image passes the flow once. The generative objective is the joint log-likelihood of the sets
of a batch; the discriminative one reuses the same latent vectors: some images of each set become
its support, and every other image of the batch is a query against every set.

A third objective predicts an image, at its context if it has one, from others of its set. The
context is worth only a few nats of the likelihood, so that a purely generative model learns to use
it late; the prediction error depends on it from the start.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.flows.block_sums import code_only
from bruno.flows.preprocessing import LEVELS
from bruno.model import Bruno
from bruno.processes import ExchangeableProcess
from bruno.validation import check_number, check_whole


@dataclass(frozen=True)
class ObjectiveConfig:
    """The weights of the objectives.

    Attributes:
        generative_weight: Weight of the negative log-likelihood in nats per dimension.
        discriminative_weight: Weight of the cross-entropy in nats per query.
        prediction_weight: Weight of the mean squared error of a pixel in the predicted image (at
            its context, if it has one), where white is 1; for models of images.
        shots: Support sizes, used in turn from step to step.
        supports: How many different supports of that size are drawn from each set in a step; each
            is scored by all its remaining images. 0 means one starting at every image.
    """

    generative_weight: float = 1.0
    discriminative_weight: float = 1.0
    prediction_weight: float = 0.0
    shots: tuple[int, ...] = (1,)
    supports: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: If a weight is negative or not finite, the first two are 0, or a support
                size is not positive.
        """
        weights = (self.generative_weight, self.discriminative_weight)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise UserError(
                "objective: expected finite, non-negative generative_weight and "
                "discriminative_weight, one of them positive, got "
                f"{weights[0]:g} and {weights[1]:g}"
            )
        check_number(
            "prediction_weight",
            self.prediction_weight,
            "a finite number of at least 0",
            lambda weight: 0 <= weight < math.inf,
        )
        if not self.shots or min(self.shots) < 1:
            raise UserError(f"shots: expected positive support sizes, got {list(self.shots)}")
        check_whole("supports", self.supports, 0)


class Losses(NamedTuple):
    """The figures of a batch.

    Attributes:
        loss: The loss, which is minimised.
        nll: Negative log-likelihood per image, nats; in training without the parts that a
            flow takes from another model.
        cross_entropy: Of the class of a query, nats.
        accuracy: Share of queries whose own set is the most likely.
        squared_error: Of a pixel of the predicted image, where white is 1.
    """

    loss: Tensor
    nll: Tensor
    cross_entropy: Tensor
    accuracy: Tensor
    squared_error: Tensor


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

    def forward(
        self,
        x: Tensor,
        shot: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """Return the losses of a batch of sets; NaN for figures of objectives without weight.

        Args:
            x: Sets of different classes, shape ``(S, n, *event)``.
            shot: Support size of all objectives but the generative one, less than ``n``.
            context: Contexts, ``(S, n, context_dim)``.
            generator: Source of the samples that predictions are made of.
        """
        config, model = self.config, self.model
        autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast)
        # Dimensions independent of the set, when not trained, cost most of the time without a
        # gradient.
        parts = code_only(frozen_pixels=True) if self.training else nullcontext()
        with autocast, parts:
            z, log_det = model(x, context)
        process = model.process.first(z.shape[-1])
        joint = process.log_prob(z) + log_det.double().sum(-1)
        nll = -joint.mean() / x.shape[1]
        loss = config.generative_weight * nll / model.process.dim
        unknown = torch.full_like(nll, torch.nan)
        cross_entropy = accuracy = squared_error = unknown
        if config.discriminative_weight:
            supports = config.supports or x.shape[1]
            cross_entropy, accuracy = classify_remaining(process, z, shot, supports)
            loss = loss + config.discriminative_weight * cross_entropy
        if config.prediction_weight:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
                squared_error = predict_remaining(model, z, x, context, shot, generator)
            loss = loss + config.prediction_weight * squared_error
        return Losses(loss, nll, cross_entropy, accuracy, squared_error)


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


def predict_remaining(
    model: Bruno,
    z: Tensor,
    x: Tensor,
    context: Tensor | None,
    shot: int,
    generator: torch.Generator | None,
) -> Tensor:
    r"""Predict the last two images of every set, at their contexts, from its first ones.

    Two samples :math:`x_1, x_2` are drawn about the predictive mean in latent space, both at one
    latent scale, which is uniform on [0, 1] for every prediction. At that scale the squared
    error of their mean image is :math:`\mathbb{E}[(x_1 - x)(x_2 - x)]`, which the product of the
    two errors estimates without bias. At scale 1 alone the image of the mean stays poor, at
    0 alone samples do.

    Args:
        model: The model.
        z: Latent sets, ``(S, n, D)``.
        x: The sets, ``(S, n, *event)``.
        context: Their contexts, ``(S, n, context_dim)``, if they have some.
        shot: Number of first images of a set that are given, less than ``n``.
        generator: Source of the samples.

    Returns:
        Mean squared error of a pixel, where white is 1.

    Raises:
        UserError: If the shot leaves no image to predict.
    """
    if shot >= x.shape[1]:
        raise UserError(f"shot: expected fewer than the {x.shape[1]} images of a set, got {shot}")
    targets = min(2, x.shape[1] - shot)
    wanted = x[:, -targets:]
    target_context = None if context is None else context[:, -targets:].expand(2, -1, -1, -1)
    evidence = Evidence.of(z[:, :shot].unsqueeze(1).expand(-1, targets, -1, -1))
    mean = model.process.predictive(evidence).base_dist.mean.squeeze(2)
    sample = model.process.sample(evidence, (2,), generator)
    latent_scale = torch.rand(
        *mean.shape[:2], 1, generator=generator, device=z.device, dtype=torch.float32
    )
    drawn = model.decode(
        torch.lerp(mean.expand_as(sample), sample, latent_scale.to(sample)), target_context
    )
    return ((drawn - wanted) / LEVELS).prod(0).mean()
