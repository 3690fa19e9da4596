"""Every protocol by name, and several of them run on one model and one data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bruno.data.context import ContextFeature, check_same_features
from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise, sample_sets
from bruno.errors import UserError
from bruno.evaluation.anomaly import set_anomalies
from bruno.evaluation.encoding import encode_rotations
from bruno.evaluation.few_shot import few_shot_accuracy
from bruno.evaluation.generation import JUDGED_SPLIT, Judge, generation
from bruno.evaluation.order_invariance import exchangeability
from bruno.evaluation.pose_estimation import objects_with_unique_pose, pose
from bruno.evaluation.set_likelihood import likelihood
from bruno.evaluation.streams import Stream
from bruno.evaluation.trials import check_trials
from bruno.evaluation.views import check_conditional, check_unconditional, novel_views
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for

_WAYS, _SHOTS = (5, 20), (1, 5)
_VIEWS_GIVEN, _POSE_VIEWS_GIVEN = (0, 1, 2, 4, 8, 16), (1, 4, 16)
_TARGET_VIEWS, _VIEW_SAMPLES = 4, 64
_PERMUTED_SETS, _PERMUTATIONS = 5, 20
_EXAMPLES_GIVEN, _JUDGED_WAY = (1, 5, 10), 20


class Result(Protocol):
    """Result of a protocol: figures for programs and rows of a table for people."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""

    def rows(self) -> list[list[str]]:
        """Return rows of text below the header of the protocol."""


@dataclass(frozen=True)
class Subject:
    """The model that is measured, its data and its competitors.

    Attributes:
        model: The model.
        dataset: Images of classes it was not trained on.
        training: The images it was trained on, for competitors of conditional models; ``None``
            leaves these out.
        unconditional: A model of the same images without context, as a competitor.
        judge: Names samples; needed for generation.
    """

    model: Bruno
    dataset: LabelledImages
    training: LabelledImages | None = None
    unconditional: Bruno | None = None
    judge: Judge | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether the model takes a context."""
        return self.model.flow.context_dim > 0


@dataclass(frozen=True)
class Settings:
    """Settings of the protocols.

    Attributes:
        ways: Numbers of classes to choose from; by default 5 and 20, if there are enough classes.
        shots: Numbers of examples per class; by default 1 and 5, if there are enough images.
        trials: How often every class is queried.
        rotations: Count each class in four rotations, in few-shot classification.
        set_size: Images in a set; fewer where the smallest class has fewer.
        sets_per_class: Number of sets of every class whose likelihood is measured.
        importance_samples: Noise draws of the importance-weighted likelihood; 0 leaves it out.
        seed: Seed of sets, episodes and noise.
    """

    ways: tuple[int, ...] | None = None
    shots: tuple[int, ...] | None = None
    trials: int = 20
    rotations: bool = False
    set_size: int = 20
    sets_per_class: int = 1
    importance_samples: int = 0
    seed: int = 0


@dataclass(frozen=True)
class EvaluationProtocol:
    """A way to measure a model.

    Attributes:
        summary: One line for lists of protocols.
        header: Names of the columns of its rows.
        measure: Returns the results, given the subject, the settings and a progress callback.
        applies: Whether it can be measured on a subject at all.
        by_default: Whether it is measured where nobody chooses.
        several: Whether it has a list of results, not one.
    """

    summary: str
    header: tuple[str, ...]
    measure: Callable[[Subject, Settings, ProgressCallback | None], Sequence[Result]]
    applies: Callable[[Subject], bool] = lambda _: True
    by_default: bool = True
    several: bool = False


def _likelihood(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    model, dataset = subject.model, subject.dataset
    result = likelihood(
        model,
        dataset,
        set_size=min(settings.set_size, int(dataset.class_sizes.min())),
        sets=settings.sets_per_class * dataset.num_classes,
        seed=settings.seed,
        importance_samples=settings.importance_samples,
        progress=progress,
    )
    return [result]


def _few_shot(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    model, dataset = subject.model, subject.dataset
    episodes = [
        (way, shot) for way in _ways(subject, settings) for shot in _shots(subject, settings)
    ]
    for way, shot in episodes:
        check_trials(dataset, way, shot, settings.trials)
    encoded = encode_rotations(model, dataset, rotations=settings.rotations, progress=progress)
    return [
        few_shot_accuracy(
            model,
            dataset,
            way=way,
            shot=shot,
            rotations=settings.rotations,
            trials=settings.trials,
            seed=settings.seed,
            encoded=encoded,
            progress=progress,
        )
        for way, shot in episodes
    ]


def _ways(subject: Subject, settings: Settings) -> Sequence[int]:
    classes = subject.dataset.num_classes
    return settings.ways or [way for way in _WAYS if way <= classes] or [classes]


def _shots(subject: Subject, settings: Settings) -> Sequence[int]:
    smallest = int(subject.dataset.class_sizes.min())
    return settings.shots or [shot for shot in _SHOTS if shot < smallest] or [1]


def _anomalies(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    size = min(settings.set_size, int(subject.dataset.class_sizes.min()))
    return [
        set_anomalies(
            subject.model, subject.dataset, set_size=size, seed=settings.seed, progress=progress
        )
    ]


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
        training=subject.training,
        seed=settings.seed,
        progress=progress,
    )


def _exchangeability(
    subject: Subject, settings: Settings, progress: ProgressCallback | None
) -> Sequence[Result]:
    model, dataset = subject.model, subject.dataset
    generator = generator_for(settings.seed, Stream.EXCHANGEABILITY)
    sets = sample_sets(
        dataset,
        min(_PERMUTED_SETS, dataset.num_classes),
        min(settings.set_size, int(dataset.class_sizes.min())),
        generator,
    )
    device = model.device
    results = []
    for index, images in enumerate(sets.images):
        context = None if sets.context is None else sets.context[index].to(device)
        x = dequantise(images, generator).to(device)
        results.append(exchangeability(model, x, _PERMUTATIONS, generator, context))
        if progress is not None:
            progress("orders of a set", index + 1, len(sets.images))
    return results


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
        samples=_VIEW_SAMPLES,
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
        ("episodes", "accuracy %", "decisions"),
        _few_shot,
        applies=lambda subject: not subject.is_conditional,
        several=True,
    ),
    "anomalies": EvaluationProtocol(
        "detection of images of other classes in a set",
        ("anomalies in a set of", "AUROC", "average precision", "sets"),
        _anomalies,
        applies=lambda subject: not subject.is_conditional and subject.dataset.num_classes > 1,
        by_default=False,
    ),
    "generation": EvaluationProtocol(
        "share of samples given a few examples that a judge names as their class",
        (
            *("examples given", "latent scale", "judged right %", "real images %"),
            *("variance", "spread", "nearest given", "nearest training"),
        ),
        _generation,
        applies=lambda subject: (
            not subject.is_conditional
            and int(subject.dataset.class_sizes.min()) > sum(JUDGED_SPLIT)
        ),
        by_default=False,
        several=True,
    ),
    "exchangeability": EvaluationProtocol(
        "difference of densities between orders of a set, which is rounding only",
        ("elements", "orders", "log p, nats", "relative spread", "chain minus joint, nats"),
        _exchangeability,
        by_default=False,
        several=True,
    ),
    "views": EvaluationProtocol(
        "new views of objects from a few seen ones, by a conditional model",
        ("views given", "nats per view", "bits/dim", "conditioning gain", "without context"),
        _views,
        applies=lambda subject: subject.is_conditional,
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
        several=True,
    ),
}
"""Every protocol there is, in the order in which they are measured."""


@dataclass(frozen=True)
class Evaluation:
    """Results of several protocols.

    Attributes:
        results: Results by name of the protocol.
        dataset: Data set and split, such as ``"omniglot/test"``.
        seed: Seed of sets, episodes and noise.
        seconds: Wall-clock time they took.
    """

    results: Mapping[str, tuple[Result, ...]]
    dataset: str
    seed: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        figures: dict[str, Any] = {}
        for name, results in self.results.items():
            listed = [result.to_dict() for result in results]
            figures[name] = listed if PROTOCOLS[name].several else listed[0]
        return {**figures, "seconds": round(self.seconds, 1)}


def evaluate(
    subject: Subject,
    settings: Settings,
    *,
    protocols: Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Measure a model by several protocols.

    Args:
        subject: The model and its data.
        settings: Settings of the protocols.
        protocols: Names from :data:`PROTOCOLS`; by default those that apply to the model and the
            data and are measured by default.
        progress: Told the stage and how much of it is done.

    Returns:
        The results of every protocol.

    Raises:
        UserError: If a protocol is unknown or does not apply, or a setting does not fit the data.
    """
    chosen = _chosen(subject, protocols)
    start = time.perf_counter()
    results = {name: tuple(PROTOCOLS[name].measure(subject, settings, progress)) for name in chosen}
    return Evaluation(
        results,
        f"{subject.dataset.name}/{subject.dataset.split}",
        settings.seed,
        time.perf_counter() - start,
    )


def check_subject(subject: Subject, features: Sequence[ContextFeature] = ()) -> None:
    """Raise if a model cannot be measured on a data set.

    Args:
        subject: The model and the data.
        features: The context features the model was trained with, where they are known.

    Raises:
        UserError: If shapes or context features do not agree.
    """
    model, dataset = subject.model, subject.dataset
    if dataset.event_shape != model.event_shape:
        raise UserError(
            f"data: expected images of shape {model.event_shape}, which the model takes, got "
            f"{dataset.event_shape} from {dataset.name}"
        )
    if subject.unconditional is not None:
        if not subject.is_conditional:
            raise UserError("unconditional: expected a conditional model to compare with")
        check_unconditional(subject.unconditional, dataset)
    if subject.is_conditional:
        check_conditional(model, dataset)
        if features:
            source = f"{dataset.name}/{dataset.split}"
            check_same_features("data", source, dataset.context_features, features)


def _chosen(subject: Subject, names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [
            name
            for name, protocol in PROTOCOLS.items()
            if protocol.by_default and protocol.applies(subject)
        ]
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(f"protocols: expected some of {', '.join(PROTOCOLS)}, got {name!r}")
        if not PROTOCOLS[name].applies(subject):
            kind = "a conditional" if subject.is_conditional else "an unconditional"
            raise UserError(
                f"protocols: {name!r} does not apply to {kind} model on "
                f"{subject.dataset.name}/{subject.dataset.split}"
            )
    return [name for name in PROTOCOLS if name in names]
