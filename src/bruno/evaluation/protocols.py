"""Evaluation protocols by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bruno.data.sets import dequantise
from bruno.errors import UserError
from bruno.evaluation.anomaly_streams import anomaly_streams
from bruno.evaluation.correlation import correlation
from bruno.evaluation.encoding import encode_rotations
from bruno.evaluation.few_shot import few_shot_accuracy
from bruno.evaluation.generation import JUDGED_SPLIT, generation
from bruno.evaluation.latents import latents
from bruno.evaluation.order_invariance import exchangeability
from bruno.evaluation.pose_estimation import objects_with_unique_pose, pose
from bruno.evaluation.robustness import robustness
from bruno.evaluation.set_likelihood import likelihood
from bruno.evaluation.streams import Stream
from bruno.evaluation.subject import Result, Settings, Subject
from bruno.evaluation.trials import check_trials
from bruno.evaluation.views import novel_views
from bruno.evaluation.within_alphabet import WAY, large_alphabets, within_alphabet_accuracy
from bruno.paths import user_path
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for

_WAYS, _SHOTS = (5, 20), (1, 5)
_VIEWS_GIVEN, _POSE_VIEWS_GIVEN = (0, 1, 2, 4, 8, 16), (1, 4, 16)
_TARGET_VIEWS = 4
_SET_SIZE = 20
_PERMUTED_SIZES = {10: 20, 100: 10, 1000: 3}  # orders by size of the set
_ROBUSTNESS_WAY, _ROBUSTNESS_SHOT, _CONTAMINANTS = 20, 5, (0, 1, 2)
_EXAMPLES_GIVEN, _JUDGED_WAY = (1, 5, 10), 20


@dataclass(frozen=True)
class EvaluationProtocol:
    """A way to measure a model.

    Attributes:
        summary: One line for lists of protocols.
        header: Names of the columns of its rows.
        measure: Returns the results, given the subject, the settings and a progress callback.
        applies: Whether it can be measured on a subject at all.
        needs: What a subject has to be for that, to go on from "needs".
        by_default: Whether it is measured where nobody chooses.
        several: Whether it has a list of results, not one.
    """

    summary: str
    header: tuple[str, ...]
    measure: Callable[[Subject, Settings, ProgressCallback | None], Sequence[Result]]
    applies: Callable[[Subject], bool] = lambda _: True
    needs: str = "nothing"
    by_default: bool = True
    several: bool = False


def _likelihood(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    model, dataset = subject.model, subject.dataset
    result = likelihood(
        model,
        dataset,
        set_size=_set_size(subject, settings),
        sets=settings.sets_per_class * dataset.num_classes,
        seed=settings.seed,
        importance_samples=settings.importance_samples,
        probes=settings.probes,
        progress=progress,
    )
    return [result]


def _set_size(subject: Subject, settings: Settings) -> int:
    """Return the size of sets: as set, or what the smallest class is enough for."""
    return settings.set_size or min(_SET_SIZE, int(subject.dataset.class_sizes.min()))


def _few_shot(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    model, dataset = subject.model, subject.dataset
    episodes = [
        (way, shot) for way in _ways(subject, settings) for shot in _shots(subject, settings)
    ]
    for way, shot in episodes:
        check_trials(dataset, way, shot, settings.trials)
    turned = settings.rotations or settings.average_rotations
    encoded = encode_rotations(model, dataset, rotations=turned, progress=progress)
    return [
        few_shot_accuracy(
            model,
            dataset,
            way=way,
            shot=shot,
            rotations=settings.rotations,
            average_rotations=settings.average_rotations,
            trials=settings.trials,
            seed=settings.seed,
            encoded=encoded,
            progress=progress,
        )
        for way, shot in episodes
    ]


def _ways(subject: Subject, settings: Settings) -> Sequence[int]:
    classes = subject.dataset.num_classes
    if classes < 2:
        source = f"{subject.dataset.name}/{subject.dataset.split}"
        raise UserError(f"data: {source} has one class; classification needs at least 2")
    return settings.ways or [way for way in _WAYS if way <= classes] or [classes]


def _shots(subject: Subject, settings: Settings) -> Sequence[int]:
    smallest = int(subject.dataset.class_sizes.min())
    return settings.shots or [shot for shot in _SHOTS if shot < smallest] or [1]


def _within_alphabet(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    runs = None if settings.lake_runs is None else user_path(settings.lake_runs, "lake_runs")
    result = within_alphabet_accuracy(
        subject.model, subject.dataset, lake_runs=runs, seed=settings.seed, progress=progress
    )
    return [result]


def _anomalies(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    result = anomaly_streams(
        subject.model,
        subject.dataset,
        streams=settings.streams,
        seed=settings.seed,
        progress=progress,
    )
    return [result]


def _generation(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    if subject.judge is None:
        raise UserError("judge: generation needs a judge that names the samples, got none")
    dataset = subject.dataset
    room = int(dataset.class_sizes.min()) - sum(JUDGED_SPLIT)
    return generation(
        subject.model,
        dataset,
        subject.judge,
        given=[number for number in _EXAMPLES_GIVEN if number <= room],
        way=min(_JUDGED_WAY, dataset.num_classes),
        episodes=settings.judged_episodes,
        training=subject.training,
        seed=settings.seed,
        progress=progress,
    )


def _exchangeability(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    model, dataset = subject.model, subject.dataset
    generator = generator_for(settings.seed, Stream.EXCHANGEABILITY)
    order = torch.randperm(len(dataset), generator=generator, device="cpu")
    sizes = sorted({min(size, len(dataset)) for size in _PERMUTED_SIZES})
    results = []
    for index, (size, permutations) in enumerate(
        zip(sizes, _PERMUTED_SIZES.values(), strict=False)
    ):
        # The law holds for any images, so that sets may be larger than classes.
        rows = order[:size]
        context = None if dataset.context is None else dataset.context[rows].to(model.device)
        x = dequantise(dataset.images[rows], generator).to(model.device)
        results.append(exchangeability(model, x, permutations, generator, context))
        if progress is not None:
            progress("orders of sets", index + 1, len(sizes))
    return results


def _correlation(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    model, dataset = subject.model, subject.dataset
    return [correlation(model, dataset, seed=settings.seed, progress=progress)]


def _latents(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    return [latents(subject.model, subject.dataset, seed=settings.seed, progress=progress)]


def _robustness(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    smallest = int(subject.dataset.class_sizes.min())
    shot = min(_ROBUSTNESS_SHOT, smallest - 1)
    return robustness(
        subject.model,
        subject.dataset,
        way=min(_ROBUSTNESS_WAY, subject.dataset.num_classes),
        shot=shot,
        contaminants=[number for number in _CONTAMINANTS if number < shot],
        trials=settings.trials,
        set_size=_set_size(subject, settings),
        rotations=settings.rotations,
        seed=settings.seed,
        progress=progress,
    )


def _views(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    number = int(subject.dataset.class_sizes.min())
    targets = min(_TARGET_VIEWS, max(1, number // 4))
    result = novel_views(
        subject.model,
        subject.dataset,
        subject.training,
        given=[count for count in _VIEWS_GIVEN if count + targets <= number],
        targets=targets,
        samples=settings.view_samples,
        unconditional=subject.unconditional,
        seed=settings.seed,
        progress=progress,
    )
    return [result]


def _pose(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    number = int(subject.dataset.class_sizes.min())
    given = [count for count in _POSE_VIEWS_GIVEN if count < number]
    return pose(subject.model, subject.dataset, given=given, seed=settings.seed, progress=progress)


PROTOCOLS: dict[str, EvaluationProtocol] = {
    "likelihood": EvaluationProtocol(
        "negative log-likelihood of sets of one class",
        ("position in the set", "nats per image", "bits/dim"),
        _likelihood,
    ),
    "few_shot": EvaluationProtocol(
        "accuracy of few-shot classification",
        ("episodes", "accuracy %", "chance %", "decisions"),
        _few_shot,
        applies=lambda subject: not subject.is_conditional,
        needs="a model without context",
        several=True,
    ),
    "within_alphabet": EvaluationProtocol(
        "20-way 1-shot classification among characters of one alphabet",
        ("runs", "accuracy %", "chance %", "people %", "worst run %", "best run %"),
        _within_alphabet,
        applies=lambda subject: (
            not subject.is_conditional
            and len(large_alphabets(subject.dataset)) > 0
            and int(subject.dataset.class_sizes.min()) > 1
        ),
        needs=(
            f"a model without context and classes named alphabet/character, at least {WAY} of one "
            "alphabet, of at least 2 images each"
        ),
        by_default=False,
    ),
    "anomalies": EvaluationProtocol(
        "detection of elements of other classes that are planted in streams",
        ("scores of", "AUROC", "AUROC of late elements", "average precision"),
        _anomalies,
        applies=lambda subject: not subject.is_conditional and subject.dataset.num_classes > 1,
        needs="a model without context and at least 2 classes",
        by_default=False,
    ),
    "generation": EvaluationProtocol(
        "share of samples given a few examples that a judge names as their class",
        (
            *("examples given", "latent scale", "judged right %", "chance %", "real images %"),
            *("variance", "spread", "nearest given", "nearest training"),
        ),
        _generation,
        applies=lambda subject: (
            not subject.is_conditional
            and int(subject.dataset.class_sizes.min()) > sum(JUDGED_SPLIT)
        ),
        needs=(
            f"a model without context and classes of at least {sum(JUDGED_SPLIT) + 1} images each"
        ),
        by_default=False,
        several=True,
    ),
    "exchangeability": EvaluationProtocol(
        "difference of densities between orders of a set, which is rounding only",
        (
            *("elements", "orders", "log p, nats", "spread, nats", "relative spread"),
            "chain minus joint, nats",
        ),
        _exchangeability,
        by_default=False,
        several=True,
    ),
    "correlation": EvaluationProtocol(
        "latent dimensions that are correlated within a set",
        ("dimensions with", "number", "%"),
        _correlation,
        by_default=False,
    ),
    "latents": EvaluationProtocol(
        "Kolmogorov-Smirnov distance of latent dimensions from their marginal",
        ("images", "median distance", "largest", "critical at 5 %", "% of dimensions above"),
        _latents,
        by_default=False,
    ),
    "robustness": EvaluationProtocol(
        "the trained flow under Gaussian and Student-t processes, with contaminated sets",
        (
            "process",
            "contaminants",
            "accuracy %",
            "chance %",
            "nats per image",
            "nats more than the trained",
        ),
        _robustness,
        applies=lambda subject: (
            not subject.is_conditional
            and subject.dataset.num_classes > 1
            and int(subject.dataset.class_sizes.min()) > 1
        ),
        needs="a model without context and at least 2 classes of at least 2 images each",
        by_default=False,
        several=True,
    ),
    "views": EvaluationProtocol(
        "new views of objects from a few seen ones, by a conditional model",
        ("views given", "nats per view", "bits/dim", "conditioning gain", "without context"),
        _views,
        applies=lambda subject: subject.is_conditional,
        needs="a conditional model",
    ),
    "pose": EvaluationProtocol(
        "angle from which an object is seen, by a conditional model",
        ("views given", "median error, degrees", "at most 20 degrees, %", "margin, nats"),
        _pose,
        applies=lambda subject: (
            subject.is_conditional
            and int(subject.dataset.class_sizes.min()) > 1
            and len(objects_with_unique_pose(subject.dataset)) > 1
        ),
        needs=(
            "a conditional model of an angle and at least 2 objects that are not rotationally "
            "symmetric, of at least 2 views each"
        ),
        several=True,
    ),
}
"""Every protocol there is, in the order in which they are measured."""
