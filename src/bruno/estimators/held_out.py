"""Calibration of a fitted classifier by examples and classes that are held out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

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
from bruno.estimators.selection import FEWEST_EXAMPLES, spread
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
    """

    x: np.ndarray
    z: Tensor
    classes: Tensor
    weight: np.ndarray | None
    log_prior: Tensor
    model: Bruno
    recipe: Recipe | None

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
        evidence = evidence_of(known, classes.to(known.device), each)
        of_none = log_prob_of_new(model.process, new)
        return log_prob_given(model.process, new, evidence), of_none


def calibration_of(
    examples: Examples, generator: torch.Generator, shown: Shown
) -> ClassCalibration:
    """Return temperature and label noise of a classifier, by examples that are held out.

    Args:
        examples: The examples.
        generator: Source of folds.
        shown: Shows the progress through a sequence as it is iterated.
    """
    recipe = examples.recipe
    dim = examples.x.shape[1]
    number = len(examples.x) if examples.weight is None else examples.weight.sum()
    start = 1.0 if recipe is None else recipe.starting_temperature(number, dim)
    if recipe is None or not (examples.once or number < _ENOUGH_ROWS * dim):
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


def _by_leave_one_out(examples: Examples, start: float) -> ClassCalibration:
    """Return the calibration by examples that are held out one at a time, in closed form."""
    classes, z, each = examples.classes, examples.z, examples.each
    x = torch.from_numpy(examples.x.copy())  # it may be read-only, of which torch warns
    rows = spread(x, classes, _MOST_HELD_OUT)
    rows = rows[(torch.bincount(classes, each) >= FEWEST_EXAMPLES)[classes[rows]]]
    if not len(rows):
        return ClassCalibration(start)
    fitted = None
    if examples.recipe is not None:
        observed = without_gaps(x, each)[1].sum(0)
        fitted = examples.recipe.fitted_covariance(observed, int(classes.max()) + 1)
    own, held_out = classes.to(z.device), rows.to(z.device)
    on_device = None if each is None else each.to(z.device)
    scores = leave_one_out(examples.model.process, z, own, fitted, held_out, on_device).cpu()
    of_rows = None if each is None else each[rows]
    return choose_calibration(
        scores.unsqueeze(0), classes[rows], start, examples.log_prior, of_rows
    )
