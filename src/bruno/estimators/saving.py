"""Fitted estimators that are saved to a directory and loaded again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bruno.device import resolve_device
from bruno.errors import CheckpointError
from bruno.estimators.sharing import Shared, reads
from bruno.estimators.storage import SavedEstimator, read_estimator, write_estimator
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.pretrained import load, locate
from bruno.serialization import read_unchanged


class SavedAsDirectory(Shared, BaseEstimator, ABC):
    """An estimator that is saved as safetensors and JSON."""

    device: str
    model_: Bruno
    flow_: str | None
    scale_: str | None
    prior_strength_: float | None
    _own_prior: tuple[float, ...] | None
    n_features_in_: int

    @abstractmethod
    def _use(self, model: Bruno) -> None:
        """Take a model that is ready for use."""

    def _state(self) -> dict[str, Any]:
        """Return what JSON can hold of a fitted estimator, besides its model and evidence.

        Of an estimator that is not updated meanwhile, as of :meth:`_as_it_is`.
        """
        names = getattr(self, "feature_names_in_", None)
        return {
            "flow_": self.flow_,
            "scale_": self.scale_,
            "prior_strength_": self.prior_strength_,
            "own_covariance": self._own_prior,
            "n_features_in_": self.n_features_in_,
            "feature_names_in_": None if names is None else list(names),
        }

    @abstractmethod
    def _all_evidence(self) -> Evidence:
        """Return the evidence, as it is saved; likewise."""

    def _recent_elements(self) -> Tensor | None:
        """Return latent vectors of elements that are saved, if some are kept; likewise."""
        return None

    @abstractmethod
    def _restore(self, state: dict[str, Any], evidence: Evidence, recent: Tensor | None) -> None:
        """Take what the three above returned."""
        self.flow_ = state["flow_"]
        self.scale_ = state["scale_"]
        self.prior_strength_ = state.get("prior_strength_")  # missing in earlier files
        prior = state.get("own_covariance")  # likewise
        self._own_prior = None if prior is None else tuple(prior)
        self.n_features_in_ = state["n_features_in_"]
        if state["feature_names_in_"] is not None:
            self.feature_names_in_ = np.asarray(state["feature_names_in_"], dtype=object)

    @reads
    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to a directory, as safetensors and JSON.

        The directory can be moved: a model that was given as an object or a path is saved with it,
        and the parameter ``model`` of the loaded estimator names the directory.

        Raises:
            NotFittedError: If it is not fitted.
            UserError: If a parameter or a class is not what JSON can hold; then nothing is written.
            OSError: If the disk is full or cannot be written; the old files are then
                still there.
        """
        check_is_fitted(self)
        saved = SavedEstimator(
            self.get_params(deep=False),
            self._state(),
            self._all_evidence(),
            self._recent_elements(),
        )
        write_estimator(path, type(self).__name__, saved, self.model_)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return an estimator that was saved; never executes code from the files.

        Raises:
            UserError: If there is none at this path, or one of another class.
            CheckpointError: If the files are damaged.
        """
        saved, model = read_unchanged(
            locate(path), lambda found: (read_estimator(found, cls.__name__), load(found))
        )
        try:
            estimator = cls(**saved.parameters)
            device = resolve_device(estimator.device)
            known = saved.evidence
            known = Evidence(*(t.to(device) for t in (known.count, known.mean, known.scatter)))
            recent = None if saved.recent is None else saved.recent.to(device)
            estimator._restore(saved.state, known, recent)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: is not a whole {cls.__name__}: {error}") from None
        estimator._use(model.requires_grad_(False).to(device))
        return estimator
