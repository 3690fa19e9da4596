"""A classifier that takes new examples and new classes without retraining, and forgets exactly."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno import chunks
from bruno.errors import UserError
from bruno.estimators.calibration import noisy_log_proba, with_label_noise, with_rejection
from bruno.estimators.class_prior import log_prior
from bruno.estimators.encoding import encoded
from bruno.estimators.labels import unknown_label, with_unknown
from bruno.estimators.learning import LearnsClasses
from bruno.estimators.sharing import reads
from bruno.estimators.weights import log_prob_given, log_prob_of_new, number_of
from bruno.evidence import Evidence
from bruno.model import Bruno

# Elements scored at once, however many classes there are: the evidence of very many classes takes
# more memory than their scores.
_FEWEST_AT_ONCE = 256


class BrunoClassifier(ClassifierMixin, LearnsClasses):
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
            missing entries (NaN) are left out exactly there;
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
        covariance: ``shared``, one covariance within classes for all of them; ``own``, for every
            class either that or one of its own, by the odds that its examples give the two, as
            suits classes of many examples (up to 64 features, without missing entries; then a row
            at a time takes longer). ``auto`` chooses by the log-loss of examples that are held
            out, and ``shared`` where there are few. Beside the ``model_`` of another classifier,
            its ``covariance_prior_``, which few examples cannot estimate.
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
        covariance_: The covariance that was chosen.
        covariance_prior_: Prior of the covariances of classes, where they have their own: its
            pseudo-observations, those of the means, and its variance in units of that within
            classes; else None.
        own_covariance_: Probability that each class has a covariance of its own, ``(K,)``.
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

    def __init__(
        self,
        model: Bruno | str | Path | None = None,
        process: str = "auto",
        flow: str | None = None,
        marginal_map: str | None = "auto",
        scale: str = "auto",
        covariance: str | Sequence[float] = "auto",
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
        self.covariance = covariance
        self.class_prior = class_prior
        self.unknown_prior = unknown_prior
        self.temperature = temperature
        self.window = window
        self.half_life = half_life
        self.steps = steps
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable class of every element, ``(N,)``."""
        found = self._log_proba_of_one(X)
        if found is None:
            return self._predict(X)
        names, log_proba = found
        best: np.ndarray = names[log_proba.argmax(1)]
        return best

    @reads
    def _predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the classes of any number of elements."""
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

    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return logarithms of :meth:`predict_proba`.

        Columns are as ``classes_``; with ``unknown_prior`` a last one is for none of the known
        classes.
        """
        found = self._log_proba_of_one(X)
        return self._predict_log_proba(X) if found is None else found[1]

    @reads
    def _predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log-probabilities of any number of elements."""
        parts = [scores.cpu().numpy() for scores in self._log_proba_of_parts(X)]
        log_proba: np.ndarray = np.concatenate(parts)
        return log_proba

    def _log_proba_of_one(self, X: Any) -> tuple[np.ndarray, np.ndarray] | None:  # noqa: N803
        """Return the classes and log p(class | x), ``(1, K)``, of one row in numpy.

        None where it is no row of plain numbers, or there is no short way.
        """
        state = self.__dict__  # a fit replaces all of it at once
        light = state.get("_light")
        if light is None or "feature_names_in_" in state or self.unknown_prior is not None:
            return None
        z = light.latent(X)
        classes = None if z is None else state["_known"].light(light)
        if classes is None:
            return None
        shares = log_prior(self.class_prior, classes.count)
        scores = classes.log_prob(z) / state["temperature_"] + shares
        noise = state["label_noise_"]
        return classes.labels, noisy_log_proba(scores, shares, noise)[None]

    def _log_proba_of_parts(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        """Yield log p(class | x) of some elements after the other: ``(n, K)`` each.

        With ``unknown_prior`` there is a last column for none of the known classes.
        """
        check_is_fitted(self)
        z, _ = encoded(self.model_, self._validated(X, reset=False))
        process, evidence = self._process, self._present.evidence
        prior = log_prior(self.class_prior, number_of(evidence).cpu().numpy())
        if self.unknown_prior is not None:
            self._check_unknown_prior()
            self._check_not_reserved("unknown_prior", self._present.labels)
        widest = max(len(evidence.mean), z.shape[1])
        parts = z.split(max(_FEWEST_AT_ONCE, chunks.rows_per_chunk(widest, chunks.TABLE_ELEMENTS)))
        for part in self._shown("scoring")(parts):
            scores = log_prob_given(process, part, evidence)
            shares = torch.from_numpy(prior).to(scores)
            scores = scores / self.temperature_ + shares
            if self.unknown_prior is None:
                yield with_label_noise(scores, shares, self.label_noise_)
            else:
                of_none = log_prob_of_new(process, part) / self.temperature_
                scale = self.unknown_slope_, self.unknown_intercept_
                noise = shares, self.label_noise_
                yield with_rejection(scores, of_none, *scale, self.unknown_prior, *noise)

    @reads
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log p(x) of elements of an unknown class, in nats, ``(N,)``."""
        check_is_fitted(self)
        z, log_det = encoded(self.model_, self._validated(X, reset=False))
        log_prob = log_prob_of_new(self._process, z) + log_det
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
        """Evidence of the classes, of batch shape ``(K,)`` and dimension ``D``; a copy."""
        check_is_fitted(self)
        now = self._as_it_is()
        known, own = now._present.evidence, now._own
        known = known if own is None else own.of_shared(known)
        return Evidence(known.count.clone(), known.mean.clone(), known.scatter.clone())

    @property
    def covariance_(self) -> str:
        """Whether classes share one covariance or may have their own."""
        check_is_fitted(self)
        return "shared" if self._own_prior is None else "own"

    @property
    def covariance_prior_(self) -> tuple[float, ...] | None:
        """Prior of the covariances of classes, where they have their own; else None."""
        check_is_fitted(self)
        return self._own_prior

    @property
    def own_covariance_(self) -> np.ndarray:
        """Probability that each class has a covariance of its own, ``(K,)``."""
        check_is_fitted(self)
        now = self._as_it_is()
        known, own = now._present, now._own
        if own is None:
            return np.zeros(len(known.labels))
        share: np.ndarray = own.share_of_own(known.evidence).cpu().numpy()
        return share

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
