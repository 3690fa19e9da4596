"""What the estimators share: a model fitted to a table, or a pretrained one, and its storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from bruno.errors import CheckpointError, UserError
from bruno.estimators.dense import fit_dense
from bruno.estimators.two_covariance import fit_two_covariance
from bruno.evidence import Evidence
from bruno.flows.preprocessing import LEVELS
from bruno.model import Bruno
from bruno.pretrained import PROCESSES, load, locate, read_config, write_atomically
from bruno.training.loop import resolve_device

_EVIDENCE_FILE = "evidence.safetensors"
_FLOWS = (None, "affine", "linear", "dense")
_SCALES = ("columns", "common")
# Above this a full linear map costs more than it is likely to bring.
_WIDEST_FULL = 1024
_CHUNK_ELEMENTS = 2**22


class BrunoEstimator(BaseEstimator):
    """Base of the estimators.

    Subclasses have the parameters ``model``, ``process``, ``flow``, ``scale``, ``steps``,
    ``device``, ``random_state`` and ``verbose``, and set ``model_`` when they are fitted.
    """

    model_: Bruno
    n_features_in_: int

    def _validated(self, X: Any, *, reset: bool) -> np.ndarray:  # noqa: N803
        """Return a table as float64, or images of a pretrained image model as rows of pixels."""
        if not reset and self._is_plain(X):
            return X
        wide = np.asarray(X) if not hasattr(X, "iloc") and not _is_sparse(X) else X
        if isinstance(wide, np.ndarray) and wide.ndim > 2 and wide.dtype != object:
            wide = wide.reshape(len(wide), -1)
        checked: np.ndarray = validate_data(self, wide, dtype=np.float64, reset=reset)
        return checked

    def _is_plain(self, X: Any) -> bool:  # noqa: N803
        """Whether a table is certainly fine: general validation takes longer than an update."""
        return (
            type(X) is np.ndarray
            and X.dtype == np.float64
            and X.ndim == 2
            and len(X) > 0
            and X.shape[1] == self.n_features_in_
            and not hasattr(self, "feature_names_in_")
            and bool(np.isfinite(X).all())
        )

    def _fit_model(self, x: np.ndarray, classes: np.ndarray) -> Bruno:
        """Return the pretrained model, or one that is fitted to classes."""
        if self.process not in PROCESSES:
            raise UserError(
                f"process: expected one of {', '.join(PROCESSES)}, got {self.process!r}"
            )
        if self.flow not in _FLOWS:
            known = ", ".join(map(str, _FLOWS))
            raise UserError(f"flow: expected one of {known}, got {self.flow!r}")
        if self.scale not in _SCALES:
            raise UserError(f"scale: expected one of {', '.join(_SCALES)}, got {self.scale!r}")
        device = resolve_device(self.device)
        if self.model is not None:
            return self._given_model(x.shape[1]).requires_grad_(False).to(device)
        flow = self.flow or ("linear" if x.shape[1] <= _WIDEST_FULL else "affine")
        elements, labels = torch.from_numpy(x.copy()), torch.from_numpy(classes.copy())
        if flow == "dense":
            if self.steps < 1:
                raise UserError(f"steps: expected at least 1, got {self.steps}")
            model = fit_dense(
                elements,
                labels,
                self.process,
                common_scale=self.scale == "common",
                steps=self.steps,
                seed=self._seed(),
                verbose=self.verbose,
            )
        else:
            model = fit_two_covariance(
                elements,
                labels,
                self.process,
                full=flow == "linear",
                common_scale=self.scale == "common",
            )
        return model.to(device)

    def _given_model(self, features: int) -> Bruno:
        if isinstance(self.model, Bruno):
            model = self.model
        elif isinstance(self.model, (str, Path)):
            model = load(self.model)
        else:
            kind = type(self.model).__name__
            raise UserError(
                f"model: expected a Bruno, a path, a name or None, got an object of type {kind}"
            )
        if model.flow.context_dim:
            raise UserError("model: expected one that takes no context, got a conditional model")
        if model.process.dim != features:
            shape = " x ".join(map(str, model.event_shape))
            raise UserError(f"X: the model takes elements of {shape}, got {features} features")
        return model

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _encoded(self, x: np.ndarray, model: Bruno | None = None) -> tuple[Tensor, Tensor]:
        """Return latent vectors ``(N, D)`` and log-determinants ``(N,)``, in float64."""
        model = model or self.model_
        shape = model.event_shape
        is_image = len(shape) == 3
        if is_image and not ((x >= 0) & (x < LEVELS) & (x == np.floor(x))).all():
            raise UserError(
                f"X: the model takes grey levels, whole numbers from 0 to {LEVELS - 1}, got values "
                f"from {x.min():g} to {x.max():g}"
            )
        parts = []
        number = max(1, _CHUNK_ELEMENTS // x.shape[1])
        for start in range(0, len(x), number):
            rows = x[start : start + number]
            elements = torch.from_numpy(rows.copy()).to(model.process.loc.device)
            # The middle of its bin stands for a grey level.
            elements = elements.reshape(-1, *shape) + (0.5 if is_image else 0.0)
            z, log_det = model(elements)
            parts.append((z.double(), log_det.double()))
        if len(parts) == 1:
            return parts[0]
        return torch.cat([z for z, _ in parts]), torch.cat([log_det for _, log_det in parts])

    def _drawn(self, evidence: Evidence, n: int, random_state: Any) -> np.ndarray:
        """Return ``n`` new elements of one set, as rows."""
        if n < 0:
            raise UserError(f"n: expected at least 0, got {n}")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        z = self.model_.process.sample(evidence, (n,), generator)
        drawn: np.ndarray = self.model_.decode(z).flatten(1).double().cpu().numpy()
        return drawn

    def _state(self) -> dict[str, Any]:
        """Return what JSON can hold of a fitted estimator, besides its model and evidence."""
        names = getattr(self, "feature_names_in_", None)
        return {
            "estimator": type(self).__name__,
            "n_features_in_": self.n_features_in_,
            "feature_names_in_": None if names is None else list(names),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Take what :meth:`_state` returned."""
        self.n_features_in_ = state["n_features_in_"]
        if state["feature_names_in_"] is not None:
            self.feature_names_in_ = np.asarray(state["feature_names_in_"], dtype=object)

    def _all_evidence(self) -> Evidence:
        raise NotImplementedError

    def _take_evidence(self, evidence: Evidence) -> None:
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to a directory, as safetensors and JSON.

        A model that was given as an object is saved with it; loaded again, the parameter ``model``
        names the directory.

        Raises:
            NotFittedError: If it is not fitted.
            UserError: If a parameter or a class is not what JSON can hold.
        """
        check_is_fitted(self)
        path = Path(path)
        parameters = self.get_params(deep=False)
        if isinstance(parameters["model"], Bruno):
            parameters["model"] = str(path)
        evidence = self._all_evidence()
        tensors = {
            name: getattr(evidence, name).cpu().contiguous()
            for name in ("count", "mean", "scatter")
        }
        metadata = {"parameters": parameters, "fitted": self._state()}
        self.model_.save_pretrained(path, metadata)
        write_atomically(path / _EVIDENCE_FILE, save_tensors(tensors))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return an estimator that was saved; never executes code from the files.

        Raises:
            UserError: If there is none at this path, or one of another class.
            CheckpointError: If the files are damaged.
        """
        path = locate(path)
        metadata = read_config(path).get("metadata", {})
        state = metadata.get("fitted", {})
        if state.get("estimator") != cls.__name__:
            raise UserError(f"path: expected a saved {cls.__name__} in {path}")
        estimator = cls(**metadata["parameters"])
        model = load(path).requires_grad_(False).to(resolve_device(estimator.device))
        try:
            tensors = load_tensors((path / _EVIDENCE_FILE).read_bytes())
            evidence = Evidence(
                **{name: t.to(model.process.loc.device) for name, t in tensors.items()}
            )
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path / _EVIDENCE_FILE}: cannot be read: {error}") from None
        estimator.model_ = model
        estimator._restore(state)
        estimator._take_evidence(evidence)
        return estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags


def _is_sparse(X: Any) -> bool:  # noqa: N803
    return hasattr(X, "tocsr")
