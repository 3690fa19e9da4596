"""Calibration of a fitted classifier by examples and classes that are held out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from bruno.errors import UserError
from bruno.estimators.calibration import (
    ClassCalibration,
    choose_calibration,
    cross_validated,
    fit_platt_scaling,
    log_odds_unknown,
)
from bruno.estimators.encoding import TooFarError, encoded
from bruno.estimators.fitting import Recipe
from bruno.estimators.leave_one_out import leave_one_out
from bruno.estimators.own_covariance import MOST_DIMENSIONS, OwnCovariance
from bruno.estimators.selection import FEWEST_EXAMPLES, is_better, spread
from bruno.estimators.weights import (
    evidence_of,
    log_prob_given,
    log_prob_of_new,
    without_gaps,
)
from bruno.model import Bruno
from bruno.progress import Shown

# With fewer examples for every feature, the map is held out, too, by fitting it again.
_ENOUGH_ROWS = 2
# One class has no other to differ from.
_FEWEST_CLASSES = 2
# More examples do not change the temperature.
_MOST_HELD_OUT = 2000


@dataclass(frozen=True)
class Examples:
    """Examples that a model is calibrated by, and how it was fitted.

    Attributes:
        x: Elements, ``(N, D)``.
        z: Their latent vectors, ``(N, D)``.
        classes: Class of each, int64 ``(N,)``, on the CPU.
        weight: How often each counts, ``(N,)``; by default once.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        model: The model.
        recipe: How it was fitted to these examples; None if it was given.
        own: The process of classes with covariances of their own; None if they share one.
    """

    x: np.ndarray
    z: Tensor
    classes: Tensor
    weight: np.ndarray | None
    log_prior: Tensor
    model: Bruno
    recipe: Recipe | None
    own: OwnCovariance | None = None

    def merged(self) -> Examples:
        """Return the examples with equal ones as one of their joint weight, sorted by value.

        So that folds are the same, whether an example counts twice or comes twice, and none is in
        two of them. Where there is nothing to merge, and no weight, or for a dense
        flow, these as they are.
        """
        keys = np.concatenate([self.x, self.classes.unsqueeze(1).numpy()], 1)
        _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        if self.once or (self.weight is None and len(first) == len(keys)):
            return self
        rows = torch.from_numpy(first)
        weight = np.bincount(place.ravel(), self.weight).astype(np.float64)
        z = self.z[rows.to(self.z.device)]
        return replace(self, x=self.x[first], z=z, classes=self.classes[rows], weight=weight)

    @property
    def each(self) -> Tensor | None:
        """The weights, on the CPU."""
        return None if self.weight is None else torch.from_numpy(self.weight)

    @property
    def once(self) -> bool:
        """Whether to hold out as few times as possible, because fitting takes long."""
        return self.recipe is not None and self.recipe.choice is None

    @property
    def number(self) -> float:
        """Number of examples, or the sum of their weights."""
        return float(len(self.x) if self.weight is None else self.weight.sum())

    @property
    def are_few(self) -> bool:
        """Whether there are few for their dimension."""
        few: bool = self.number < _ENOUGH_ROWS * self.x.shape[1]
        return few

    @property
    def starting_temperature(self) -> float:
        """The temperature to start from."""
        if self.recipe is None:
            return 1.0
        return self.recipe.starting_temperature(self.number, self.x.shape[1])

    def score(self, learn: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
        """Fit to some rows and score others, as of :data:`~bruno.estimators.calibration.Score`.

        A model is overconfident of the examples it was fitted to: they are held out from the model,
        too, unless it was given.

        Args:
            learn: Rows to learn from.
            held_out: Rows to score, ``(N,)``.

        Returns:
            log p(x | class), ``(N, K)``, and log p(x) of an unknown class, ``(N,)``.
        """
        classes = torch.unique(self.classes[learn], return_inverse=True)[1]
        if self.recipe is None:
            model = self.model
            known, new = (self.z[rows.to(self.z.device)] for rows in (learn, held_out))
        else:
            weight = None if self.weight is None else self.weight[learn.numpy()]
            model = self.recipe.fit(self.x[learn.numpy()], classes.numpy(), weight)
            known, new = (encoded(model, self.x[rows.numpy()])[0] for rows in (learn, held_out))
        each = None if self.each is None else self.each[learn].to(known.device)
        own = None if self.own is None else self.own.beside(model.process)
        process = own or model.process
        evidence = evidence_of(known, classes.to(known.device), each, own)
        return log_prob_given(process, new, evidence), log_prob_of_new(process, new)


def calibration_of(
    examples: Examples, generator: torch.Generator, shown: Shown
) -> ClassCalibration:
    """Return temperature and label noise of a classifier, by examples that are held out.

    Args:
        examples: The examples.
        generator: Source of folds.
        shown: Shows the progress through a sequence as it is iterated.
    """
    start = examples.starting_temperature
    if examples.recipe is None or not (examples.once or examples.are_few):
        return _by_leave_one_out(examples, start)
    # Held out, an element may be too far from all others to have a density.
    examples = examples.merged()
    with suppress(TooFarError):
        log_prob = cross_validated(
            examples.score, examples.classes, generator, once=examples.once, shown=shown
        )
        return choose_calibration(
            log_prob, examples.classes, start, examples.log_prior, examples.each
        )
    return ClassCalibration(start)


def rejection_of(
    examples: Examples, temperature: float, generator: torch.Generator, shown: Shown
) -> tuple[float, float]:
    """Return slope and intercept of the log-odds of an unknown class, by classes left out.

    Args:
        examples: The examples.
        temperature: Divisor of log-densities.
        generator: Source of groups and folds.
        shown: Shows the progress through a sequence as it is iterated.
    """
    examples = examples.merged()
    with suppress(TooFarError):
        ratios = log_odds_unknown(
            examples.score,
            examples.classes,
            examples.log_prior,
            temperature,
            generator,
            once=examples.once,
            shown=shown,
        )
        return fit_platt_scaling(*ratios)
    return 1.0, 0.0


def own_covariance_of(examples: Examples, covariance: str) -> OwnCovariance | None:
    """Return the process of classes with covariances of their own; None where they share one.

    Args:
        examples: The examples, of classes that share one.
        covariance: ``own``, ``shared``, or ``auto`` for what classifies examples better that are
            held out one at a time; ``shared`` where there are few.

    Raises:
        UserError: If classes cannot have covariances of their own.
    """
    recipe, dim, number = examples.recipe, examples.x.shape[1], int(examples.classes.max()) + 1
    if covariance == "own":
        if dim > MOST_DIMENSIONS or np.isnan(examples.x).any():
            raise UserError(
                f"covariance: expected 'auto' or 'shared' for more than {MOST_DIMENSIONS} features "
                f"or missing values, got 'own' with {dim} features"
            )
    elif (
        covariance == "shared"
        or recipe is None
        or recipe.flow != "affine"
        or examples.are_few
        or not 1 < dim <= MOST_DIMENSIONS
        or number < _FEWEST_CLASSES
    ):
        return None
    shared = examples.model.process
    prior = OwnCovariance(shared, 1.0, 1.0)
    if not prior.any_vary:
        return None
    z, each = examples.z, examples.each
    on_device = None if each is None else each.to(z.device)
    evidence = evidence_of(z, examples.classes.to(z.device), on_device, prior)
    own = OwnCovariance.fitted(shared, evidence)
    if covariance == "own":
        return own
    (new, weight), (old, _) = map(_held_out_losses, (replace(examples, own=own), examples))
    return own if len(weight) and is_better(new, old, weight) else None


def _held_out_losses(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the log-losses of examples that are held out, calibrated, and their weights."""
    rows, scores = _held_out_scores(examples)
    truth = examples.classes[rows]
    weight = (
        torch.ones(len(rows), dtype=torch.float64, device="cpu")
        if examples.each is None
        else examples.each[rows]
    )
    start, log_prior = examples.starting_temperature, examples.log_prior
    found = choose_calibration(scores.unsqueeze(0), truth, start, log_prior, weight)
    return nll_loss(found.log_proba(scores, log_prior), truth, reduction="none"), weight


def _by_leave_one_out(examples: Examples, start: float) -> ClassCalibration:
    """Return the calibration by examples that are held out one at a time, in closed form."""
    rows, scores = _held_out_scores(examples)
    if not len(rows):
        return ClassCalibration(start)
    weight = None if examples.each is None else examples.each[rows]
    truth = examples.classes[rows]
    return choose_calibration(scores.unsqueeze(0), truth, start, examples.log_prior, weight)


def _held_out_scores(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return rows of examples and log p(x | class) without each of them, ``(M, K)``."""
    classes, z, each = examples.classes, examples.z, examples.each
    x = torch.from_numpy(examples.x.copy())  # it may be read-only, of which torch warns
    rows = spread(x, classes, _MOST_HELD_OUT)
    rows = rows[(torch.bincount(classes, each) >= FEWEST_EXAMPLES)[classes[rows]]]
    if not len(rows):
        return rows, z.new_zeros(0, int(classes.max()) + 1).cpu()
    fitted = None
    if examples.recipe is not None:
        observed = without_gaps(x, each)[1].sum(0)
        fitted = examples.recipe.fitted_covariance(observed, int(classes.max()) + 1)
    process = examples.own or examples.model.process
    own, held_out = classes.to(z.device), rows.to(z.device)
    on_device = None if each is None else each.to(z.device)
    return rows, leave_one_out(process, z, own, fitted, held_out, on_device).cpu()
