"""Estimators of one set of elements: what density and outlier detection have in common."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno.errors import UserError
from bruno.estimators.base import BrunoEstimator
from bruno.estimators.encoding import encoded
from bruno.estimators.fitting import Recipe
from bruno.estimators.modes import MOST_MODES, Modes, find_modes
from bruno.estimators.own_covariance import MOST_DIMENSIONS
from bruno.estimators.sharing import reads, updates
from bruno.estimators.weights import (
    evidence_of_one,
    log_prob_given,
    weights_beside,
)
from bruno.evidence import Evidence
from bruno.validation import check_number

# Fewer elements, in all and for each feature, do not show that a set has several modes.
_FEWEST_ELEMENTS, _FEWEST_EACH = 50, 5


class OneSet(BrunoEstimator):
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
        now = self._as_it_is()
        modes = now._modes
        if modes is None:
            return now._seen
        of_latent = modes.process.of_shared(now._seen)
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
        recipe, z, log_det = self._fit_model(x, one_class, weight, given, certain)
        each = weights_beside(weight, z)
        self._take_modes(x, z, each, recipe)
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
        z, _ = encoded(self._exact_model, x[rows])
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
        z, log_det = encoded(self.model_, self._validated(X, reset=False))
        scores: np.ndarray = (self._log_prob(z) + log_det).cpu().numpy()
        return scores

    def _all_evidence(self) -> Evidence:
        return self._seen if self._found is None else Evidence.stack([self._seen, self._found])

    def _restore(self, state: dict[str, Any], evidence: Evidence, recent: Tensor | None) -> None:
        super()._restore(state, evidence, recent)
        self._seen, self._found = evidence, None
        if self._own_prior is not None:
            self._seen, self._found = evidence[0], evidence[1]
