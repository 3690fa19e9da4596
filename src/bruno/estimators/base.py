"""Base of the estimators: a model fitted to a table, or a pretrained one, and its storage."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from bruno.device import resolve_device
from bruno.errors import CheckpointError, UserError
from bruno.estimators.calibration import starting_temperature
from bruno.estimators.dense import fit_dense
from bruno.estimators.encoding import as_rows, decoded, encoded
from bruno.estimators.scales import has_one_unit
from bruno.estimators.selection import Choice, choose
from bruno.estimators.sharing import reads
from bruno.estimators.storage import SavedEstimator, read_estimator, write_estimator
from bruno.estimators.two_covariance import fit_two_covariance, spans_little
from bruno.evidence import Evidence
from bruno.flows import RealNVP
from bruno.model import Bruno
from bruno.pretrained import load, locate, process_name
from bruno.processes import PROCESSES, ExchangeableStudentT
from bruno.progress import Shown, track
from bruno.serialization import read_unchanged
from bruno.validation import check_choice, check_whole

_FLOWS = (None, "diagonal", "affine", "dense")
_AUTO_PROCESSES = ("gaussian", "student_t")
_SCALES = ("auto", "per_feature", "global")
_MARGINAL_MAPS = ("auto", None, "yeo_johnson")
_DEVICES = ("auto", "cpu", "cuda")
# A linear map that mixes more dimensions than this costs more than it is likely to bring.
_MOST_MIXED = 1024
# Largest rounding errors of the evidence after elements are forgotten: in standard deviations, or
# relative to the variance.
_MOST_ROUNDING = 1e-9
# Elements that are encoded again in double precision differ by less than this, relatively. Rounding
# errors of a hundred thousand updates scatter less than this, relative to the variance within
# classes.
_ROUNDING, _LEAST_SCATTER = 1e-8, 1e-5


class BrunoEstimator(BaseEstimator, ABC):
    """Base of the estimators.

    Subclasses have the parameters ``model``, ``process``, ``flow``, ``marginal_map``, ``scale``,
    ``steps``, ``device``, ``random_state`` and ``verbose``, and set ``model_``, ``flow_``,
    ``scale_`` and ``prior_strength_`` when they are fitted.
    """

    model_: Bruno
    flow_: str | None
    scale_: str | None
    prior_strength_: float | None
    _choice: Choice | None
    _exact_model: Bruno
    n_features_in_: int

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    @property
    def process_(self) -> str:
        """Name of the process of the model."""
        check_is_fitted(self)
        return process_name(self.model_.process)

    @property
    def marginal_map_(self) -> str | None:
        """The map of every column in front of the others, if there is one."""
        check_is_fitted(self)
        flow = self.model_.flow
        bends = isinstance(flow, RealNVP) and flow.config.get("power_maps")
        return "yeo_johnson" if bends else None

    def __getstate__(self) -> dict[str, Any]:
        # Of a copy, for another thread may add to the attributes of this one.
        state: dict[str, Any] = super(BrunoEstimator, self._copied()).__getstate__()
        left_out = {"_exact_model", "_lock"}
        return {name: value for name, value in state.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "model_"):
            self._use(self.model_)

    @property
    def _updating(self) -> RLock:
        """The lock of this estimator; made late, for constructors set nothing but parameters."""
        lock: RLock = self.__dict__.setdefault("_lock", RLock())
        return lock

    def _as_it_is(self) -> Self:
        """Return an estimator to read from, that does not change with this one."""
        return self._copied()

    def _copied(self) -> Self:
        """Return an estimator with the attributes that this one has now."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def _become(self, fitted: Self) -> None:
        """Take all attributes of another estimator, in one step."""
        self.__dict__ = fitted.__dict__

    def _check_parameters(self) -> None:
        """Raise if a parameter is invalid for any data."""
        check_choice("process", self.process, ("auto", *PROCESSES))
        check_choice("flow", self.flow, _FLOWS)
        check_choice("marginal_map", self.marginal_map, _MARGINAL_MAPS)
        check_choice("scale", self.scale, _SCALES)
        check_choice("device", self.device, _DEVICES)
        check_whole("steps", self.steps, 1)
        try:
            check_random_state(self.random_state)
        except ValueError as error:
            raise UserError(
                f"random_state: expected None, a seed or a RandomState: {error}"
            ) from None

    def _validated(
        self,
        X: Any,  # noqa: N803
        given: Bruno | None = None,
        *,
        reset: bool,
    ) -> np.ndarray:
        """Return a table as float64, or images for a model of images as rows of pixels.

        Args:
            X: The table or images.
            given: The model to fit with, if there is one already.
            reset: Whether features are counted anew, or have to be those of the fit.
        """
        if not reset and self._is_plain(X):
            plain: np.ndarray = X
            return plain
        model = given if reset else self.model_
        rows = X if model is None else as_rows(X, model.event_shape)
        checked: np.ndarray = validate_data(self, rows, dtype=np.float64, reset=reset)
        if given is not None and given.process.dim != checked.shape[1]:
            shape = " x ".join(map(str, given.event_shape))
            raise UserError(
                f"X: the model takes elements of {shape}, got {checked.shape[1]} features"
            )
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

    def _given_model(self) -> Bruno | None:
        """Return a copy of the model that is given by a parameter, ready for use, if there is one.

        Raises:
            UserError: If it is of a kind that an estimator cannot use, or other parameters
                contradict it.
        """
        if self.model is None:
            return None
        if isinstance(self.model, Bruno):
            model = copy.deepcopy(self.model)
        elif isinstance(self.model, (str, Path)):
            model = load(self.model)
        else:
            kind = type(self.model).__name__
            raise UserError(
                f"model: expected a Bruno, a path, a name or None, got an object of type {kind}"
            )
        if model.flow.context_dim:
            raise UserError("model: expected one that takes no context, got a conditional model")
        if self.flow is not None:
            raise UserError(f"flow: expected None beside a model, which has one, got {self.flow!r}")
        if self.process not in ("auto", process_name(model.process)):
            raise UserError(
                f"process: expected 'auto' beside a model, which has a "
                f"{type(model.process).__name__}, got {self.process!r}"
            )
        if self.marginal_map not in ("auto", None):
            raise UserError(
                "marginal_map: expected 'auto' beside a model, which has a flow, got "
                f"{self.marginal_map!r}"
            )
        return model.requires_grad_(False).to(resolve_device(self.device))

    def _choose(
        self, x: np.ndarray, classes: np.ndarray, given: Bruno | None, log_prior: Tensor
    ) -> None:
        """Set ``scale_``, ``flow_`` and the rest, as given by parameters or estimated from data."""
        self.scale_ = self.flow_ = self._choice = None
        self.prior_strength_ = None
        if given is not None:
            return
        self.scale_ = self.scale
        if self.scale == "auto":
            self.scale_ = "global" if has_one_unit(torch.from_numpy(x.copy())) else "per_feature"
        number, dim = x.shape
        may_mix = dim <= _MOST_MIXED or (number <= _MOST_MIXED and spans_little(number, dim))
        self.flow_ = self.flow or ("affine" if may_mix else "diagonal")
        if self.flow_ == "dense":
            if self.marginal_map == "yeo_johnson":
                raise UserError(
                    "marginal_map: expected 'auto' or None with flow='dense', got 'yeo_johnson'"
                )
            return
        bends = {"auto": (False, True), None: (False,), "yeo_johnson": (True,)}
        self._choice = choose(
            torch.from_numpy(x.copy()),
            torch.from_numpy(classes.copy()),
            self._two_covariance,
            processes=_AUTO_PROCESSES if self.process == "auto" else (self.process,),
            power_maps=bends[self.marginal_map],
            full=self.flow_ == "affine",
            start=self._starting_temperature(x),
            log_prior=log_prior,
            shown=self._shown("choosing the model"),
        )
        self.prior_strength_ = self._choice.strength

    def _starting_temperature(self, x: np.ndarray) -> float:
        """Return the starting temperature of a model that is fitted to a table."""
        # A dense flow scales every column itself.
        global_scale = self.scale_ == "global" and self.flow_ != "dense"
        return starting_temperature(*x.shape, global_scale=global_scale)

    def _two_covariance(self, x: Tensor, classes: Tensor, choice: Choice) -> Bruno:
        """Return a two-covariance model, with ``scale_`` and ``flow_``, on the CPU."""
        return fit_two_covariance(
            x,
            classes,
            choice.process,
            full=self.flow_ == "affine",
            global_scale=self.scale_ == "global",
            strength=choice.strength,
            power_maps=choice.power_maps,
        )

    def _fitted_model(self, x: np.ndarray, classes: np.ndarray) -> Bruno:
        """Return a model that is fitted to classes, as it was chosen."""
        device = resolve_device(self.device)
        elements, labels = torch.from_numpy(x.copy()), torch.from_numpy(classes.copy())
        if self._choice is None:
            model = fit_dense(
                elements,
                labels,
                "student_t" if self.process == "auto" else self.process,
                global_scale=self.scale_ == "global",
                steps=self.steps,
                seed=self._seed(),
                verbose=self.verbose,
            )
        else:
            model = self._two_covariance(elements, labels, self._choice)
        return model.to(device)

    def _use(self, model: Bruno) -> None:
        """Take a model that is ready for use.

        Evidence is gathered in double precision, whatever that of the model: in single precision an
        element is encoded a little differently in every batch, and would not be forgotten exactly.
        """
        self.model_ = model
        is_exact = model.flow.dtype == torch.float64
        self._exact_model = model if is_exact else copy.deepcopy(model).double()

    def _shown(self, description: str) -> Shown:
        """Return a progress display of a sequence as it is iterated, if ``verbose``."""
        return partial(track, description=description) if self.verbose else iter

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _gain(self, z: Tensor, evidence: Evidence) -> np.ndarray:
        """Return log p(x | evidence) − log p(x) of latent vectors, in nats, ``(N,)``."""
        process = self.model_.process
        gain = process.predictive(evidence).log_prob(z) - process.log_prob(z.unsqueeze(1))
        scores: np.ndarray = gain.cpu().numpy()
        return scores

    def _without(self, seen: Evidence, forgotten: Evidence) -> Evidence:
        """Return the evidence of one set without elements of it.

        Raises:
            UserError: If these cannot have been part of it, or if they lie so far from the others
                that the rest would lose too many digits.
        """
        noise = self.model_.process.noise
        left = seen.without(forgotten, _ROUNDING, _LEAST_SCATTER * noise)
        share = forgotten.count / left.count.clamp_min(1)
        error = (1 + share) * (seen.mean.abs() + forgotten.mean.abs()) / noise.sqrt()
        if isinstance(self.model_.process, ExchangeableStudentT) and left.count > 1:
            error = torch.maximum(error, seen.scatter / (noise + left.scatter))
        if left.count and torch.finfo(torch.float64).eps * float(error.max()) > _MOST_ROUNDING:
            raise UserError(
                "forget: expected elements nearer to the others; the rest would be lost in "
                "rounding errors, fit to it again"
            )
        return left

    @reads
    def rank(
        self,
        query_set: Any,
        corpus: Any,
        top_k: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        r"""Rank elements by their log-likelihood ratio given a handful of examples of a new class.

        By :math:`\log p(x | \text{handful}) - \log p(x)`, as in *Bayesian Sets* (Ghahramani &
        Heller, NeurIPS 2005). The evidence seen so far has no influence, only the model has.

        Args:
            query_set: The handful, ``(n, D)``.
            corpus: Elements to rank, ``(N, D)``.
            top_k: How many to return; by default all.

        Returns:
            Rows of the corpus, best first, and their scores in nats.

        Raises:
            ValueError: If the data are invalid.
        """
        check_is_fitted(self)
        if top_k is not None:
            check_whole("top_k", top_k, 1)
        handful, _ = encoded(self._exact_model, self._validated(query_set, reset=False))
        z, _ = encoded(self.model_, self._validated(corpus, reset=False))
        scores = self._gain(z, Evidence.of(handful))
        order = np.argsort(-scores, kind="stable")[:top_k]
        return order, scores[order]

    def _drawn(self, evidence: Evidence, n: int, random_state: Any) -> np.ndarray:
        """Return ``n`` new elements of one set, as rows; grey levels in uint8 for images."""
        check_whole("n", n, 0)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = torch.Generator("cpu").manual_seed(seed)
        z = self.model_.process.sample(evidence, (n,), generator)
        return decoded(self.model_, z)

    def _state(self) -> dict[str, Any]:
        """Return what JSON can hold of a fitted estimator, besides its model and evidence.

        Of an estimator that is not updated meanwhile, as of :meth:`_as_it_is`.
        """
        names = getattr(self, "feature_names_in_", None)
        return {
            "flow_": self.flow_,
            "scale_": self.scale_,
            "prior_strength_": self.prior_strength_,
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags
