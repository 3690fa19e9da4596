"""Density of one set, and detection of outliers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import DensityMixin, OutlierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno.estimators.base import BrunoEstimator
from bruno.estimators.encoding import encoded
from bruno.estimators.fitting import Recipe
from bruno.estimators.leave_one_out import leave_one_out
from bruno.estimators.sharing import reads, updates
from bruno.estimators.weights import (
    evidence_of_one,
    log_prob_given,
    log_prob_of_new,
    weighted_quantile,
    weights_beside,
    without_gaps,
)
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.validation import check_share

FALSE_ALARMS = 0.05
"""Share of new elements of the set that ``contamination="auto"`` lets the detector flag."""


class _OneSet(BrunoEstimator):
    """An estimator of one set of elements."""

    evidence_: Evidence

    @updates
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: N803, ARG002
        """Fit the model, unless one is given, and take the elements.

        Args:
            X: Elements, ``(N, D)``; for image models also ``(N, *event)``.
            y: Ignored.
            sample_weight: How often each counts, ``(N,)``, as if it were repeated, fractions too;
                by default once. A dense flow is trained on each alike.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the data or a parameter are invalid; then nothing changes.
        """
        fitted = self._copied()
        fitted._fit(X, sample_weight)
        self._become(fitted)
        return self

    def _fit(self, X: Any, sample_weight: Any) -> None:  # noqa: N803
        """Fit in place, not to be seen by others before it is finished."""
        self._check_parameters()
        given = self._given_model()
        x = self._validated(X, given, reset=True)
        rows, weight = self._counted(x, sample_weight)
        x = x[rows]
        one_class = np.zeros(len(x), dtype=np.int64)
        certain = torch.zeros(1, device="cpu", dtype=torch.float64)
        recipe = self._fit_model(x, one_class, weight, given, certain)
        z, log_det = encoded(self._exact_model, x)
        each = weights_beside(weight, z)
        self.evidence_ = evidence_of_one(z, each)
        self._set_threshold(x, z, log_det, each, recipe)

    def _set_threshold(
        self,
        x: np.ndarray,
        z: Tensor,
        log_det: Tensor,
        weight: Tensor | None,
        recipe: Recipe | None,
    ) -> None:
        """Set what belongs to scores of the elements seen, if anything does."""

    def _elements(self, X: Any, sample_weight: Any) -> Evidence:  # noqa: N803
        """Return the evidence of elements, the model being fitted."""
        x = self._validated(X, reset=False)
        rows, weight = self._counted(x, sample_weight)
        z, _ = encoded(self._exact_model, x[rows])
        return evidence_of_one(z, weights_beside(weight, z))

    @updates
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: N803
        """Take more elements, in one update each; nothing is retrained. First a :meth:`fit`.

        Args:
            X: Elements, ``(N, D)``.
            y: Ignored.
            sample_weight: How often each counts, ``(N,)``; by default once.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the data are invalid; then nothing changes.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y, sample_weight)
        self.evidence_ = self.evidence_ + self._elements(X, sample_weight)
        return self

    @updates
    def forget(self, X: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Remove elements from the evidence, exactly (inverse of ``partial_fit``).

        Args:
            X: Elements that were given before, ``(N, D)``.
            sample_weight: The weights that they were given with, ``(N,)``; by default once.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If these cannot have been among the elements seen, or lie so far from the
                others that rounding errors would be left; then nothing is forgotten.
        """
        check_is_fitted(self)
        self.evidence_ = self._without(self.evidence_, self._elements(X, sample_weight))
        return self

    @reads
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log p(x | elements seen), in nats, ``(N,)``."""
        check_is_fitted(self)
        z, log_det = encoded(self.model_, self._validated(X, reset=False))
        evidence = self.evidence_.expand((1,))
        log_prob = log_prob_given(self.model_.process, z, evidence)[:, 0] + log_det
        scores: np.ndarray = log_prob.cpu().numpy()
        return scores

    def _all_evidence(self) -> Evidence:
        return self.evidence_

    def _restore(self, state: dict[str, Any], evidence: Evidence, recent: Tensor | None) -> None:
        super()._restore(state, evidence, recent)
        self.evidence_ = evidence


class BrunoDensity(DensityMixin, _OneSet):
    """The exact predictive density of a set, which can grow, shrink and be sampled from.

    Args:
        model: As for :class:`~bruno.BrunoClassifier`.
        process: As for :class:`~bruno.BrunoClassifier`.
        flow: As for :class:`~bruno.BrunoClassifier`.
        marginal_map: As for :class:`~bruno.BrunoClassifier`.
        scale: As for :class:`~bruno.BrunoClassifier`.
        steps: As for :class:`~bruno.BrunoClassifier`.
        device: ``auto``, ``cpu`` or ``cuda``.
        random_state: Seed of training and of samples.
        verbose: As for :class:`~bruno.BrunoClassifier`.

    Attributes:
        evidence_: Sufficient statistics of the set.
        model_: The model.
        flow_: The flow that was chosen; None if a model was given.
        scale_: The scale that was chosen; None if a model was given.
        process_: The process that was chosen, or that of a given model.
        marginal_map_: The map of every column that was chosen, or None.
        prior_strength_: Pseudo-observations of the prior of the covariance, that were chosen; None
            for a model that was given or trained.
        n_features_in_: Number of features.
        feature_names_in_: Their names, if the table had some.

    Example:
        >>> density = BrunoDensity(random_state=0).fit([[0.0, 1.0], [1.0, 2.0], [2.0, 2.5]])
        >>> density.score_samples([[1.0, 2.0]]) > density.score_samples([[9.0, -9.0]])
        array([ True])
        >>> density.sample(5).shape
        (5, 2)
    """

    def __init__(
        self,
        model: Bruno | str | Path | None = None,
        process: str = "auto",
        flow: str | None = None,
        marginal_map: str | None = "auto",
        scale: str = "auto",
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
        self.steps = steps
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803, ARG002
        """Return the sum of :meth:`score_samples`, in nats.

        Args:
            X: Elements, ``(N, D)``.
            y: Ignored.
        """
        return float(self.score_samples(X).sum())

    @reads
    def sample(self, n: int = 1, random_state: Any = None) -> np.ndarray:
        """Return ``n`` new elements, ``(n, D)``, independent of each other given those seen.

        Of a model of images these are grey levels, in uint8.

        Args:
            n: How many.
            random_state: Seed; by default the estimator's.

        Raises:
            ValueError: If ``n`` is no number of elements.
        """
        check_is_fitted(self)
        seed = self.random_state if random_state is None else random_state
        return self._drawn(self.evidence_, n, seed)


class BrunoOutlierDetector(OutlierMixin, _OneSet):
    r"""Outlier detection: elements of low predictive density given a set.

    With a pretrained ``model``, the score is the log-likelihood ratio
    :math:`\log p(x | \text{set}) - \log p(x)`: the density alone is dominated by the complexity of
    an image, so that simple images have a high density under any set (Nalisnick et
    al., *Do Deep Generative Models Know What They Don't Know?*, ICLR 2019).

    Args:
        model: As for :class:`~bruno.BrunoClassifier`.
        process: As for :class:`~bruno.BrunoClassifier`.
        flow: As for :class:`~bruno.BrunoClassifier`.
        marginal_map: As for :class:`~bruno.BrunoClassifier`.
        scale: As for :class:`~bruno.BrunoClassifier`.
        contamination: Share of outliers among the elements given to ``fit``, in (0, 0.5]; so
            many of these lie below the threshold. New elements of the set lie further out than
            those that a model was fitted to, and more of them do. ``auto`` takes all for normal,
            and sets the threshold such that one in twenty *new* ones lies below, by scores of
            elements that are held out one at a time.
        steps: As for :class:`~bruno.BrunoClassifier`.
        device: ``auto``, ``cpu`` or ``cuda``.
        random_state: Seed of training.
        verbose: As for :class:`~bruno.BrunoClassifier`.

    Attributes:
        offset_: The score, in nats, below which an element is an outlier. ``fit`` sets it, by the
            elements given to it; ``partial_fit`` and ``forget`` change the scores and leave it as
            it is.
        evidence_: Sufficient statistics of the set.
        model_: The model.
        flow_: The flow that was chosen; None if a model was given.
        scale_: The scale that was chosen; None if a model was given.
        process_: The process that was chosen, or that of a given model.
        marginal_map_: The map of every column that was chosen, or None.
        prior_strength_: Pseudo-observations of the prior of the covariance, that were chosen; None
            for a model that was given or trained.
        n_features_in_: Number of features.
        feature_names_in_: Their names, if the table had some.

    Example:
        >>> X = [[0.0, 1.0], [1.0, 2.0], [2.0, 2.5], [1.5, 2.0]]
        >>> BrunoOutlierDetector(contamination=0.2).fit(X).predict([[1.0, 1.5], [50.0, -50.0]])
        array([ 1, -1])
    """

    offset_: float
    _scores_gain: bool

    def __init__(
        self,
        model: Bruno | str | Path | None = None,
        process: str = "auto",
        flow: str | None = None,
        marginal_map: str | None = "auto",
        scale: str = "auto",
        contamination: float | str = 0.1,
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
        self.contamination = contamination
        self.steps = steps
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _set_threshold(
        self,
        x: np.ndarray,
        z: Tensor,
        log_det: Tensor,
        weight: Tensor | None,
        recipe: Recipe | None,
    ) -> None:
        # The threshold belongs to the scores of the parameter at this time.
        self._scores_gain = self.model is not None
        each = None if weight is None else weight.cpu().numpy()
        if not isinstance(self.contamination, str):
            self.offset_ = weighted_quantile(self.score_samples(x), self.contamination, each)
            return
        process = self._exact_model.process
        one_class = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        fitted = None
        if recipe is not None:
            observed = without_gaps(z, weight)[1].sum(0)
            fitted = recipe.fitted_covariance(observed, 1)
        scores = leave_one_out(process, z, one_class, fitted, weight=weight)[:, 0]
        scores += -log_prob_of_new(process, z) if self._scores_gain else log_det
        self.offset_ = weighted_quantile(scores.cpu().numpy(), FALSE_ALARMS, each)

    @reads
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log p(x | elements seen), with a given model minus log p(x), in nats, ``(N,)``."""
        check_is_fitted(self)
        if not self._scores_gain:
            return super().score_samples(X)
        z, _ = encoded(self.model_, self._validated(X, reset=False))
        return self._gain(z, self.evidence_)

    @reads
    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the scores above the threshold, in nats; negative for outliers."""
        scores: np.ndarray = self.score_samples(X) - self.offset_
        return scores

    @reads
    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probabilities of belonging to the set and of being an outlier, ``(N, 2)``.

        By Bayes' rule under the model: the density of an outlier is that of the first element of
        an unknown set, as for ``unknown_prior`` of :class:`~bruno.BrunoClassifier`, and its prior
        probability is ``contamination`` (0.05 for ``auto``). The threshold has no influence.
        """
        check_is_fitted(self)
        prior = FALSE_ALARMS if isinstance(self.contamination, str) else self.contamination
        z, _ = encoded(self.model_, self._validated(X, reset=False))
        log_odds = self._gain(z, self.evidence_) + np.log1p(-prior) - np.log(prior)
        return np.stack([expit(log_odds), expit(-log_odds)], 1)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return 1 for elements that belong to the set and −1 for outliers, ``(N,)``."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not (isinstance(self.contamination, str) and self.contamination == "auto"):
            check_share("contamination", self.contamination, highest=0.5, without_zero=True)

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"offset_": self.offset_, "scores_gain": self._scores_gain}

    def _restore(self, state: dict[str, Any], evidence: Evidence, recent: Tensor | None) -> None:
        super()._restore(state, evidence, recent)
        self.offset_ = state["offset_"]
        self._scores_gain = state["scores_gain"]
