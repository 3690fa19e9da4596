"""The classes of a classifier: taken from a table, enlarged, forgotten and saved."""

from __future__ import annotations

from functools import reduce
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno.errors import UserError
from bruno.estimators.class_evidence import ClassEvidence, KnownClasses
from bruno.estimators.class_prior import log_prior
from bruno.estimators.encoding import encoded
from bruno.estimators.held_out import (
    Examples,
    calibration_of,
    rejection_of,
    with_covariance,
)
from bruno.estimators.labels import (
    as_array,
    checked_classes,
    common_type,
    kind_of,
    rows_by_label,
)
from bruno.estimators.recent import (
    RecentElements,
    faded,
    of_window,
    weights_by_age,
    with_fading,
)
from bruno.estimators.sharing import updates
from bruno.estimators.takes_labels import TakesLabels
from bruno.estimators.weights import evidence_of, evidence_of_one, weights_beside
from bruno.evidence import Evidence
from bruno.progress import Shown


class LearnsClasses(TakesLabels):
    """An estimator that gathers evidence of classes."""

    label_noise_: float
    temperature_: float
    unknown_intercept_: float
    unknown_slope_: float
    _known: ClassEvidence
    _present: KnownClasses
    _recent: RecentElements | None

    @updates
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Fit the model, unless one is given, and take the examples.

        Args:
            X: Examples, ``(N, D)``; for image models also ``(N, *event)``.
            y: Their classes, ``(N,)``.
            sample_weight: How often each counts, ``(N,)``, as if it were repeated, fractions too;
                by default once. A dense flow, and the calibration of rejection, take each once.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the data or a parameter are invalid; then nothing changes.
        """
        fitted = self._copied()
        fitted._fit(X, y, sample_weight)
        self._become(fitted)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:  # noqa: N803
        """Fit in place, not to be seen by others before it is finished."""
        self._check_parameters()
        given = self._given_model()
        x, labels, weight = self._validated_examples(X, y, sample_weight, given, reset=True)
        classes, indices = np.unique(labels, return_inverse=True)
        self._check_not_reserved("y", classes)
        prior = torch.from_numpy(log_prior(self.class_prior, np.bincount(indices, weight)))
        recipe, z, _ = self._fit_model(x, indices, weight, given, prior)
        truth = torch.from_numpy(indices)
        evidence = evidence_of(z, truth.to(z.device), weights_beside(weight, z))
        examples = with_covariance(
            Examples(x, z, truth, weight, prior, self.model_, recipe, evidence), self.covariance
        )
        if examples.own is not None:
            self._own_prior = examples.own.prior
            self._use(self.model_)
        self._calibrate(examples)
        self._take_first(examples, labels, classes)

    def _take_first(self, examples: Examples, labels: np.ndarray, classes: np.ndarray) -> None:
        """Take the first examples.

        Args:
            examples: The examples.
            labels: Label of each.
            classes: Labels of the classes, ``(K,)``.
        """
        self._recent = None
        if self.window is None and self.half_life is None:
            self._known = ClassEvidence(classes, examples.evidence)
            return
        own, z = self._own, examples.z
        of_rows, weight = examples.classes.to(z.device), weights_beside(examples.weight, z)
        if self.window is not None:
            labels, z = labels[-self.window :], z[-self.window :]
            weight = None if weight is None else weight[-self.window :]
            z, own = self._statistics(z), None
            self._recent = RecentElements((), z[:0]).followed_by(labels, z, weight, self.window)
            z, weight = self._recent.z, self._recent.weight
            of_rows = of_rows[len(of_rows) - len(z) :]
            classes, of_rows = classes[of_rows.unique()], of_rows.unique(return_inverse=True)[1]
        if self.half_life is not None:
            fading = weights_by_age(len(z), self.half_life, z.device)
            weight = fading if weight is None else weight * fading
        self._known = ClassEvidence(classes, evidence_of(z, of_rows, weight, own))

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Take more examples, of known or new classes, in one update each; nothing is retrained.

        The first call is a :meth:`fit`.

        Args:
            X: Examples, ``(N, D)``.
            y: Their classes, ``(N,)``.
            classes: Classes to predict from now on, whether or not there are examples of them.
            sample_weight: How often each counts, ``(N,)``; by default once.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the data are invalid; then nothing changes.
        """
        if classes is None and sample_weight is None and self._observe(X, y):
            return self
        return self._partial_fit(X, y, classes, sample_weight)

    def _observe(self, X: Any, y: Any) -> bool:  # noqa: N803
        """Take one example of a known class in numpy; return whether that could be done."""
        if type(y) is not np.ndarray or y.shape != (1,) or y.dtype.kind not in "biuUS":
            return False
        with self._updating:
            state = self.__dict__
            light = state.get("_light")
            if light is None or "feature_names_in_" in state:
                return False
            if state["_recent"] is not None or self.half_life is not None:
                return False
            z = light.latent(X)
            return z is not None and state["_known"].observe(y.item(), z)

    @updates
    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:  # noqa: N803
        """Take examples of any kind."""
        announced = None if classes is None else checked_classes(classes)
        if not hasattr(self, "model_"):
            fitted = self._copied()
            fitted._fit(X, y, sample_weight)
            if announced is not None:
                fitted._take(fitted._announced(announced, {}), classes=announced)
            self._become(fitted)
            return self
        x, labels, given = self._validated_examples(X, y, sample_weight, reset=False)
        z, _ = encoded(self._exact_model, x)
        weight = weights_beside(given, z)
        if self._recent is not None or self.half_life is not None:
            self._take_latest(self._statistics(z), labels, weight, announced)
            return self
        changed: dict[Any, Evidence | None] = {}
        for label, rows in rows_by_label(labels):
            each = None if weight is None else weight[rows]
            more = evidence_of_one(z[rows], each, self._own)
            changed[label] = self._known[label] + more if label in self._known else more
        if announced is None:
            self._take(changed, y=labels)
        else:
            self._take(changed | self._announced(announced, changed), y=labels, classes=announced)
        return self

    @updates
    def forget(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Remove examples from the evidence, exactly (inverse of ``partial_fit``).

        The model and the scales estimated by ``fit`` do not change. A class without examples is
        removed.

        Args:
            X: Examples that were given before, ``(N, D)``.
            y: Their classes.
            sample_weight: The weights that they were given with, ``(N,)``; by default once.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If a class is unknown, if these cannot have been among its examples, if
                they lie so far from the others that rounding errors would be left, or if nothing
                would be left; then nothing is forgotten. Examples that were never given cannot be
                detected where they are near enough to the others (:meth:`~bruno.Evidence.without`).
        """
        check_is_fitted(self)
        if self.half_life is not None:
            raise UserError("forget: expected half_life=None: no weight of an example is kept")
        x, labels, given = self._validated_examples(X, y, sample_weight, reset=False)
        z, _ = encoded(self._exact_model, x)
        weight = weights_beside(given, z)
        recent = self._recent
        if recent is not None:
            recent = recent.without(labels, self._statistics(z), weight)
        changed: dict[Any, Evidence | None] = {}
        for label, rows in rows_by_label(labels):
            if label not in self._known:
                raise UserError(f"y: expected known classes, got {label!r}")
            each = None if weight is None else weight[rows]
            forgotten = evidence_of_one(z[rows], each, self._own)
            left = self._without(self._known[label], forgotten)
            changed[label] = left if bool((left.counts > 0).any()) else None
        dropped = [label for label, left in changed.items() if left is None]
        if dropped and len(dropped) == len(self._known):
            raise UserError("forget: no class would be left")
        self._recent = recent
        self._known.update(changed)
        return self

    def _statistics(self, z: Tensor) -> Tensor:
        """Return what evidence is gathered of, of latent vectors ``(N, D)``."""
        own = self._own
        return z if own is None else own.statistics(z)

    def _calibrate(self, examples: Examples) -> None:
        """Set the temperature, and the scale of rejection, by examples held out."""
        self.unknown_slope_, self.unknown_intercept_ = 1.0, 0.0
        self.label_noise_ = 0.0
        if self.temperature != "auto":
            self.temperature_ = float(self.temperature)
            return
        generator = torch.Generator("cpu").manual_seed(self._seed())

        def shown(description: str) -> Shown:
            # Each training of a dense flow shows its own progress.
            return iter if examples.once else self._shown(description)

        found = calibration_of(examples, generator, shown("choosing the temperature"))
        self.temperature_, self.label_noise_ = found.temperature, found.label_noise
        if self.unknown_prior is not None:
            self.unknown_slope_, self.unknown_intercept_ = rejection_of(
                examples, found.temperature, generator, shown("leaving classes out")
            )

    def _take_latest(
        self, z: Tensor, labels: np.ndarray, weight: Tensor | None, announced: np.ndarray | None
    ) -> None:
        """Take latent vectors of more examples, and let older ones count less or not at all."""
        known, recent = self._known.now(), self._recent
        if recent is not None:
            recent = recent.followed_by(labels, z, weight, self._checked_window())
            changed = of_window(known, recent)
        else:
            changed = with_fading(known, labels, z, weight, self._checked_half_life())
        of_new = {"y": labels}
        if announced is not None:
            changed |= self._announced(announced, changed)
            of_new["classes"] = announced
        self._recent = recent
        self._take(changed, **of_new)

    def _announced(
        self, classes: np.ndarray, changed: dict[Any, Evidence | None]
    ) -> dict[Any, Evidence | None]:
        """Return empty evidence of the classes without evidence."""
        nothing = Evidence.empty(self._process.dim, device=self.model_.process.loc.device)
        if self.half_life is not None:
            nothing = faded(nothing, 0, self._checked_half_life())
        return {
            label: nothing
            for label in classes.tolist()
            if label not in self._known and label not in changed
        }

    def _take(self, changed: dict[Any, Evidence | None], **labels: np.ndarray) -> None:
        """Take the evidence of known and of new classes.

        Args:
            changed: Their evidence.
            labels: The arrays that the labels of new ones come from, by argument.

        Raises:
            UserError: If the new ones are of another type, or have the label of rejected elements;
                then nothing changes.
        """
        if all(label in self._known for label in changed):
            self._known.update(changed)
            return
        kind = self._known.kind
        for name, more in labels.items():
            if kind_of(more) != kind:
                raise UserError(
                    f"{name}: expected {kind}, as the classes known, got {kind_of(more)}"
                )
            self._check_not_reserved(name, more)
        self._known.update(changed, reduce(common_type, (more.dtype for more in labels.values())))

    def _all_evidence(self) -> Evidence:
        return self._present.evidence

    def _recent_elements(self) -> Tensor | None:
        return None if self._recent is None else self._recent.z

    def _state(self) -> dict[str, Any]:
        classes = self._present.labels
        weights = None if self._recent is None else self._recent.weight
        return super()._state() | {
            "classes_": classes.tolist(),
            "classes_dtype": classes.dtype.str,
            "recent_labels": None if self._recent is None else list(self._recent.labels),
            "recent_weights": None if weights is None else weights.tolist(),
            "temperature_": self.temperature_,
            "label_noise_": self.label_noise_,
            "unknown_intercept_": self.unknown_intercept_,
            "unknown_slope_": self.unknown_slope_,
        }

    def _restore(self, state: dict[str, Any], evidence: Evidence, recent: Tensor | None) -> None:
        super()._restore(state, evidence, recent)
        classes = as_array(state["classes_"], np.dtype(state["classes_dtype"]))
        self._known = ClassEvidence(classes, evidence)
        self._recent = None
        if recent is not None:
            kept = state.get("recent_weights")  # missing in earlier files
            weights = None if kept is None else recent.new_tensor(kept)
            self._recent = RecentElements(tuple(state["recent_labels"]), recent, weights)
        self.temperature_ = state["temperature_"]
        self.label_noise_ = state.get("label_noise_", 0.0)  # missing in earlier files
        self.unknown_intercept_ = state["unknown_intercept_"]
        self.unknown_slope_ = state["unknown_slope_"]
