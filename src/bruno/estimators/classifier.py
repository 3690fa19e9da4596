"""A classifier that takes new examples and new classes without retraining, and forgets exactly."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno import chunks
from bruno.errors import UserError
from bruno.estimators.base import BrunoEstimator
from bruno.estimators.calibration import (
    ClassCalibration,
    Score,
    choose_calibration,
    cross_validated,
    fit_platt_scaling,
    log_odds_unknown,
    with_label_noise,
    with_rejection,
)
from bruno.estimators.class_evidence import ClassEvidence, KnownClasses
from bruno.estimators.class_prior import check_prior, log_prior
from bruno.estimators.encoding import TooFarError, encoded
from bruno.estimators.labels import (
    as_array,
    checked_classes,
    checked_labels,
    common_type,
    kind_of,
    rows_by_label,
    unknown_label,
    with_unknown,
)
from bruno.estimators.leave_one_out import leave_one_out
from bruno.estimators.recent import RecentElements, faded, weighted_by_class
from bruno.estimators.selection import FEWEST_EXAMPLES, spread
from bruno.estimators.sharing import reads, updates
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.validation import check_number, check_positive, check_share, check_whole

# Elements scored at once, however many classes there are: the evidence of very many classes takes
# more memory than their scores.
_FEWEST_AT_ONCE = 256
# With fewer examples for every feature, the map is held out, too, by fitting it again.
_ENOUGH_ROWS = 2
# More examples do not change the temperature.
_MOST_HELD_OUT = 5000


class BrunoClassifier(ClassifierMixin, BrunoEstimator):
    r"""Classify by the exact predictive density of each class given its examples.

    :math:`p(c | x) \propto p(c) \, p(x | x^c_1..x^c_n)`, with the predictive of an exchangeable
    process (Korshunova et al., *BRUNO*, NeurIPS 2018, section 3) in the latent space of an
    invertible map. A class is represented by the count, mean and scatter of its examples there, so
    one more example, or one more class, costs one update of these, and forgetting reverses it.

    Args:
        model: A pretrained :class:`~bruno.Bruno`, its directory or name (``"omniglot"``, for rows
            of 784 grey levels); the estimator works on a copy. By default a model is fitted to the
            classes given to ``fit``, and then is not changed by later examples and
            classes. The parameters ``process``, ``flow``, ``scale`` and ``steps``
            are for that; a model that is given has a process and a flow, and conflicting ones are
            refused.
        process: ``student_t``, which also learns from the examples of a class how much that class
            varies, or ``gaussian``, which scores many elements against many classes some fifty
            times faster. ``auto`` chooses by the log-loss of examples that are held out one at a
            time, in closed form; ``student_t`` where there are fewer examples than features.
        flow: How to reach the latent space: ``affine``, standardisation and a linear map (the
            two-covariance model) of all features, or, of N examples with at least 4 N features,
            of their span, in O(D · N) for an example; ``diagonal``, standardisation only, in O(D);
            ``dense``, a dense Real NVP trained on the classes as sets. By default ``affine`` where
            there are at most 1024 features, or at most 1024 examples that span little; else
            ``diagonal``.
        marginal_map: ``yeo_johnson``, a power map of every feature in front of the others, for
            skewed features; None for none; ``auto`` chooses likewise, and none with fewer than ten
            examples. Densities remain those of the data as given.
        scale: ``per_feature`` where every feature has a unit of its own, as in most tables, or
            ``global`` where all have the same, as pixels and embeddings have: one global scale
            keeps low-variance features small. ``auto`` chooses ``global`` unless some feature
            varies ten times as much as the median one, or ten times less and apart from the others.
            With ``flow="dense"`` it decides how much noise each feature is trained with.
        class_prior: ``uniform``, ``empirical`` (shares of the examples seen), or one probability
            for each of ``classes_``.
        unknown_prior: Prior probability, between 0 and 1, that an element is of none of the known
            classes; its density is then that of the first element of an unknown class, and
            probabilities have a column more than ``classes_``. By default everything is of a known
            class.
        temperature: Divisor of log-densities in the softmax of class probabilities; ``auto``
            chooses it in ``fit``, by examples that are held out one at a time, in closed form
            (with fewer than two examples for every feature by cross-validation), and with
            ``unknown_prior`` also ``unknown_slope_`` and ``unknown_intercept_``, by leaving
            classes out, too. With ``flow="dense"`` each of the two trains three more flows.
            Densities are not changed.
        window: How many of the latest examples count, for classes that change with time: when
            ``partial_fit`` takes one more, the oldest is forgotten. Their latent vectors are kept
            for that. By default all examples count.
        half_life: Number of examples, of all classes, after which an example counts half: older
            evidence fades, and no example is kept. Then nothing can be forgotten by ``forget``.
        steps: Steps of training with ``flow="dense"``.
        device: ``auto``, ``cpu`` or ``cuda``.
        random_state: Seed of folds, of training and of samples.
        verbose: Whether to show, on a terminal, the progress of what takes more than two seconds.

    Attributes:
        classes_: The known classes, sorted, ``(K,)``.
        evidence_: Their evidence, an :class:`~bruno.Evidence` of batch shape ``(K,)``; a
            copy.
        model_: The model.
        flow_: The flow that was chosen; None if a model was given.
        scale_: The scale that was chosen; None if a model was given.
        process_: The process that was chosen, or that of a given model.
        marginal_map_: The map of every feature that was chosen, or None.
        prior_strength_: Pseudo-observations of the prior of the covariance within classes, that
            were chosen; None for a model that was given or trained.
        temperature_: The temperature.
        label_noise_: Probability that a label is drawn from the prior of the classes, whatever the
            element is; chosen with the temperature, 0 where that is a number.
        unknown_slope_: With ``unknown_prior``, the log-odds of none of the known classes are
            ``unknown_slope_`` · r + ``unknown_intercept_`` + log(p / (1 − p)) with p =
            ``unknown_prior``, where r is log p(x | an unknown class) − log p(x | the known
            classes), tempered, in nats.
        unknown_intercept_: See there. The slope is 1 and the intercept 0 where ``fit`` had no
            ``unknown_prior``, a ``temperature`` that is a number, fewer than three classes, or
            fewer than three examples of some class.
        unknown_label_: Prediction for an element of none of the known classes: −1, or
            ``"unknown"`` where classes are strings. With ``unknown_prior`` no class may be called
            that.
        n_features_in_: Number of features.
        feature_names_in_: Their names, if the table had some.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> classifier = BrunoClassifier().fit(X[y < 2], y[y < 2])
        >>> _ = classifier.partial_fit(X[100:103], y[100:103])  # a new class, from three examples
        >>> classifier.classes_
        array([0, 1, 2])
        >>> bool(classifier.score(X, y) > 0.85)
        True
    """

    label_noise_: float
    temperature_: float
    unknown_intercept_: float
    unknown_slope_: float
    _known: ClassEvidence
    _present: KnownClasses
    _recent: RecentElements | None

    def __init__(
        self,
        model: Bruno | str | Path | None = None,
        process: str = "auto",
        flow: str | None = None,
        marginal_map: str | None = "auto",
        scale: str = "auto",
        class_prior: Any = "uniform",
        unknown_prior: float | None = None,
        temperature: float | str = "auto",
        window: int | None = None,
        half_life: float | None = None,
        steps: int = 400,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.process = process
        self.flow = flow
        self.marginal_map = marginal_map
        self.scale = scale
        self.class_prior = class_prior
        self.unknown_prior = unknown_prior
        self.temperature = temperature
        self.window = window
        self.half_life = half_life
        self.steps = steps
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @updates
    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Fit the model, unless one is given, and take the examples.

        Args:
            X: Examples, ``(N, D)``; for image models also ``(N, *event)``.
            y: Their classes, ``(N,)``.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the data or a parameter are invalid; then nothing changes.
        """
        fitted = self._copied()
        fitted._fit(X, y)
        self._become(fitted)
        return self

    def _fit(self, X: Any, y: Any) -> None:  # noqa: N803
        """Fit in place, not to be seen by others before it is finished."""
        self._check_parameters()
        given = self._given_model()
        x, labels = self._validated_pair(X, y, given, reset=True)
        classes, indices = np.unique(labels, return_inverse=True)
        self._check_not_reserved("y", classes)
        prior = torch.from_numpy(log_prior(self.class_prior, np.bincount(indices)))
        self._choose(x, indices, given, prior)
        model = self._fitted_model(x, indices) if given is None else given
        truth = torch.from_numpy(indices)
        self._use(model)
        z, _ = encoded(self._exact_model, x)
        self._calibrate(x, z, truth, given, prior)
        of_rows = truth.to(z.device)
        self._recent = None
        if self.window is not None:
            self._recent = RecentElements((), z[:0]).followed_by(labels, z, self.window)
            latest = slice(max(0, len(z) - self.window), None)
            z, of_rows = z[latest], of_rows[latest]
            classes, of_rows = classes[of_rows.unique()], of_rows.unique(return_inverse=True)[1]
        evidence = Evidence.by_class(z, of_rows)
        if self.half_life is not None:
            ages = torch.arange(len(z) - 1, -1, -1, dtype=torch.float64, device=z.device)
            evidence = weighted_by_class(z, of_rows, 0.5 ** (ages / self.half_life))
        self._known = ClassEvidence(classes, evidence)

    @updates
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:  # noqa: N803
        """Take more examples, of known or new classes, in one update each; nothing is retrained.

        The first call is a :meth:`fit`.

        Args:
            X: Examples, ``(N, D)``.
            y: Their classes, ``(N,)``.
            classes: Classes to predict from now on, whether or not there are examples of them.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the data are invalid; then nothing changes.
        """
        announced = None if classes is None else checked_classes(classes)
        if not hasattr(self, "model_"):
            fitted = self._copied()
            fitted._fit(X, y)
            if announced is not None:
                fitted._take(fitted._announced(announced, {}), classes=announced)
            self._become(fitted)
            return self
        x, labels = self._validated_pair(X, y, reset=False)
        z, _ = encoded(self._exact_model, x)
        if self._recent is not None or self.half_life is not None:
            self._take_and_fade(z, labels, announced)
            return self
        if len(z) == 1 and announced is None and (label := labels.item()) in self._known:
            self._known.observe(label, z[0])
            return self
        changed: dict[Any, Evidence | None] = {}
        for label, rows in rows_by_label(labels):
            more = Evidence.of(z[rows])
            changed[label] = self._known[label] + more if label in self._known else more
        if announced is None:
            self._take(changed, y=labels)
        else:
            self._take(changed | self._announced(announced, changed), y=labels, classes=announced)
        return self

    @updates
    def forget(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Remove examples from the evidence, exactly (inverse of ``partial_fit``).

        The model and the scales estimated by ``fit`` do not change. A class without examples is
        removed.

        Args:
            X: Examples that were given before, ``(N, D)``.
            y: Their classes.

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
        x, labels = self._validated_pair(X, y, reset=False)
        z, _ = encoded(self._exact_model, x)
        recent = None if self._recent is None else self._recent.without(labels, z)
        changed: dict[Any, Evidence | None] = {}
        for label, rows in rows_by_label(labels):
            if label not in self._known:
                raise UserError(f"y: expected known classes, got {label!r}")
            left = self._without(self._known[label], Evidence.of(z[rows]))
            changed[label] = left if int(left.count) else None
        dropped = [label for label, left in changed.items() if left is None]
        if dropped and len(dropped) == len(self._known):
            raise UserError("forget: no class would be left")
        self._recent = recent
        self._known.update(changed)
        return self

    @reads
    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable class of every element, ``(N,)``."""
        check_is_fitted(self)
        names = self._names()
        best = [scores.argmax(1).cpu().numpy() for scores in self._log_proba_of_parts(X)]
        labels: np.ndarray = names[np.concatenate(best)]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of every class, ``(N, K)``.

        With ``unknown_prior`` a last column is for none of the known classes.
        """
        probabilities: np.ndarray = np.exp(self.predict_log_proba(X))
        return probabilities

    @reads
    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return logarithms of :meth:`predict_proba`.

        Columns are as ``classes_``; with ``unknown_prior`` a last one is for none of the known
        classes.
        """
        parts = [scores.cpu().numpy() for scores in self._log_proba_of_parts(X)]
        log_proba: np.ndarray = np.concatenate(parts)
        return log_proba

    def _log_proba_of_parts(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        """Yield log p(class | x) of some elements after the other: ``(n, K)`` each.

        With ``unknown_prior`` there is a last column for none of the known classes.
        """
        check_is_fitted(self)
        z, _ = encoded(self.model_, self._validated(X, reset=False))
        process, evidence = self.model_.process, self._present.evidence
        prior = log_prior(self.class_prior, evidence.count.cpu().numpy())
        if self.unknown_prior is not None:
            self._check_unknown_prior()
            self._check_not_reserved("unknown_prior", self._present.labels)
        widest = max(len(evidence.count), z.shape[1])
        parts = z.split(max(_FEWEST_AT_ONCE, chunks.rows_per_chunk(widest, chunks.TABLE_ELEMENTS)))
        for part in self._shown("scoring")(parts):
            scores = process.log_prob_given(part, evidence)
            shares = torch.from_numpy(prior).to(scores)
            scores = scores / self.temperature_ + shares
            if self.unknown_prior is None:
                yield with_label_noise(scores, shares, self.label_noise_)
            else:
                of_none = process.log_prob(part.unsqueeze(1)) / self.temperature_
                scale = self.unknown_slope_, self.unknown_intercept_
                noise = shares, self.label_noise_
                yield with_rejection(scores, of_none, *scale, self.unknown_prior, *noise)

    @reads
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log p(x) of elements of an unknown class, in nats, ``(N,)``."""
        check_is_fitted(self)
        z, log_det = encoded(self.model_, self._validated(X, reset=False))
        log_prob = self.model_.process.log_prob(z.unsqueeze(1)) + log_det
        scores: np.ndarray = log_prob.cpu().numpy()
        return scores

    @reads
    def sample(self, label: Any, n: int = 1, random_state: Any = None) -> np.ndarray:
        """Return ``n`` new elements of a known class, ``(n, D)``.

        Of a model of images these are grey levels, in uint8.

        Args:
            label: One of ``classes_``.
            n: How many.
            random_state: Seed; by default the estimator's.

        Raises:
            ValueError: If the class is unknown, or ``n`` is no number of elements.
        """
        check_is_fitted(self)
        labels = self._present.labels.tolist()
        if not isinstance(label, Hashable) or label not in labels:
            raise UserError(f"label: expected one of {labels}, got {label!r}")
        seed = self.random_state if random_state is None else random_state
        return self._drawn(self._present.evidence[labels.index(label)], n, seed)

    @property
    def classes_(self) -> np.ndarray:
        """The known classes, sorted, ``(K,)``; a copy."""
        check_is_fitted(self)
        return self._known.now().labels.copy()

    @property
    def evidence_(self) -> Evidence:
        """Evidence of the classes, of batch shape ``(K,)``; a copy."""
        check_is_fitted(self)
        known = self._known.now().evidence
        return Evidence(known.count.clone(), known.mean.clone(), known.scatter.clone())

    @property
    def unknown_label_(self) -> Any:
        """Prediction for elements of none of the known classes."""
        check_is_fitted(self)
        return unknown_label(self._known.kind)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return state | ({"_known": copy.copy(state["_known"])} if "_known" in state else {})

    def _as_it_is(self) -> Self:
        copied = self._copied()
        if "_known" in copied.__dict__:
            copied._present = copied._known.now()
        return copied

    def _names(self) -> np.ndarray:
        """Return the classes of the columns of probabilities."""
        classes = self._present.labels
        if self.unknown_prior is None:
            return classes.copy()
        return with_unknown(classes)

    def _check_parameters(self) -> None:
        super()._check_parameters()
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

    def _validated_pair(
        self,
        X: Any,  # noqa: N803
        y: Any,
        given: Bruno | None = None,
        *,
        reset: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
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
        return x, labels

    def _calibrate(
        self, x: np.ndarray, z: Tensor, truth: Tensor, given: Bruno | None, prior: Tensor
    ) -> None:
        """Set the temperature, and the scale of rejection, by examples held out."""
        self.unknown_slope_, self.unknown_intercept_ = 1.0, 0.0
        self.label_noise_ = 0.0
        if self.temperature != "auto":
            self.temperature_ = float(self.temperature)
            return
        score = self._score_held_out(x, z, truth, given)
        generator = torch.Generator("cpu").manual_seed(self._seed())
        once = self.flow_ == "dense"
        start = 1.0 if given is not None else self._starting_temperature(x)
        calibration = ClassCalibration(start)
        if given is None and (once or len(x) < _ENOUGH_ROWS * x.shape[1]):
            # Held out, an element may be too far from all others to have a density.
            with suppress(TooFarError):
                # Each training of a dense flow shows its own progress.
                shown = iter if once else self._shown("choosing the temperature")
                log_joint = cross_validated(score, truth, generator, once=once, shown=shown)
                calibration = choose_calibration(log_joint, truth, start, prior)
        else:
            calibration = self._calibrated_by_leave_one_out(x, z, truth, start, prior)
        self.temperature_, self.label_noise_ = calibration.temperature, calibration.label_noise
        if self.unknown_prior is not None:
            with suppress(TooFarError):
                shown = iter if once else self._shown("leaving classes out")
                ratios = log_odds_unknown(
                    score, truth, prior, self.temperature_, generator, once=once, shown=shown
                )
                self.unknown_slope_, self.unknown_intercept_ = fit_platt_scaling(*ratios)

    def _calibrated_by_leave_one_out(
        self, x: np.ndarray, z: Tensor, truth: Tensor, start: float, prior: Tensor
    ) -> ClassCalibration:
        """Return the calibration by examples that are held out one at a time, in closed form."""
        rows = spread(torch.from_numpy(x), truth, _MOST_HELD_OUT)
        rows = rows[(torch.bincount(truth) >= FEWEST_EXAMPLES)[truth[rows]]]
        if not len(rows):
            return ClassCalibration(start)
        fitted = None
        if self._choice is not None:
            full, groups = self.flow_ == "affine", int(truth.max()) + 1
            fitted = self._choice.fitted_covariance(len(x), groups, full=full)
        classes, held_out = truth.to(z.device), rows.to(z.device)
        scores = leave_one_out(self.model_.process, z, classes, fitted, held_out).cpu()
        return choose_calibration(scores.unsqueeze(0), truth[rows], start, prior)

    def _score_held_out(
        self, x: np.ndarray, z: Tensor, truth: Tensor, given: Bruno | None
    ) -> Score:
        """Return a function that fits to some rows and scores others.

        A model is overconfident of the examples it was fitted to: they are held out from the model,
        too, unless it was given.
        """

        def score(learn: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
            classes = torch.unique(truth[learn], return_inverse=True)[1]
            if given is None:
                model = self._fitted_model(x[learn.numpy()], classes.numpy())
                known, new = (encoded(model, x[rows.numpy()])[0] for rows in (learn, held_out))
            else:
                model = given
                known, new = (z[rows.to(z.device)] for rows in (learn, held_out))
            evidence = Evidence.by_class(known, classes.to(known.device))
            of_none = model.process.log_prob(new.unsqueeze(1))
            return model.process.log_prob_given(new, evidence), of_none

        return score

    def _take_and_fade(self, z: Tensor, labels: np.ndarray, announced: np.ndarray | None) -> None:
        """Take latent vectors of more examples, and let older ones count less or not at all."""
        known = self._known.now()
        changed: dict[Any, Evidence | None] = {}
        recent = self._recent
        if recent is not None:
            recent = recent.followed_by(labels, z, self._checked_window())
            seen = dict(recent.evidence())
            gone = zip(known.labels.tolist(), known.evidence.count.tolist(), strict=True)
            changed = {label: None for label, count in gone if count and label not in seen}
            changed |= seen
        else:
            half_life = self._checked_half_life()
            for k, label in enumerate(known.labels.tolist()):
                changed[label] = faded(known.evidence[k], len(z), half_life)
            for label, rows in rows_by_label(labels):
                ages = torch.from_numpy(len(z) - 1.0 - np.arange(len(z))[rows]).to(z.device)
                one_class = torch.zeros(len(ages), dtype=torch.int64, device=z.device)
                more = weighted_by_class(z[rows], one_class, 0.5 ** (ages / half_life))[0]
                before = changed.get(label)
                changed[label] = more if before is None else before + more
        of_new = {"y": labels}
        if announced is not None:
            changed |= self._announced(announced, changed)
            of_new["classes"] = announced
        self._recent = recent
        self._take(changed, **of_new)

    def _checked_window(self) -> int:
        check_whole("window", self.window, 1)
        return int(self.window or 0)

    def _checked_half_life(self) -> float:
        check_positive("half_life", self.half_life)
        return float(self.half_life or 0)

    def _announced(
        self, classes: np.ndarray, changed: dict[Any, Evidence | None]
    ) -> dict[Any, Evidence | None]:
        """Return empty evidence of the classes without evidence."""
        process = self.model_.process
        nothing = Evidence.empty(process.dim, device=process.loc.device)
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
        return super()._state() | {
            "classes_": classes.tolist(),
            "classes_dtype": classes.dtype.str,
            "recent_labels": None if self._recent is None else list(self._recent.labels),
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
            self._recent = RecentElements(tuple(state["recent_labels"]), recent)
        self.temperature_ = state["temperature_"]
        self.label_noise_ = state.get("label_noise_", 0.0)  # missing in earlier files
        self.unknown_intercept_ = state["unknown_intercept_"]
        self.unknown_slope_ = state["unknown_slope_"]
