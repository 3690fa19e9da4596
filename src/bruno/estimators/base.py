"""Base of the estimators: a model fitted to a table, or a pretrained one, and its storage."""

from __future__ import annotations

import copy
from abc import ABC
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from bruno.errors import UserError
from bruno.estimators.encoding import as_rows, decoded, encoded, keeps_columns_apart
from bruno.estimators.fitting import Recipe, chosen_recipe
from bruno.estimators.given import given_model
from bruno.estimators.light import LightModel
from bruno.estimators.own_covariance import OwnCovariance
from bruno.estimators.saving import SavedAsDirectory
from bruno.estimators.sharing import reads
from bruno.estimators.weights import (
    checked_weights,
    evidence_of_one,
    log_prob_given,
    log_prob_of_new,
)
from bruno.evidence import Evidence
from bruno.flows import RealNVP
from bruno.model import Bruno
from bruno.pretrained import process_name
from bruno.processes import PROCESSES, ExchangeableProcess, ExchangeableStudentT
from bruno.progress import Shown, track
from bruno.validation import check_choice, check_whole

_FLOWS = (None, "diagonal", "affine", "dense")
_SCALES = ("auto", "per_feature", "global")
_MARGINAL_MAPS = ("auto", None, "yeo_johnson")
_DEVICES = ("auto", "cpu", "cuda")
# Largest rounding errors of the evidence after elements are forgotten: in standard deviations, or
# relative to the variance.
_MOST_ROUNDING = 1e-9
# Elements that are encoded again in double precision differ by less than this, relatively. Rounding
# errors of a hundred thousand updates scatter less than this, relative to the variance within
# classes.
_ROUNDING, _LEAST_SCATTER = 1e-8, 1e-5


class BrunoEstimator(SavedAsDirectory, ABC):
    """Base of the estimators.

    Subclasses have the parameters ``model``, ``process``, ``flow``, ``marginal_map``, ``scale``,
    ``steps``, ``device``, ``random_state`` and ``verbose``, and set ``model_``, ``flow_``,
    ``scale_`` and ``prior_strength_`` when they are fitted.
    """

    model: Bruno | str | Path | None
    flow: str | None
    _exact_model: Bruno
    _light: LightModel | None
    _own_prior: tuple[float, ...] | None = None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    @property
    def process_(self) -> str:
        """Name of the process of the model."""
        check_is_fitted(self)
        return process_name(self.model_.process)

    @property
    def _own(self) -> OwnCovariance | None:
        """The process of classes with covariances of their own; None if they share one."""
        prior = self._own_prior
        return None if prior is None else OwnCovariance(self.model_.process, *prior)

    @property
    def _process(self) -> ExchangeableProcess | OwnCovariance:
        """The process of the elements of a set."""
        return self._own or self.model_.process

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
        left_out = {"_exact_model", "_light", "_lock"}
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
        checked: np.ndarray = validate_data(
            self, rows, dtype=np.float64, reset=reset, ensure_all_finite="allow-nan"
        )
        if given is not None and given.process.dim != checked.shape[1]:
            shape = " x ".join(map(str, given.event_shape))
            raise UserError(
                f"X: the model takes elements of {shape}, got {checked.shape[1]} features"
            )
        apart = self.flow == "diagonal" if model is None else keeps_columns_apart(model)
        if not apart and np.isnan(checked).any():
            raise UserError(
                "X: expected no missing values (NaN) with a map that mixes columns; "
                "flow='diagonal' leaves them out exactly, or fill them before"
            )
        return checked

    def _counted(
        self, x: np.ndarray, sample_weight: Any
    ) -> tuple[np.ndarray | slice, np.ndarray | None]:
        """Return the rows of a table that count, and how often.

        Args:
            x: The table, ``(N, D)``.
            sample_weight: The weights of its rows, or None.

        Raises:
            UserError: If the weights are invalid, or no row counts.
        """
        weight = checked_weights(sample_weight, len(x))
        if weight is None:
            return slice(None), None
        counts = weight > 0
        if not counts.any():
            raise UserError("sample_weight: expected weights that are not all zero, got only zeros")
        return counts, weight[counts]

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
        """Return a copy of the model that is given by a parameter, if there is one."""
        return given_model(self.model, self.get_params(deep=False))

    def _fit_model(
        self,
        x: np.ndarray,
        classes: np.ndarray,
        weight: np.ndarray | None,
        given: Bruno | None,
        log_prior: Tensor,
    ) -> tuple[Recipe | None, Tensor, Tensor]:
        """Take a model that is given, or fit one.

        Args:
            x: Elements, ``(N, D)``.
            classes: Class of each, from 0 to K − 1.
            weight: How often each counts, ``(N,)``; by default once.
            given: The model that is given.
            log_prior: Logarithms of the prior of the classes, ``(K,)``.

        Returns:
            How it was fitted, and the latent vectors and log-determinants of the elements.
        """
        self.flow_ = self.scale_ = self.prior_strength_ = self._own_prior = None
        if given is not None:
            self._use(given)
            return None, *encoded(self._exact_model, x)
        recipe = chosen_recipe(
            x,
            classes,
            weight,
            log_prior,
            self.get_params(deep=False),
            self._seed,
            self._shown("choosing the model"),
        )
        self.flow_, self.scale_ = recipe.flow, recipe.scale
        if recipe.choice is not None:
            self.prior_strength_ = recipe.choice.strength
        fitted = recipe.fit(x, classes, weight)
        self._use(fitted.model)
        return recipe, *(fitted.latent or encoded(self._exact_model, x))

    def _use(self, model: Bruno) -> None:
        """Take a model that is ready for use.

        Evidence is gathered in double precision, whatever that of the model: in single precision an
        element is encoded a little differently in every batch, and would not be forgotten exactly.
        """
        self.model_ = model
        is_exact = model.flow.dtype == torch.float64
        self._exact_model = model if is_exact else copy.deepcopy(model).double()
        self._light = LightModel.of(model, self._own)

    def _shown(self, description: str) -> Shown:
        """Return a progress display of a sequence as it is iterated, if ``verbose``."""
        return partial(track, description=description) if self.verbose else iter

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _gain(self, z: Tensor, evidence: Evidence) -> np.ndarray:
        """Return log p(x | evidence) − log p(x) of latent vectors, in nats, ``(N,)``."""
        process = self._process
        gain = log_prob_given(process, z, evidence.expand((1,)))[:, 0] - log_prob_of_new(process, z)
        scores: np.ndarray = gain.cpu().numpy()
        return scores

    def _without(self, seen: Evidence, forgotten: Evidence) -> Evidence:
        """Return the evidence of one set without elements of it.

        Raises:
            UserError: If these cannot have been part of it, or if they lie so far from the others
                that the rest would lose too many digits.
        """
        noise = self._process.noise
        left = seen.without(forgotten, _ROUNDING, _LEAST_SCATTER * noise)
        several = torch.where(left.counts > 0, left.counts, 1.0)
        share = forgotten.counts / several
        error = (1 + share) * (seen.mean.abs() + forgotten.mean.abs()) / noise.sqrt()
        if isinstance(self._process, (ExchangeableStudentT, OwnCovariance)):
            of_scatter = seen.scatter / (noise + left.scatter)
            error = torch.where(several > 1, torch.maximum(error, of_scatter), error)
        rounding = torch.finfo(torch.float64).eps * float(error.max())
        if bool((left.counts > 0).any()) and rounding > _MOST_ROUNDING:
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
        scores = self._gain(z, evidence_of_one(handful, own=self._own))
        order = np.argsort(-scores, kind="stable")[:top_k]
        return order, scores[order]

    def _drawn(self, evidence: Evidence, n: int, random_state: Any) -> np.ndarray:
        """Return ``n`` new elements of one set, as rows; grey levels in uint8 for images."""
        check_whole("n", n, 0)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = torch.Generator("cpu").manual_seed(seed)
        return decoded(self.model_, self._sampled(evidence, n, generator))

    def _sampled(self, evidence: Evidence, n: int, generator: torch.Generator) -> Tensor:
        """Return latent vectors of ``n`` new elements of one set, ``(n, D)``."""
        return self._process.sample(evidence, (n,), generator)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = self.flow == "diagonal"
        return tags
