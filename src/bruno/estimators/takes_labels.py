"""Parameters of an estimator of classes, and checks of labelled examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bruno.errors import UserError
from bruno.estimators.base import BrunoEstimator
from bruno.estimators.class_prior import check_prior
from bruno.estimators.labels import checked_labels, kind_of, unknown_label
from bruno.model import Bruno
from bruno.validation import check_choice, check_number, check_positive, check_share, check_whole

_COVARIANCES = ("auto", "shared", "own")


class TakesLabels(BrunoEstimator):
    """An estimator of labelled elements, with all parameters of :class:`~bruno.BrunoClassifier`."""

    class_prior: Any
    covariance: str | Sequence[float]
    unknown_prior: float | None
    temperature: float | str
    window: int | None
    half_life: float | None

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if isinstance(self.covariance, str):
            check_choice("covariance", self.covariance, _COVARIANCES)
        else:
            _check_covariance_prior(self.covariance)
        if self.unknown_prior is not None:
            self._check_unknown_prior()
        if not (isinstance(self.temperature, str) and self.temperature == "auto"):
            check_number(
                "temperature",
                self.temperature,
                "'auto' or a positive number",
                lambda temperature: 0 < temperature < np.inf,
            )
        check_prior(self.class_prior)
        if self.window is not None:
            self._checked_window()
        if self.half_life is not None:
            self._checked_half_life()
        if self.window is not None and self.half_life is not None:
            raise UserError("half_life: expected None beside a window, got both")

    def _check_unknown_prior(self) -> None:
        check_share("unknown_prior", self.unknown_prior, without_zero=True, without_highest=True)

    def _check_not_reserved(self, name: str, classes: np.ndarray) -> None:
        """Raise if the label of rejected elements is also the label of a class."""
        label = unknown_label(kind_of(classes))
        if self.unknown_prior is not None and label in classes.tolist():
            raise UserError(
                f"{name}: expected no class {label!r}, which with unknown_prior stands for none of "
                "the known classes, got it among them"
            )

    def _validated_examples(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        given: Bruno | None = None,
        *,
        reset: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the examples that count, their labels and, if they have some, their weights."""
        if y is None:
            raise UserError(
                f"y: {type(self).__name__} requires y to be passed, but the target y is None"
            )
        x = self._validated(X, given, reset=reset)
        labels = checked_labels(y)
        if len(labels) != len(x):
            raise UserError(
                f"y: expected one class for each of {len(x)} samples, got {len(labels)}; found "
                "input variables with inconsistent numbers of samples"
            )
        if sample_weight is None:
            return x, labels, None
        rows, weight = self._counted(x, sample_weight)
        return x[rows], labels[rows], weight

    def _checked_window(self) -> int:
        check_whole("window", self.window, 1)
        return int(self.window or 0)

    def _checked_half_life(self) -> float:
        check_positive("half_life", self.half_life)
        return float(self.half_life or 0)


def _check_covariance_prior(prior: Any) -> None:
    """Raise if this is no prior of covariances."""
    try:
        values = np.asarray(prior, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(())
    if values.shape != (3,) or not bool(((values > 0) & (values < np.inf)).all()):
        raise UserError(
            f"covariance: expected one of {', '.join(map(repr, _COVARIANCES))}, or the three "
            f"positive numbers of a covariance_prior_, got {prior!r}"
        )
