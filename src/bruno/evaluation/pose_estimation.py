"""Pose estimation: from which side is an object seen? The angle with the highest likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise
from bruno.errors import UserError
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.streams import Stream
from bruno.evaluation.views import by_object, check_conditional, condition
from bruno.model import Bruno
from bruno.predictive import Predictive
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for, uniform
from bruno.validation import check_counts

_NEAR = 20.0
_RESAMPLES = 1000
# An object is rotationally symmetric if views this many degrees apart differ by less.
_APART, _ALIKE = 30.0, 0.1
_EVEN = 0.5  # degrees by which equal steps may differ


@dataclass(frozen=True)
class PoseResult:
    """Pose estimation after one number of views.

    Attributes:
        dataset: Data set and split.
        objects: Number of objects, without those that look alike from several sides.
        of: Number of objects with them.
        given: Views of each that were given with their angle.
        median: Median over objects of the angular error, in degrees; its interval is that of a
            bootstrap over objects.
        near: Share of errors of at most 20 degrees, in per cent.
        margin: log p(x | h) of the true angle, minus that of the others on average, in nats.
        seed: Seed of views and noise.
    """

    dataset: str
    objects: int
    of: int
    given: int
    median: Estimate
    near: Estimate
    margin: Estimate
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        estimates = {name: getattr(self, name).to_dict() for name in ("median", "near", "margin")}
        return self.__dict__ | estimates

    def rows(self) -> list[list[str]]:
        """Return views given, median error, share of small errors and margin."""
        return [[f"{self.given}", f"{self.median}", f"{self.near}", f"{self.margin}"]]


@torch.no_grad()
def pose(
    model: Bruno,
    dataset: LabelledImages,
    *,
    given: Sequence[int] = (1, 4, 16),
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> tuple[PoseResult, ...]:
    """Estimate the angle of a view by trying all angles; one result for every number of views.

    Args:
        model: A conditional model of one angle, as its sine and cosine.
        dataset: Objects it was not trained on; a class is an object, its images are views.
        given: Numbers of views to give with their angle.
        seed: Seed of views and noise.
        progress: Told the number of objects done, for every number of views.

    Returns:
        One result for every number of views.

    Raises:
        UserError: If the model or the data have no such feature, an object has too few views, or
            fewer than two objects have a unique pose.
    """
    check_conditional(model, dataset)
    if [feature.is_angle for feature in dataset.context_features] != [True]:
        raise UserError(f"data: expected one angle as the context of {dataset.name}")
    views, context = by_object(dataset)
    check_counts("given", given, 0)
    if not given or max(given) >= views.shape[1]:
        raise UserError(
            f"given: expected 0 to {views.shape[1] - 1} views, fewer than an object has, got "
            f"{list(given)}"
        )
    angles = degrees(context)
    chosen = has_unique_pose(views, angles).nonzero().flatten()
    if len(chosen) < 2:
        raise UserError(
            f"data: expected at least 2 objects that do not look alike from several sides, "
            f"{dataset.name}/{dataset.split} has {len(chosen)}"
        )
    generator = generator_for(seed, Stream.POSE)
    order = uniform(views.shape[:2], generator).argsort(1)
    noisy = dequantise(views.flatten(0, 1), generator).view(views.shape)
    results = []
    for count in given:
        errors, margins = [], []
        for done, index in enumerate(chosen.tolist(), 1):
            query, seen = order[index, 0], order[index, 1 : 1 + count]
            sides = context[index]
            predictive = condition(model, noisy[index, seen].unsqueeze(0), sides[seen][None])
            scores = scores_by_context(predictive, noisy[index, query], sides)
            errors.append(angle_between(angles[index, scores.argmax()], angles[index, query]))
            others = torch.arange(len(sides), device=scores.device) != query
            margins.append(scores[query] - scores[others].mean())
            if progress is not None:
                progress(f"pose, {count} given", done, len(chosen))
        error = torch.stack(errors)
        results.append(
            PoseResult(
                dataset=f"{dataset.name}/{dataset.split}",
                objects=len(chosen),
                of=len(views),
                given=count,
                median=_median(error, seed),
                near=estimate(100 * (error <= _NEAR).double()),
                margin=estimate(torch.stack(margins)),
                seed=seed,
            )
        )
    return tuple(results)


@torch.no_grad()
def scores_by_context(predictive: Predictive, x: Tensor, context: Tensor) -> Tensor:
    """Return log p(x | seen, context) of one image for every context, in nats, ``(K,)``, CPU.

    Args:
        predictive: Predictive given views of the object, of batch shape ``()`` or ``(1,)``.
        x: An image, shape ``event``.
        context: The contexts to try, ``(K, context_dim)``.
    """
    device = predictive.model.device
    shape = (len(context), *(1 for _ in predictive.batch_shape))
    candidates = x.expand(*shape, *predictive.event_shape).to(device)
    scores = predictive.log_prob(candidates, context.view(*shape, -1).to(device))
    return scores.flatten().cpu()


def degrees(context: Tensor) -> Tensor:
    """Return the angles whose sine and cosine a context is, ``(*B, 2) -> (*B,)``.

    Rounded to a thousandth, so that differences of angles are exact to that precision.
    """
    sine, cosine = context.double().unbind(-1)
    return torch.atan2(sine, cosine).rad2deg().round(decimals=3)


def objects_with_unique_pose(dataset: LabelledImages) -> list[int]:
    """Return the objects whose angle is identifiable; none where the context is not one angle."""
    if [feature.is_angle for feature in dataset.context_features] != [True]:
        return []
    views, context = by_object(dataset)
    unique: list[int] = has_unique_pose(views, degrees(context)).nonzero().flatten().tolist()
    return unique


def has_unique_pose(views: Tensor, angles: Tensor) -> Tensor:
    """Return which objects look like themselves only from one side.

    Args:
        views: uint8 ``(objects, V, C, H, W)``.
        angles: Of every view, in degrees, ``(objects, V)``.

    Returns:
        bool ``(objects,)``: whether turning the object by 30 degrees or more always changes its
        views by a tenth of their root mean square. This needs views all around at equal steps;
        other objects are taken to have a unique pose.
    """
    angles, order = (angles % 360).sort(1)
    objects = torch.arange(len(views), device=views.device).unsqueeze(1)
    unit = views.flatten(2)[objects, order].float() / 255
    steps = (angles.roll(-1, 1) - angles) % 360
    all_around = ((steps - 360 / views.shape[1]).abs() < _EVEN).all(1)
    size = unit.square().mean((1, 2)).sqrt()
    smallest = torch.full_like(size, torch.inf)
    for turn in range(1, views.shape[1]):
        far = (angle_between(angles, angles.roll(turn, 1)) >= _APART).all(1)
        change = (unit - unit.roll(turn, 1)).square().mean((1, 2)).sqrt() / size.clamp_min(1e-9)
        smallest = torch.where(far, smallest.minimum(change), smallest)
    return (smallest > _ALIKE) | ~all_around


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between two directions, in degrees, 0 to 180, to a thousandth.

    Args:
        a: Angles, in degrees.
        b: Angles of a shape that broadcasts with it.
    """
    return ((a - b + 180) % 360 - 180).abs().round(decimals=3)


def _median(error: Tensor, seed: int) -> Estimate:
    generator = generator_for(seed, Stream.POSE, 1)
    shape = (_RESAMPLES, len(error))
    rows = torch.randint(len(error), shape, generator=generator, device=generator.device)
    medians = error[rows].quantile(0.5, dim=1)
    low, high = medians.quantile(medians.new_tensor([0.025, 0.975]))
    return Estimate(float(error.quantile(0.5)), float(high - low) / 2, len(error))
