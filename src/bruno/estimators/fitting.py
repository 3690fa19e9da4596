"""Fitting a model to a table: what parameters leave open is chosen from the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from bruno.device import resolve_device
from bruno.errors import UserError
from bruno.estimators.calibration import starting_temperature
from bruno.estimators.dense import fit_dense
from bruno.estimators.encoding import FittedModel, as_tensor
from bruno.estimators.leave_one_out import FittedCovariance
from bruno.estimators.scales import has_one_unit
from bruno.estimators.selection import Choice, choose
from bruno.estimators.two_covariance import fit_process
from bruno.estimators.two_covariance_flow import FittedFlow, fit_flow, spans_little
from bruno.estimators.weights import without_gaps
from bruno.progress import Shown

_AUTO_PROCESSES = ("gaussian", "student_t")
# A linear map that mixes more dimensions than this costs more than it is likely to bring.
_MOST_MIXED = 1024


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted to a table.

    Attributes:
        flow: ``affine``, ``diagonal`` or ``dense``.
        scale: ``per_feature`` or ``global``.
        choice: Parameters of a two-covariance model; None for a dense flow.
        parameters: Those of the estimator.
        seed: Returns the seed of a training.
    """

    flow: str
    scale: str
    choice: Choice | None
    parameters: dict[str, Any]
    seed: Callable[[], int]

    def fit(
        self, x: np.ndarray, classes: np.ndarray, weight: np.ndarray | None = None
    ) -> FittedModel:
        """Return a model that is fitted to classes.

        Args:
            x: Elements, float64 ``(N, D)``; NaN where an entry is missing.
            classes: Class of each, int64 ``(N,)``, from 0 to K − 1, none of them empty.
            weight: How often each element counts, ``(N,)``; by default once. A dense flow is
                trained on all elements alike.
        """
        device = resolve_device(self.parameters["device"])
        elements, labels, each = _as_tensors(x, classes, weight)
        if self.choice is None:
            process = self.parameters["process"]
            trained = fit_dense(
                elements,
                labels,
                "student_t" if process == "auto" else process,
                global_scale=self.scale == "global",
                steps=self.parameters["steps"],
                seed=self.seed(),
                verbose=self.parameters["verbose"],
            )
            return FittedModel(trained.to(device))
        choice = self.choice
        flow = self.fitted_flow(elements, labels, each, choice.power_maps, choice.strength)
        fitted = fit_process(flow, choice.process)
        latent = fitted.latent and (fitted.latent[0].to(device), fitted.latent[1].to(device))
        return FittedModel(fitted.model.to(device), latent)

    def fitted_flow(
        self,
        x: Tensor,
        classes: Tensor,
        weight: Tensor | None,
        power_maps: bool,
        strength: float,
    ) -> FittedFlow:
        """Return the flow of a two-covariance model of this kind and scale, on the CPU.

        Args:
            x: Elements, float64 ``(N, D)``; NaN where an entry is missing.
            classes: Class of each, int64 ``(N,)``, from 0 to K − 1.
            weight: How often each counts, ``(N,)``; by default once.
            power_maps: Whether every column first goes through a Yeo-Johnson map.
            strength: Weight of the prior of the covariance within classes.
        """
        return fit_flow(
            x,
            classes,
            full=self.flow == "affine",
            global_scale=self.scale == "global",
            strength=strength,
            power_maps=power_maps,
            weight=weight,
        )

    def starting_temperature(self, number: float, dim: int) -> float:
        """Return the starting temperature of a model that is fitted to a table.

        Args:
            number: Number of elements, or the sum of their weights.
            dim: Their dimension.
        """
        # A dense flow scales every column itself.
        global_scale = self.scale == "global" and self.flow != "dense"
        return starting_temperature(number, dim, global_scale=global_scale)

    def fitted_covariance(self, number: float | Tensor, groups: int) -> FittedCovariance | None:
        """Return how the unit of latent vectors is estimated from this many elements and classes.

        None for a dense flow, of which that is not known in closed form.

        Args:
            number: Number of elements, or the sums of their weights, ``(1,)`` or ``(D,)``.
            groups: Number of classes.
        """
        if self.choice is None:
            return None
        return self.choice.fitted_covariance(number, groups, full=self.flow == "affine")


def chosen_recipe(
    x: np.ndarray,
    classes: np.ndarray,
    weight: np.ndarray | None,
    log_prior: Tensor,
    parameters: dict[str, Any],
    seed: Callable[[], int],
    shown: Shown,
) -> Recipe:
    """Return how to fit a model, as given by parameters or estimated from data.

    Args:
        x: Elements, float64 ``(N, D)``; NaN where an entry is missing.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1, none of them empty.
        weight: How often each element counts, ``(N,)``; by default once.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        parameters: Those of the estimator, valid.
        seed: Returns the seed of a training.
        shown: Shows the progress through a sequence as it is iterated.

    Raises:
        UserError: If a power map is asked for in front of a dense flow.
    """
    number, dim = x.shape
    elements, labels, each = _as_tensors(x, classes, weight)
    scale, flow, bend = (parameters[name] for name in ("scale", "flow", "marginal_map"))
    if scale == "auto":
        scale = "global" if has_one_unit(*without_gaps(elements, each)) else "per_feature"
    if flow is None:
        may_mix = dim <= _MOST_MIXED or (number <= _MOST_MIXED and spans_little(number, dim))
        flow = "affine" if may_mix else "diagonal"
    open_recipe = Recipe(flow, scale, None, parameters, seed)
    if flow == "dense":
        if bend == "yeo_johnson":
            raise UserError(
                "marginal_map: expected 'auto' or None with flow='dense', got 'yeo_johnson'"
            )
        return open_recipe
    process = parameters["process"]
    choice = choose(
        elements,
        labels,
        open_recipe.fitted_flow,
        processes=_AUTO_PROCESSES if process == "auto" else (process,),
        power_maps={"auto": (False, True), None: (False,), "yeo_johnson": (True,)}[bend],
        full=flow == "affine",
        start=open_recipe.starting_temperature(number if weight is None else weight.sum(), dim),
        log_prior=log_prior,
        weight=each,
        shown=shown,
    )
    return Recipe(flow, scale, choice, parameters, seed)


def _as_tensors(
    x: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    return as_tensor(x), as_tensor(classes), None if weight is None else as_tensor(weight)
