"""A classifier of streams for river: one example at a time, forwards and backwards."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from bruno.estimators.classifier import BrunoClassifier
from bruno.lazy import missing_extra
from bruno.validation import check_whole

try:
    from river import base
except ModuleNotFoundError as error:
    needs = missing_extra(error)
    if needs is None:
        raise
    raise ModuleNotFoundError(f"bruno.river {needs}", name=error.name) from None

Features = dict[Hashable, Any]
"""Numbers by the name of the feature."""


class BrunoRiverClassifier(base.Classifier):
    """:class:`~bruno.BrunoClassifier` behind the interface of river.

    The first examples are kept; when there are ``warm_up`` of them the map is fitted to them, and
    from then on every example is one update. Before that, the probability of a class is its share
    of the examples. The features are those of the first examples: others are ignored, and one that
    is missing is replaced by its mean there.

    Args:
        warm_up: Number of examples that the map is fitted to.
        window: As for :class:`~bruno.BrunoClassifier`: how many of the latest examples count.
        half_life: As there: after how many examples one counts half.
        process: As there.
        flow: As there.
        class_prior: As there.
        seed: Seed of the fit.

    Example:
        >>> from river import datasets
        >>> model = BrunoRiverClassifier(warm_up=50)
        >>> for x, y in datasets.Phishing().take(200):
        ...     model.learn_one(x, y)
        >>> model.unlearn_one(x, y)
        >>> sorted(model.predict_proba_one(x))
        [False, True]
    """

    def __init__(
        self,
        warm_up: int = 100,
        window: int | None = None,
        half_life: float | None = None,
        process: str = "auto",
        flow: str | None = None,
        class_prior: str = "uniform",
        seed: int | None = None,
    ) -> None:
        check_whole("warm_up", warm_up, 1)
        self.warm_up = warm_up
        self.window = window
        self.half_life = half_life
        self.process = process
        self.flow = flow
        self.class_prior = class_prior
        self.seed = seed
        self._first: list[tuple[Features, Any]] = []
        self._mean: dict[Hashable, float] = {}
        self._classifier: BrunoClassifier | None = None

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: Features, y: Any) -> None:
        """Take one more example.

        Args:
            x: Numbers by feature.
            y: Its class.

        Raises:
            ValueError: If a feature is no finite number, or the class of another kind than others.
        """
        if self._classifier is not None:
            self._classifier.partial_fit(self._row(x), np.array([y]))
            return
        self._first.append((dict(x), y))
        if len(self._first) >= self.warm_up:
            self._fit()

    def unlearn_one(self, x: Features, y: Any) -> None:
        """Remove an example exactly, as if it had never come; the map stays.

        Args:
            x: Numbers by feature.
            y: Its class.

        Raises:
            ValueError: If it cannot have been among the examples, or is the last of all.
        """
        if self._classifier is not None:
            self._classifier.forget(self._row(x), np.array([y]))
        else:
            self._first.remove((x, y))

    def predict_proba_one(self, x: Features, **kwargs: Any) -> dict[Any, float]:  # noqa: ARG002
        """Return the probability of every class seen so far.

        Args:
            x: Numbers by feature.
            kwargs: Ignored.
        """
        if self._classifier is None:
            labels = [y for _, y in self._first]
            return {label: labels.count(label) / len(labels) for label in dict.fromkeys(labels)}
        proba = self._classifier.predict_proba(self._row(x))[0]
        return dict(zip(self._classifier.classes_.tolist(), proba.tolist(), strict=True))

    def _fit(self) -> None:
        """Fit the map to the first examples, and keep them no longer."""
        names = dict.fromkeys(name for x, _ in self._first for name in x)
        for name in sorted(names, key=repr):
            self._mean[name] = float(np.mean([x[name] for x, _ in self._first if name in x]))
        classifier = BrunoClassifier(
            process=self.process,
            flow=self.flow,
            class_prior=self.class_prior,
            window=self.window,
            half_life=self.half_life,
            random_state=self.seed,
        )
        rows = np.concatenate([self._row(x) for x, _ in self._first])
        self._classifier = classifier.fit(rows, np.array([y for _, y in self._first]))
        self._first = []

    def _row(self, x: Features) -> np.ndarray:
        """Return the features in their order, as a table of one row."""
        return np.array([[x.get(name, mean) for name, mean in self._mean.items()]], dtype=float)
