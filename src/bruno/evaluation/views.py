"""Prediction of new views of an object: likelihood of the true view, error of predicted ones.

The test of *Conditional BRUNO* (Korshunova et al., 2018): given images of an object with a
context each, such as the azimuth they were taken from, predict its image at another context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bruno import chunks
from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise, quantise
from bruno.errors import UserError
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.similarity import structural_similarity
from bruno.evaluation.streams import Stream
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.predictive import Predictive
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for, uniform
from bruno.validation import check_counts, check_whole

_BATCH = 500
_SIMILARITY_WINDOW = 7


@dataclass(frozen=True)
class ReconstructionError:
    """Distance of pictures from the truth, with intervals over objects.

    Attributes:
        rmse: Root of the mean squared difference of an object's pixels, where white is 1.
        ssim: Structural similarity (Wang et al. 2004) in uniform windows of 7×7 pixels, or as
            large as fits; 1 for equal pictures.
    """

    rmse: Estimate
    ssim: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"rmse": self.rmse.to_dict(), "ssim": self.ssim.to_dict()}


@dataclass(frozen=True)
class ViewsGiven:
    """Predictions of new views after a number of seen ones.

    Attributes:
        given: Views seen.
        nll: Of a new view, −log p(x | seen views, its context).
        conditioning_gain: Decrease of ``nll`` from the fewest views, with an interval over the
            differences of objects.
        step: Decrease of ``nll`` from the number of views before this one, likewise.
        unconditional_nll: Of a new view after as many, by the unconditional model if there is one.
        pictures: How close they come: ``mean`` of the samples and one ``sample`` each, and the
            competitors: ``nearest training object``, ``mean training view``, and ``unconditional
            model`` if there is one.
    """

    given: int
    nll: Estimate
    conditioning_gain: Estimate
    step: Estimate
    unconditional_nll: Estimate | None
    pictures: Mapping[str, ReconstructionError]

    def to_dict(self, bits_per_nat: float) -> dict[str, Any]:
        """Return what JSON can hold."""
        alone = self.unconditional_nll
        return {
            "given": self.given,
            "nll": self.nll.to_dict(),
            "bits_per_dim": self.nll.scaled(bits_per_nat).to_dict(),
            "conditioning_gain": self.conditioning_gain.to_dict(),
            "step": self.step.to_dict(),
            **({} if alone is None else {"unconditional_nll": alone.to_dict()}),
            "pictures": {name: one.to_dict() for name, one in self.pictures.items()},
        }


@dataclass(frozen=True)
class ViewsResult:
    """Predictions of new views for every number of given views.

    Attributes:
        dataset: Data set and split.
        objects: Number of objects.
        targets: New views of each, the same ones however many are given.
        samples: Samples that a mean picture is the mean of.
        dim: Values in an image, for bits/dim.
        by_given: Figures for every number of given views.
        seed: Seed of the choice of views, of the dequantisation noise and of the samples.
    """

    dataset: str
    objects: int
    targets: int
    samples: int
    dim: int
    by_given: tuple[ViewsGiven, ...]
    seed: int

    @property
    def bits_per_nat(self) -> float:
        """Factor from nats per view to bits per value of an image."""
        return 1 / (self.dim * math.log(2))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        rows = [row.to_dict(self.bits_per_nat) for row in self.by_given]
        figures = {name: value for name, value in self.__dict__.items() if name != "by_given"}
        return figures | {"rows": rows}

    def rows(self) -> list[list[str]]:
        """Return views given, nats per view, bits/dim, gain and nats without context."""
        return [
            [
                f"{row.given}",
                f"{row.nll}",
                f"{row.nll.mean * self.bits_per_nat:.3f}",
                f"{row.conditioning_gain}",
                f"{row.unconditional_nll or ''}",
            ]
            for row in self.by_given
        ]


@torch.no_grad()
def novel_views(
    model: Bruno,
    dataset: LabelledImages,
    training: LabelledImages | None,
    *,
    given: Sequence[int] = (0, 1, 2, 4, 8, 16),
    targets: int = 4,
    samples: int = 16,
    unconditional: Bruno | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> ViewsResult:
    """Measure predictions of new views of objects after a few views, beside simple competitors.

    Args:
        model: A conditional model.
        dataset: Objects it was not trained on; a class is an object, its images are views.
        training: The objects it was trained on, for the competitors: the view of the training
            object whose views are nearest to those given, and the mean view of all training
            objects. Left out without training objects, and where not all objects are seen from the
            same sides.
        given: Numbers of views to give, ascending.
        targets: New views of every object.
        samples: Samples a mean picture is made of.
        unconditional: A model of the same images without context, as a competitor.
        seed: Seed of views, noise and samples.
        progress: Told the number of objects done, for every number of views.

    Returns:
        Figures for every number of given views.

    Raises:
        UserError: If the model or the data have no context, a number is not positive, an object
            has too few views, or the models do not take such images.
    """
    check_conditional(model, dataset)
    if unconditional is not None:
        check_unconditional(unconditional, dataset)
    check_counts("given", given, 0)
    if not given or list(given) != sorted(set(given)):
        raise UserError(f"given: expected ascending numbers of views, got {list(given)}")
    for name, number in (("targets", targets), ("samples", samples)):
        check_whole(name, number, 1)
    views, context = by_object(dataset)
    training_views = None
    if training is not None:
        training_views, training_context = by_object(training)
        if not _all_alike(context, training_context):
            training_views = None
    objects, number = views.shape[:2]
    if max(given) + targets > number:
        raise UserError(
            f"given: {max(given)} views and {targets} targets are more than the {number} views of "
            "an object"
        )
    generator = generator_for(seed, Stream.VIEWS)
    order = uniform((objects, number), generator).argsort(1)
    noisy = dequantise(views.flatten(0, 1), generator).view(views.shape)
    here = torch.arange(objects, device=views.device).unsqueeze(1)
    wanted = order[:, :targets]
    truth = _unit(views[here, wanted])
    rows: list[ViewsGiven] = []
    of_objects: list[Tensor] = []  # nll for every number of views, (objects,) each
    for count in given:
        seen = order[:, targets : targets + count]
        nll, pictures, others, other_pictures = [], [], [], []
        for start in range(0, objects, _objects_at_once(model)):
            part = slice(start, start + _objects_at_once(model))
            new, target_context = noisy[here, wanted][part], context[here, wanted][part]
            predictive = condition(model, noisy[here, seen][part], context[here, seen][part])
            nll.append(_nll(predictive, new, target_context))
            pictures.append(_drawn(predictive, target_context, samples, generator))
            if unconditional is not None:
                alone = condition(unconditional, noisy[here, seen][part], None)
                others.append(_nll(alone, new, None))
                other_pictures.append(_drawn(alone, None, samples, generator))
            if progress is not None:
                progress(f"views, {count} given", min(part.stop, objects), objects)
        drawn = torch.cat(pictures, 1)  # (samples, objects, targets, *event)
        shown = {"mean": drawn.mean(0), "sample": drawn[0]}
        if count and training_views is not None:
            nearest = _nearest(views[here, seen], seen, training_views)
            shown["nearest training object"] = _unit(training_views[nearest.unsqueeze(1), wanted])
        if training_views is not None:
            shown["mean training view"] = _unit(training_views).mean(0)[wanted]
        if unconditional is not None:
            alike = torch.cat(other_pictures, 1).mean(0).unsqueeze(1)
            shown["unconditional model"] = alike.expand_as(truth)
        of_objects.append(torch.cat(nll))
        rows.append(
            ViewsGiven(
                count,
                estimate(of_objects[-1]),
                conditioning_gain=estimate(of_objects[0] - of_objects[-1]),
                step=estimate(of_objects[max(0, len(rows) - 1)] - of_objects[-1]),
                unconditional_nll=estimate(torch.cat(others)) if others else None,
                pictures={
                    name: reconstruction_error(picture, truth) for name, picture in shown.items()
                },
            )
        )
    return ViewsResult(
        dataset=f"{dataset.name}/{dataset.split}",
        objects=objects,
        targets=targets,
        samples=samples,
        dim=model.process.dim,
        by_given=tuple(rows),
        seed=seed,
    )


def reconstruction_error(pictures: Tensor, truth: Tensor) -> ReconstructionError:
    """Compare pictures of objects with the truth, both ``(objects, views, C, H, W)`` in [0, 1].

    Args:
        pictures: Predicted views, in [0, 1].
        truth: True views of the same shape.

    Returns:
        Errors, with intervals over objects.
    """
    squares = (pictures - truth).square().flatten(1).mean(1)
    smaller_side = min(truth.shape[-2:])
    window = min(_SIMILARITY_WINDOW, smaller_side - 1 + smaller_side % 2)
    similar = structural_similarity(pictures.flatten(0, 1), truth.flatten(0, 1), window)
    return ReconstructionError(
        estimate(squares.sqrt()), estimate(similar.view(truth.shape[:2]).mean(1).cpu())
    )


def check_conditional(model: Bruno, dataset: LabelledImages) -> None:
    """Raise if a model does not take the context of a data set.

    Args:
        model: The model.
        dataset: The data set.

    Raises:
        UserError: If the model takes no context, or one of another size than the data have.
    """
    if not model.flow.context_dim:
        raise UserError("model: expected a conditional model, got one that takes no context")
    if dataset.context_dim != model.flow.context_dim:
        raise UserError(
            f"data: the model takes a context of {model.flow.context_dim} numbers, "
            f"{dataset.name} has {dataset.context_dim}"
        )


def check_unconditional(model: Bruno, dataset: LabelledImages) -> None:
    """Raise if a model cannot compete on the same images without their context.

    Args:
        model: The model without context.
        dataset: The data set.

    Raises:
        UserError: If it takes a context, or images of another shape.
    """
    if model.flow.context_dim:
        raise UserError("unconditional: expected a model without context, got one that takes it")
    if model.event_shape != dataset.event_shape:
        raise UserError(
            f"unconditional: expected a model of images of shape {dataset.event_shape}, got "
            f"{model.event_shape}"
        )


def by_object(dataset: LabelledImages) -> tuple[Tensor, Tensor]:
    """Return as many views of every object as the one with the fewest has, and their context.

    Returns:
        Views, uint8 ``(objects, V, C, H, W)``, and context, ``(objects, V, context_dim)``.

    Raises:
        UserError: If there is no context.
    """
    if dataset.context is None:
        raise UserError(f"data: expected views with a context, {dataset.name} has none")
    table = dataset.index_table[:, : int(dataset.class_sizes.min())]
    return dataset.images[table], dataset.context[table]


def _all_alike(context: Tensor, other: Tensor) -> bool:
    """Return whether all objects of both are seen from the same sides in the same order."""
    return context.shape[1:] == other.shape[1:] and all(
        one.equal(context[:1].expand_as(one)) for one in (context, other)
    )


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255


def _nll(predictive: Predictive, new: Tensor, target_context: Tensor | None) -> Tensor:
    """Return the mean negative log-likelihood of the new views of every object, ``(objects,)``.

    Args:
        predictive: Of batch shape ``(objects,)``.
        new: Views, ``(objects, targets, *event)``.
        target_context: Their contexts, ``(objects, targets, context_dim)``.
    """
    context = None if target_context is None else _first(predictive, target_context)
    return -predictive.log_prob(_first(predictive, new), context).mean(0).cpu()


def _first(predictive: Predictive, of_objects: Tensor) -> Tensor:
    """Put targets before objects, for samples come before sets; on the device of the model."""
    return of_objects.transpose(0, 1).to(predictive.model.device)


def _objects_at_once(model: Bruno) -> int:
    return chunks.rows_per_chunk(16 * model.process.dim, _BATCH * 28 * 28)


def condition(model: Bruno, x: Tensor, context: Tensor | None) -> Predictive:
    """Return the predictive of objects given views ``(objects, n, *event)``.

    Args:
        model: The model.
        x: Seen views, ``(objects, n, *event)``; n may be 0.
        context: Their context, ``(objects, n, context_dim)``, if the model takes one.
    """
    device = model.device
    if x.shape[1] == 0:
        empty = Evidence.empty(model.process.dim, (len(x),), device=device)
        return Predictive(model, empty)
    return model.condition(x.to(device), None if context is None else context.to(device))


def _drawn(
    predictive: Predictive, target_context: Tensor | None, samples: int, generator: torch.Generator
) -> Tensor:
    """Return samples in [0, 1], ``(samples, objects, targets, *event)``, or without targets."""
    if target_context is None:
        return _unit(quantise(predictive.sample(samples, generator=generator).cpu()))
    drawn = predictive.sample(
        (samples, target_context.shape[1]), _first(predictive, target_context), generator
    )
    return _unit(quantise(drawn.transpose(1, 2).cpu()))


def _nearest(seen_views: Tensor, seen: Tensor, training_views: Tensor) -> Tensor:
    """Return the training object whose views from the same sides are nearest, ``(objects,)``."""
    return torch.stack(
        [
            (_unit(training_views[:, sides]) - _unit(views)).square().flatten(1).sum(1).argmin()
            for views, sides in zip(seen_views, seen, strict=True)
        ]
    )
