"""Calibration of a fitted classifier by examples and classes that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

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
from bruno.estimators.encoding import TooFarError, as_tensor, encoded
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
from bruno.evidence import Evidence
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

    What is computed of them is computed once.

    Attributes:
        x: Elements, ``(N, D)``.
        z: Their latent vectors, ``(N, D)``.
        classes: Class of each, int64 ``(N,)``, on the CPU.
        weight: How often each counts, ``(N,)``; by default once.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        model: The model.
        recipe: How it was fitted to these examples; None if it was given.
        evidence: Their evidence by class, ``(K,)``, of the statistics of ``own`` if there is one.
        own: The process of classes with covariances of their own; None if they share one.
        shared: With ``own``, the same examples of classes that share a covariance, if their scores
            are computed, too.
    """

    x: np.ndarray
    z: Tensor
    classes: Tensor
    weight: np.ndarray | None
    log_prior: Tensor
    model: Bruno
    recipe: Recipe | None
    evidence: Evidence
    own: OwnCovariance | None = None
    shared: Examples | None = None

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
        x, classes = self.x[first], self.classes[rows]
        return replace(self, x=x, z=z, classes=classes, weight=weight, shared=None)

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

    @cached_property
    def held_out(self) -> Tensor:
        """Rows that are held out one at a time, at most 2000 of classes of enough examples."""
        rows = spread(as_tensor(self.x), self.classes, _MOST_HELD_OUT)
        enough = torch.bincount(self.classes, self.each) >= FEWEST_EXAMPLES
        return rows[enough[self.classes[rows]]]

    @cached_property
    def scores(self) -> Tensor:
        """Log-densities of rows :attr:`held_out`, given the others of all classes, ``(M, K)``."""
        rows, each, device = self.held_out, self.each, self.z.device
        if not len(rows):
            return torch.zeros(0, len(self.log_prior), dtype=torch.float64, device="cpu")
        fitted = None
        if self.recipe is not None:
            observed = without_gaps(as_tensor(self.x), each)[1].sum(0)
            fitted = self.recipe.fitted_covariance(observed, len(self.log_prior))
        return leave_one_out(
            self.own or self.model.process,
            self.z,
            self.classes.to(device),
            fitted,
            rows.to(device),
            None if each is None else each.to(device),
            self.evidence,
            None if self.shared is None else self.shared.scores.to(device),
        ).cpu()

    @cached_property
    def calibration(self) -> ClassCalibration:
        """The calibration by examples that are held out one at a time, in closed form."""
        rows, start = self.held_out, self.starting_temperature
        weight = None if self.each is None else self.each[rows]
        scores = self.scores.unsqueeze(0)
        return choose_calibration(scores, self.classes[rows], start, self.log_prior, weight)

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
            rows = self.x[learn.numpy()]
            fitted = self.recipe.fit(rows, classes.numpy(), weight)
            model = fitted.model
            known, _ = fitted.latent or encoded(model, rows)
            new, _ = encoded(model, self.x[held_out.numpy()])
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
    if examples.recipe is None or not (examples.once or examples.are_few):
        return examples.calibration
    start = examples.starting_temperature
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


def with_covariance(examples: Examples, covariance: str | Sequence[float]) -> Examples:
    """Return examples of classes with covariances of their own, or, where they share one, these.

    Args:
        examples: The examples, of classes that share one.
        covariance: ``own``, ``shared``, or ``auto`` for what classifies examples better that are
            held out one at a time; ``shared`` where there are few. Or the prior of covariances.

    Raises:
        UserError: If classes cannot have covariances of their own.
    """
    recipe, dim, number = examples.recipe, examples.x.shape[1], int(examples.classes.max()) + 1
    prior = None if isinstance(covariance, str) else tuple(covariance)
    if prior is not None or covariance == "own":
        if dim > MOST_DIMENSIONS or np.isnan(examples.x).any():
            raise UserError(
                f"covariance: expected 'auto' or 'shared' for more than {MOST_DIMENSIONS} features "
                f"or missing values, got {covariance!r} with {dim} features"
            )
    elif (
        covariance == "shared"
        or recipe is None
        or recipe.flow != "affine"
        or examples.are_few
        or not 1 < dim <= MOST_DIMENSIONS
        or number < _FEWEST_CLASSES
    ):
        return examples
    shared = examples.model.process
    own = OwnCovariance(shared, *(prior or (1.0, 1.0)))
    if not own.any_vary:
        return examples
    z, each = examples.z, examples.each
    on_device = None if each is None else each.to(z.device)
    evidence = evidence_of(z, examples.classes.to(z.device), on_device, own)
    if prior is None:
        own = OwnCovariance.fitted(shared, evidence)
    found = replace(examples, evidence=evidence, own=own, shared=examples)
    if covariance != "auto":
        return found
    (new, weight), (old, _) = map(_held_out_losses, (found, examples))
    return found if len(weight) and is_better(new, old, weight) else examples


def _held_out_losses(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the log-losses of examples that are held out, calibrated, and their weights."""
    rows = examples.held_out
    truth = examples.classes[rows]
    weight = (
        torch.ones(len(rows), dtype=torch.float64, device="cpu")
        if examples.each is None
        else examples.each[rows]
    )
    log_proba = examples.calibration.log_proba(examples.scores, examples.log_prior)
    return nll_loss(log_proba, truth, reduction="none"), weight
