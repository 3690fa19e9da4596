"""A classifier that takes new examples and new classes without retraining, and forgets exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor

from bruno.errors import UserError
from bruno.estimators.base import BrunoEstimator
from bruno.estimators.temperature import (
    choose_temperature,
    cross_validated,
    starting_temperature,
)
from bruno.estimators.two_covariance import evidence_of_classes
from bruno.evidence import Evidence
from bruno.model import Bruno


class BrunoClassifier(ClassifierMixin, BrunoEstimator):
    r"""Classify by the exact predictive density of each class given its examples.

    :math:`p(c | x) \propto p(c) \, p(x | x^c_1..x^c_n)`, with the predictive of an exchangeable
    process (Korshunova et al., *BRUNO*, NeurIPS 2018, section 3) in the latent space of an
    invertible map. A class is nothing but the count, mean and scatter of its examples there, so
    one more example, or one more class, costs one update of these, and one less takes it back.

    Args:
        model: A pretrained :class:`~bruno.Bruno`, its directory or name (``"omniglot"``, for rows
            of 784 grey levels). By default a model is fitted to the classes given to ``fit``, and
            then stays as it is: later examples and classes are described in its terms.
        process: ``gaussian``, or ``student_t``, which also learns from the examples of a class how
            much that class varies: for few features, or many examples of each class.
        flow: How to reach the latent space where no model is given: ``linear``, standardisation
            and a full linear map (the two-covariance model); ``affine``, standardisation only, in
            O(D) for an example; ``dense``, a dense Real NVP trained on the classes as sets; by
            default ``linear`` up to 1024 features, above it ``affine``.
        scale: ``columns`` where every feature has a unit of its own, as in most tables, or
            ``common`` where all have the same, as pixels and embeddings have: what hardly varies
            among the examples is then not taken for important.
        class_prior: ``uniform``, ``empirical`` (shares of the examples seen), or one probability
            for each of ``classes_``.
        reject: Prior probability, between 0 and 1, that an element is of none of the known
            classes; its density is then that of the first element of an unknown class. By default
            everything is of a known class.
        temperature: What log-densities are divided by before they become class probabilities;
            ``auto`` chooses it by cross-validation in ``fit``. Densities are not changed.
        steps: Steps of training with ``flow="dense"``.
        device: ``auto``, ``cpu`` or ``cuda``.
        random_state: Seed of folds, of training and of samples.
        verbose: Whether to show the progress of training.

    Attributes:
        classes_: The known classes, sorted, ``(K,)``.
        evidence_: What is known of them, an :class:`~bruno.Evidence` of batch shape ``(K,)``.
        model_: The model.
        temperature_: The temperature.
        unknown_label_: What ``predict`` returns for an element of none of the known classes: −1,
            or ``"unknown"`` where classes are strings.
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

    classes_: np.ndarray
    temperature_: float
    _evidence: dict[Any, Evidence]

    def __init__(
        self,
        model: Bruno | str | Path | None = None,
        process: str = "gaussian",
        flow: str | None = None,
        scale: str = "columns",
        class_prior: Any = "uniform",
        reject: float | None = None,
        temperature: float | str = "auto",
        steps: int = 400,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.process = process
        self.flow = flow
        self.scale = scale
        self.class_prior = class_prior
        self.reject = reject
        self.temperature = temperature
        self.steps = steps
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @torch.no_grad()
    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Fit the model, unless one is given, and take the examples.

        Args:
            X: Examples, ``(N, D)``; for image models also ``(N, *event)``.
            y: Their classes, ``(N,)``.

        Raises:
            ValueError: If the data or a parameter are not what is expected.
        """
        self._check_parameters()
        x, labels = self._validated_pair(X, y, reset=True)
        names, indices = np.unique(labels, return_inverse=True)
        model = self._fit_model(x, indices)
        truth = torch.from_numpy(indices)
        z, _ = self._encoded(x, model)
        temperature = self._chosen_temperature(x, z, truth, model)
        stacked = evidence_of_classes(z, truth.to(z.device))
        self.model_, self.temperature_, self.classes_ = model, temperature, names
        self._take_evidence(stacked)
        return self

    @torch.no_grad()
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:  # noqa: N803
        """Take more examples, of known or new classes, in one update each; nothing is retrained.

        The first call is a :meth:`fit`.

        Args:
            X: Examples, ``(N, D)``.
            y: Their classes, ``(N,)``.
            classes: Classes to know from now on, whether or not there are examples of them.

        Raises:
            ValueError: If the data are not what is expected.
        """
        if not hasattr(self, "model_"):
            self.fit(X, y)
            known = dict(self._evidence)
        else:
            x, labels = self._validated_pair(X, y, reset=False)
            known = dict(self._evidence)
            z, _ = self._encoded(x)
            for label, rows in _rows_by_label(labels):
                seen = known.get(label)
                known[label] = Evidence.of(z[rows]) if seen is None else _with(seen, z[rows])
        for label in [] if classes is None else np.unique(classes).tolist():
            known.setdefault(label, Evidence.empty(self.model_.process.dim, device=self._device))
        self._know(known)
        return self

    @torch.no_grad()
    def forget(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Take examples back, exactly: as if they had never been given to ``partial_fit``.

        The model stays as it is, with what ``fit`` learnt of scales. A class without examples is
        no longer known.

        Args:
            X: Examples that were given before, ``(N, D)``.
            y: Their classes.

        Raises:
            ValueError: If a class is unknown, if these cannot have been among its examples, or if
                nothing would be left; then nothing is forgotten.
        """
        check_is_fitted(self)
        x, labels = self._validated_pair(X, y, reset=False)
        z, _ = self._encoded(x)
        known = dict(self._evidence)
        for label, rows in _rows_by_label(labels):
            if label not in known:
                raise UserError(f"y: expected known classes, got {label!r}")
            left = known[label] - Evidence.of(z[rows])
            if int(left.count):
                known[label] = left
            else:
                del known[label]
        if not known:
            raise UserError("forget: no class would be left")
        self._know(known)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable class of every element, ``(N,)``."""
        best = self.predict_log_proba(X).argmax(1)
        names = self.classes_
        if self.reject is not None:
            names = np.append(names.astype(object), self.unknown_label_)
            if self.classes_.dtype.kind in "iufUS":
                names = names.astype(np.result_type(self.classes_, type(self.unknown_label_)))
        labels: np.ndarray = names[best]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of every class, ``(N, K)``, and of none of them if ``reject``."""
        return np.exp(self.predict_log_proba(X))

    @torch.no_grad()
    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return logarithms of :meth:`predict_proba`.

        Columns are as ``classes_``; with ``reject`` a last one is for none of the known classes.
        """
        check_is_fitted(self)
        z, _ = self._encoded(self._validated(X, reset=False))
        process, evidence = self.model_.process, self.evidence_
        log_prior = self._log_prior()
        if self.reject is not None:
            unknown = Evidence.empty(process.dim, (1,), device=self._device)
            log_known, log_none = np.log1p(-self.reject), np.log(self.reject)
            evidence = _joined(evidence, unknown)
            log_prior = np.append(log_prior + log_known, log_none)
        scores = process.log_prob_given(z, evidence) / self.temperature_
        scores = scores + torch.from_numpy(log_prior).to(scores)
        log_proba: np.ndarray = scores.log_softmax(-1).cpu().numpy()
        return log_proba

    @torch.no_grad()
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return log p(x) of elements of a class nothing is known of, in nats, ``(N,)``."""
        check_is_fitted(self)
        z, log_det = self._encoded(self._validated(X, reset=False))
        unknown = Evidence.empty(self.model_.process.dim, (1,), device=self._device)
        log_prob = self.model_.process.log_prob_given(z, unknown)[:, 0] + log_det
        scores: np.ndarray = log_prob.cpu().numpy()
        return scores

    @torch.no_grad()
    def sample(self, label: Any, n: int = 1, random_state: Any = None) -> np.ndarray:
        """Return ``n`` new elements of a known class, ``(n, D)``.

        Args:
            label: One of ``classes_``.
            n: How many.
            random_state: Seed; by default the estimator's.

        Raises:
            ValueError: If the class is unknown.
        """
        check_is_fitted(self)
        if label not in self._evidence:
            raise UserError(f"label: expected one of {self.classes_.tolist()}, got {label!r}")
        seed = self.random_state if random_state is None else random_state
        return self._drawn(self._evidence[label], n, seed)

    @torch.no_grad()
    def rank(
        self,
        query_set: Any,
        corpus: Any,
        top_k: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        r"""Rank elements by how well they belong with a handful of examples of something new.

        By :math:`\log p(x | \text{handful}) - \log p(x)`, as in *Bayesian Sets* (Ghahramani &
        Heller, NeurIPS 2005). The classes known do not matter, only the model does.

        Args:
            query_set: The handful, ``(n, D)``.
            corpus: What to rank, ``(N, D)``.
            top_k: How many to return; by default all.

        Returns:
            Rows of the corpus, best first, and their scores in nats.

        Raises:
            ValueError: If the data are not what is expected.
        """
        check_is_fitted(self)
        if top_k is not None and top_k < 1:
            raise UserError(f"top_k: expected at least 1, got {top_k}")
        handful, _ = self._encoded(self._validated(query_set, reset=False))
        z, _ = self._encoded(self._validated(corpus, reset=False))
        evidence = Evidence.of(handful)
        both = _joined(_batched(evidence), Evidence.empty(evidence.dim, (1,), device=self._device))
        log_probs = self.model_.process.log_prob_given(z, both)
        scores = (log_probs[:, 0] - log_probs[:, 1]).cpu().numpy()
        order = np.argsort(-scores, kind="stable")[:top_k]
        return order, scores[order]

    @property
    def evidence_(self) -> Evidence:
        """What is known of the classes, of batch shape ``(K,)``."""
        parts = [self._evidence[label] for label in self.classes_.tolist()]
        return Evidence(
            *(
                torch.stack([getattr(part, name) for part in parts])
                for name in ("count", "mean", "scatter")
            )
        )

    @property
    def unknown_label_(self) -> Any:
        """What ``predict`` returns for elements of none of the known classes."""
        return "unknown" if self.classes_.dtype.kind in "OUS" else -1

    @property
    def _device(self) -> torch.device:
        return self.model_.process.loc.device

    def _check_parameters(self) -> None:
        if self.reject is not None and not 0 < self.reject < 1:
            raise UserError(f"reject: expected a probability between 0 and 1, got {self.reject}")
        temperature = self.temperature
        if temperature != "auto" and (isinstance(temperature, str) or not temperature > 0):
            raise UserError(
                f"temperature: expected 'auto' or a positive number, got {temperature!r}"
            )
        if isinstance(self.class_prior, str) and self.class_prior not in {"uniform", "empirical"}:
            raise UserError(
                "class_prior: expected 'uniform', 'empirical' or probabilities, got "
                f"{self.class_prior!r}"
            )

    def _validated_pair(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
        if y is None:
            raise UserError(
                f"y: {type(self).__name__} requires y to be passed, but the target y is None"
            )
        x = self._validated(X, reset=reset)
        if type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biuUS":
            labels = y
        else:
            check_classification_targets(y)
            labels = column_or_1d(y, warn=True)
        if len(labels) != len(x):
            raise UserError(
                f"y: expected one class for each of {len(x)} samples, got {len(labels)}; found "
                "input variables with inconsistent numbers of samples"
            )
        return x, labels

    def _log_prior(self) -> np.ndarray:
        number = len(self.classes_)
        if isinstance(self.class_prior, str):
            if self.class_prior == "uniform":
                return np.full(number, -np.log(number))
            count = self.evidence_.count.cpu().numpy()
            # A class without examples is as likely as one with half an example.
            count = np.maximum(count, 0.5)
            return np.log(count / count.sum())
        prior = np.asarray(self.class_prior, dtype=np.float64)
        if prior.shape != (number,) or not (prior > 0).all() or not np.isclose(prior.sum(), 1):
            raise UserError(
                f"class_prior: expected {number} positive probabilities that sum to 1, got "
                f"{self.class_prior!r}"
            )
        return np.log(prior)

    def _chosen_temperature(self, x: np.ndarray, z: Tensor, truth: Tensor, model: Bruno) -> float:
        """Return the temperature: as given, or by examples that were held out."""
        if self.temperature != "auto":
            return float(self.temperature)
        generator = torch.Generator().manual_seed(self._seed())
        fits_quickly = self.model is None and self.flow != "dense"

        def log_joint(learn: Tensor, score: Tensor) -> Tensor:
            classes = truth[learn]
            if not fits_quickly:
                evidence = evidence_of_classes(z[learn.to(z.device)], classes.to(z.device))
                return model.process.log_prob_given(z[score.to(z.device)], evidence)
            fitted = self._fit_model(x[learn.numpy()], classes.numpy())
            known, _ = self._encoded(x[learn.numpy()], fitted)
            held_out, _ = self._encoded(x[score.numpy()], fitted)
            evidence = evidence_of_classes(known, classes.to(known.device))
            return fitted.process.log_prob_given(held_out, evidence)

        start = starting_temperature(x.shape[1]) if self.model is None else 1.0
        return choose_temperature(cross_validated(log_joint, truth, generator), truth, start)

    def _know(self, known: dict[Any, Evidence]) -> None:
        """Take the evidence of all classes."""
        if known.keys() != self._evidence.keys():
            self.classes_ = np.unique(np.asarray(list(known)))
        self._evidence = known

    def _all_evidence(self) -> Evidence:
        return self.evidence_

    def _take_evidence(self, evidence: Evidence) -> None:
        self._evidence = {label: evidence[k] for k, label in enumerate(self.classes_.tolist())}

    def _state(self) -> dict[str, Any]:
        return super()._state() | {
            "classes_": self.classes_.tolist(),
            "classes_dtype": self.classes_.dtype.str,
            "temperature_": self.temperature_,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self.classes_ = np.asarray(state["classes_"], dtype=np.dtype(state["classes_dtype"]))
        self.temperature_ = state["temperature_"]


def _rows_by_label(labels: np.ndarray) -> list[tuple[Any, Any]]:
    """Return every label with the rows it is at."""
    if len(labels) == 1:
        return [(labels.tolist()[0], slice(None))]
    names, inverse = np.unique(labels, return_inverse=True)
    return [(name, np.flatnonzero(inverse == k)) for k, name in enumerate(names.tolist())]


def _with(seen: Evidence, z: Tensor) -> Evidence:
    return seen.observe(z[0]) if len(z) == 1 else seen.observe(z)


def _batched(evidence: Evidence) -> Evidence:
    """Return one set as a batch of one."""
    return Evidence(evidence.count[None], evidence.mean[None], evidence.scatter[None])


def _joined(first: Evidence, second: Evidence) -> Evidence:
    """Return two batches of sets as one."""
    return Evidence(
        torch.cat([first.count, second.count]),
        torch.cat([first.mean, second.mean]),
        torch.cat([first.scatter, second.scatter]),
    )
