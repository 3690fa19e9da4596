r"""What a model is trained for: likelihood of sets, telling sets apart, or both at once.

Every image passes the flow once. The generative objective is the joint log-likelihood of the sets
of a batch; the discriminative one reuses the same latent vectors: some images of each set become
its support, and every other image of the batch is a query against every set.

Conditional models have two more: to tell the label of an image from other labels, and to predict
the image at a label. Without them a model of everything in an image learns what its label means
last, because that is worth only a few of the nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.flows.preprocessing import LEVELS
from bruno.model import Bruno
from bruno.processes import ExchangeableProcess


@dataclass(frozen=True)
class ObjectiveConfig:
    """The weights of the objectives.

    Attributes:
        generative_weight: Weight of the negative log-likelihood in nats per dimension.
        discriminative_weight: Weight of the cross-entropy in nats per query.
        label_weight: Weight of the cross-entropy, in nats, of the label of an image among labels
            of others; for conditional models.
        prediction_weight: Weight of the mean squared error of a pixel in the expected image (at
            its label, if it has one), where white is 1; for models of images.
        shots: Support sizes, used in turn from step to step.
        supports: How many different supports of that size are drawn from each set in a step; each
            is scored by all its remaining images. 0 means one starting at every image.
    """

    generative_weight: float = 1.0
    discriminative_weight: float = 1.0
    label_weight: float = 0.0
    prediction_weight: float = 0.0
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
        for name in ("label_weight", "prediction_weight"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: expected at least 0, got {getattr(self, name):g}")
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
        label_cross_entropy: Of the label of an image, nats.
        squared_error: Of a pixel of the expected image, where white is 1.
    """

    loss: Tensor
    nats: Tensor
    cross_entropy: Tensor
    accuracy: Tensor
    label_cross_entropy: Tensor
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
            context: Labels, ``(S, n, context_dim)``.
            generator: Source of the samples that predictions are made of.
        """
        config, model = self.config, self.model
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            z, log_det = model(x, context)
        joint = model.process.log_prob(z) + log_det.double().sum(-1)
        nats = -joint.mean() / x.shape[1]
        loss = config.generative_weight * nats / model.process.dim
        unknown = torch.full_like(nats, torch.nan)
        cross_entropy = accuracy = label_cross_entropy = squared_error = unknown
        if config.discriminative_weight:
            supports = config.supports or x.shape[1]
            cross_entropy, accuracy = classify_remaining(model.process, z, shot, supports)
            loss = loss + config.discriminative_weight * cross_entropy
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            if config.label_weight:
                if context is None:
                    raise UserError("label_weight: expected 0 for images without labels")
                label_cross_entropy = tell_labels(model, z, log_det, x, context, shot)
                loss = loss + config.label_weight * label_cross_entropy
            if config.prediction_weight:
                squared_error = predict_remaining(model, z, x, context, shot, generator)
                loss = loss + config.prediction_weight * squared_error
        return Losses(loss, nats, cross_entropy, accuracy, label_cross_entropy, squared_error)


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


def tell_labels(
    model: Bruno, z: Tensor, log_det: Tensor, x: Tensor, context: Tensor, shot: int
) -> Tensor:
    """Tell the label of the last image of every set from those of the last images of two others.

    Args:
        model: The model.
        z: Latent sets, ``(S, n, D)``.
        log_det: Their log-determinants, ``(S, n)``.
        x: The sets, ``(S, n, *event)``.
        context: Their labels, ``(S, n, context_dim)``.
        shot: How many of its first images are known of a set, less than ``n``.

    Returns:
        Mean cross-entropy in nats, from equal prior probabilities; labels that happen to be equal
        share theirs.
    """
    process = model.process
    predictive = process.predictive(Evidence.of(z[:, :shot])).base_dist
    true_label = context[:, -1]
    log_probs = [predictive.log_prob(z[:, -1].double()).sum(-1) + log_det[:, -1].double()]
    for other in (1, 2):
        label = true_label.roll(other, 0)
        moved, moved_log_det = model(x[:, -1], label)
        log_prob = predictive.log_prob(moved.double()).sum(-1) + moved_log_det.double()
        same = (label == true_label).all(-1)
        log_probs.append(log_prob.masked_fill(same, -torch.inf))
    scores = torch.stack(log_probs, -1)
    return (scores.logsumexp(-1) - scores[:, 0]).mean()


def predict_remaining(
    model: Bruno,
    z: Tensor,
    x: Tensor,
    context: Tensor | None,
    shot: int,
    generator: torch.Generator | None,
) -> Tensor:
    r"""Predict the last images of every set, at their labels, from its first ones.

    The squared error of the mean image is :math:`\mathbb{E}[(x_1 - x)(x_2 - x)]` for independent
    samples :math:`x_1, x_2`, so two samples estimate it without bias.

    Args:
        model: The model.
        z: Latent sets, ``(S, n, D)``.
        x: The sets, ``(S, n, *event)``.
        context: Their labels, ``(S, n, context_dim)``, if they have some.
        shot: How many of its first images are known of a set, less than ``n``.
        generator: Source of the samples.

    Returns:
        Mean squared error of a pixel, where white is 1.
    """
    targets = min(2, x.shape[1] - shot)
    wanted = x[:, -targets:]
    label = None if context is None else context[:, -targets:].expand(2, -1, -1, -1)
    evidence = Evidence.of(z[:, :shot].unsqueeze(1).expand(-1, targets, -1, -1))
    latent = model.process.sample(evidence, (2,), generator)
    drawn = model.decode(latent, label)
    error = (drawn - wanted) / LEVELS
    return error.prod(0).mean()
