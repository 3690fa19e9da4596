"""Density of one set, and detection of outliers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import DensityMixin, OutlierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno.estimators.encoding import encoded
from bruno.estimators.fitting import Recipe
from bruno.estimators.leave_one_out import leave_one_out
from bruno.estimators.modes import log_share_without
from bruno.estimators.one_set import OneSet
from bruno.estimators.sharing import reads
from bruno.estimators.weights import (
    log_prob_of_new,
    weighted_quantile,
    without_gaps,
)
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.validation import check_share

FALSE_ALARMS = 0.05
"""Share of new elements of the set that ``contamination="auto"`` lets the detector flag."""


class BrunoDensity(DensityMixin, OneSet):
    """The exact predictive density of a set, which can grow, shrink and be sampled from.

    Args:
        model: As for :class:`~bruno.BrunoClassifier`.
        process: As for :class:`~bruno.BrunoClassifier`.
        flow: As for :class:`~bruno.BrunoClassifier`.
        marginal_map: As for :class:`~bruno.BrunoClassifier`.
        scale: As for :class:`~bruno.BrunoClassifier`.
        modes: How many clusters the set has, each an exchangeable set of its own, 1 to 8; ``auto``
            finds as many as make the elements more probable, and one where there are few, or more
            than 64 features. ``fit`` decides which cluster an element belongs to, then and later;
            so order does not matter, and ``forget`` reverses ``partial_fit``, but a fit without
            these elements might have found others.
        steps: As for :class:`~bruno.BrunoClassifier`.
        device: ``auto``, ``cpu`` or ``cuda``.
        random_state: Seed of training and of samples.
        verbose: As for :class:`~bruno.BrunoClassifier`.

    Attributes:
        evidence_: Sufficient statistics of the set.
        n_modes_: How many modes the set has.
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
        modes: int | str = "auto",
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
        self.modes = modes
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
        return self._drawn(self._seen, n, seed)


class BrunoOutlierDetector(OutlierMixin, OneSet):
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
        modes: How many clusters the set has, each an exchangeable set of its own, 1 to 8; ``auto``
            finds as many as make the elements more probable, and one where there are few, or more
            than 64 features. ``fit`` decides which cluster an element belongs to, then and later;
            so order does not matter, and ``forget`` reverses ``partial_fit``, but a fit without
            these elements might have found others.
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
        n_modes_: How many modes the set has.
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
        modes: int | str = "auto",
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
        self.modes = modes
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
        scores = self._held_out(z, weight, recipe)
        scores += -log_prob_of_new(self._process, z) if self._scores_gain else log_det
        self.offset_ = weighted_quantile(scores.cpu().numpy(), FALSE_ALARMS, each)

    def _held_out(self, z: Tensor, weight: Tensor | None, recipe: Recipe | None) -> Tensor:
        """Return log p(z | the other elements seen), in nats, ``(N,)``."""
        modes, process = self._modes, self._own or self._exact_model.process
        if modes is not None:
            parts = modes.parts_of(z)
            scores = leave_one_out(process, z, parts, None, weight=weight)
            held = None if weight is None else weight.clamp_max(1)
            return (scores + log_share_without(self._seen.count, parts, held)).logsumexp(1)
        one_class = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        fitted = None
        if recipe is not None:
            observed = without_gaps(z, weight)[1].sum(0)
            fitted = recipe.fitted_covariance(observed, 1)
        return leave_one_out(process, z, one_class, fitted, weight=weight)[:, 0]

    @reads
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log p(x | elements seen), with a given model minus log p(x), in nats, ``(N,)``."""
        check_is_fitted(self)
        if not self._scores_gain:
            return super().score_samples(X)
        z, _ = encoded(self.model_, self._validated(X, reset=False))
        return self._gain_of_set(z)

    def _gain_of_set(self, z: Tensor) -> np.ndarray:
        """Return log p(z | elements seen) − log p(z), in nats, ``(N,)``."""
        gain: np.ndarray = (self._log_prob(z) - log_prob_of_new(self._process, z)).cpu().numpy()
        return gain

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
        log_odds = self._gain_of_set(z) + np.log1p(-prior) - np.log(prior)
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
