"""Density of one set, and detection of outliers."""

from __future__ import annotations

import operator
from functools import reduce
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import DensityMixin, OutlierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno.errors import UserError
from bruno.estimators.base import BrunoEstimator
from bruno.estimators.encoding import encoded
from bruno.estimators.fitting import Recipe
from bruno.estimators.leave_one_out import leave_one_out
from bruno.estimators.modes import MOST_MODES, Modes, find_modes, log_share_without
from bruno.estimators.own_covariance import MOST_DIMENSIONS
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
from bruno.validation import check_number, check_share

FALSE_ALARMS = 0.05
"""Share of new elements of the set that ``contamination="auto"`` lets the detector flag."""

# Fewer elements, in all and for each feature, do not show that a set has several modes.
_FEWEST_ELEMENTS, _FEWEST_EACH = 50, 5


class _OneSet(BrunoEstimator):
    """An estimator of one set of elements, with the parameter ``modes`` too.

    Where the set has several modes, evidence is gathered by mode.
    """

    modes: int | str
    _seen: Evidence
    _found: Evidence | None

    @property
    def evidence_(self) -> Evidence:
        """Sufficient statistics of the set, of batch shape ``()`` and dimension ``D``."""
        check_is_fitted(self)
        modes = self._modes
        if modes is None:
            return self._seen
        of_latent = modes.process.of_shared(self._seen)
        return reduce(operator.add, (of_latent[m] for m in range(modes.number)))

    @property
    def n_modes_(self) -> int:
        """How many modes the set has."""
        check_is_fitted(self)
        modes = self._modes
        return 1 if modes is None else modes.number

    @property
    def _modes(self) -> Modes | None:
        own = self._own
        return None if own is None or self._found is None else Modes(own, self._found)

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
        self._take_modes(x, z, each, recipe)
        if self._own is not None:
            z = self._own.statistics(z)
        self._seen = self._evidence_of(z, each)
        self._set_threshold(x, z, log_det, each, recipe)

    def _take_modes(
        self, x: np.ndarray, z: Tensor, weight: Tensor | None, recipe: Recipe | None
    ) -> None:
        """Find the modes of the set, where it may have several."""
        self._found = None
        dim = x.shape[1]
        can_have = recipe is not None and recipe.flow == "affine" and dim <= MOST_DIMENSIONS
        if isinstance(self.modes, str):
            number = len(x) if weight is None else float(weight.sum())
            if not can_have or number < max(_FEWEST_ELEMENTS, _FEWEST_EACH * dim):
                return
        elif self.modes == 1:
            return
        elif not can_have:
            raise UserError(
                f"modes: expected 1 or 'auto' for a given model, another flow than 'affine' or "
                f"more than {MOST_DIMENSIONS} features, got {self.modes}"
            )
        rows = torch.from_numpy(x.copy()).to(z.device)
        number_of_modes = None if isinstance(self.modes, str) else int(self.modes)
        modes = find_modes(self._exact_model.process, z, rows, weight, number_of_modes)
        if modes is not None:
            self._own_prior, self._found = modes.process.prior, modes.found

    def _evidence_of(self, z: Tensor, weight: Tensor | None) -> Evidence:
        """Return the evidence of elements; by mode, ``(M,)``, where the set has several."""
        modes = self._modes
        return evidence_of_one(z, weight) if modes is None else modes.evidence_of(z, weight)

    def _log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z | elements seen), in nats, ``(N,)``."""
        modes = self._modes
        if modes is not None:
            return modes.log_prob(z, self._seen)
        return log_prob_given(self._process, z, self._seen.expand((1,)))[:, 0]

    def _sampled(self, evidence: Evidence, n: int, generator: torch.Generator) -> Tensor:
        modes = self._modes
        if modes is None:
            return super()._sampled(evidence, n, generator)
        return modes.sample(evidence, n, generator)

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
        z, _ = self._latent(self._exact_model, x[rows])
        return self._evidence_of(z, weights_beside(weight, z))

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.modes != "auto":
            check_number(
                "modes",
                self.modes,
                f"'auto' or a whole number from 1 to {MOST_MODES}",
                lambda modes: 1 <= modes <= MOST_MODES and modes == int(modes),
            )

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
        self._seen = self._seen + self._elements(X, sample_weight)
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
        self._seen = self._without(self._seen, self._elements(X, sample_weight))
        return self

    @reads
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log p(x | elements seen), in nats, ``(N,)``."""
        check_is_fitted(self)
        z, log_det = self._latent(self.model_, self._validated(X, reset=False))
        scores: np.ndarray = (self._log_prob(z) + log_det).cpu().numpy()
        return scores

    def _all_evidence(self) -> Evidence:
        return self._seen if self._found is None else Evidence.stack([self._seen, self._found])

    def _restore(self, state: dict[str, Any], evidence: Evidence, recent: Tensor | None) -> None:
        super()._restore(state, evidence, recent)
        self._seen, self._found = evidence, None
        if self._own_prior is not None:
            self._seen, self._found = evidence[0], evidence[1]


class BrunoDensity(DensityMixin, _OneSet):
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
        z, _ = self._latent(self.model_, self._validated(X, reset=False))
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
        z, _ = self._latent(self.model_, self._validated(X, reset=False))
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
