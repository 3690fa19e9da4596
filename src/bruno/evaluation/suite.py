"""Several evaluation protocols run on one model and one data set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bruno.data.context import ContextFeature, check_same_features
from bruno.errors import UserError
from bruno.evaluation.protocols import PROTOCOLS, EvaluationProtocol
from bruno.evaluation.subject import Result, Settings, Subject
from bruno.evaluation.views import check_conditional, check_unconditional
from bruno.progress import ProgressCallback

__all__ = [
    "ALL",
    "PROTOCOLS",
    "Evaluation",
    "EvaluationProtocol",
    "Result",
    "Settings",
    "Subject",
    "check_subject",
    "evaluate",
]

ALL = "all"
"""Name that stands for every protocol that applies."""


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
        protocols: Names from :data:`PROTOCOLS`, or :data:`ALL` for those that apply (generation
            only with a judge); by default those that apply and are measured by default.
        progress: Told the stage and how much of it is done.

    Returns:
        The results of every protocol.

    Raises:
        UserError: If a protocol is unknown or does not apply, a setting does not fit the data, or
            the data do not fit the model.
    """
    check_subject(subject)
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
    if isinstance(names, str):
        raise UserError(f"protocols: expected a list of names, got {names!r}")
    if ALL in names:
        return [
            name
            for name, protocol in PROTOCOLS.items()
            if protocol.applies(subject) and (name != "generation" or subject.judge is not None)
        ]
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(
                f"protocols: expected {ALL} or some of {', '.join(PROTOCOLS)}, got {name!r}"
            )
        if not PROTOCOLS[name].applies(subject):
            raise UserError(_reason(name, subject))
    return [name for name in PROTOCOLS if name in names]


def _reason(name: str, subject: Subject) -> str:
    """Return why a protocol does not apply."""
    dataset = subject.dataset
    kind = "a conditional model" if subject.is_conditional else "a model without context"
    smallest = int(dataset.class_sizes.argmin())
    size = int(dataset.class_sizes[smallest])
    return (
        f"protocols: {name!r} needs {PROTOCOLS[name].needs}; got {kind}, and in "
        f"{dataset.name}/{dataset.split} {dataset.num_classes} class"
        f"{'es' * (dataset.num_classes > 1)}, of which {dataset.class_names[smallest]!r} has the "
        f"fewest images, {size}"
    )
