"""ClassCalibration of class probabilities and of open-set rejection; densities are not changed.

Where dimensions are modelled as independent and are not, they overstate the evidence, and class
probabilities are overconfident. Dividing the log-densities of all classes by one
number before normalising (Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017; as
the weight of a composite likelihood: Pauli, Racugno & Ventura, Statistica Sinica 2011) corrects it.
Labels that are drawn from the prior, whatever the element is, are allowed for beside it.

The densities of unseen classes are the least calibrated, above all after discriminative training.
Classes that are held out, one group after the other, measure by how much they are off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from bruno.progress import Shown

# Constants of the starting temperature. Chosen on splits of scikit-learn's small data sets with one
# to five examples per class (benchmarks/estimators.py measures on others) and, for many dimensions,
# on 512 to 4096 random features of digits and on 784 pixels.
_FEW_DEGREES = 2.0
_MANY_DIMENSIONS, _MOST_DIMENSIONS, _MANY_EXAMPLES = 64, 1024, 120
_LOWEST, _HIGHEST, _HIGHEST_TIMES_START, _NUMBER_OF_CANDIDATES = 0.5, 20.0, 4.0, 30
# Penalty of the starting value, in nats for a factor of e.
_PRIOR_STRENGTH = 20.0
# Candidates for the label noise, and its penalty in nats for labels that are all noise.
_NOISES, _NOISE_STRENGTH = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 20.0
# With fewer folds too few examples are left for training to represent the whole.
_FEWEST_FOLDS, _FOLDS = 3, 5
_REPEATS, _ENOUGH = 3, 300
# Standard deviations of the normal prior of slope and intercept, centred on 1 and 0, which leave
# the model unchanged. Wide: the prior matters only where few examples are separable by chance.
_PLATT_STD = np.array([1.0, 30.0])
# At a slope of 0 known and unknown classes would have the same odds.
_LEAST_SLOPE = 0.01
# Log-ratios beyond this, in nats, are clipped.
_LARGEST_RATIO = 1e4

Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the rows to learn from and ``N`` rows to score, log p(x | class) of the ``K`` classes among
the former in order, ``(N, K)``, and log p(x) of an unknown class (the prior predictive), ``(N,)``;
up to one
constant for each row."""


def starting_temperature(number: float, dim: int, *, global_scale: bool) -> float:
    """Return the starting temperature of a model that was fitted to few examples.

    Args:
        number: Number of examples, or the sum of their weights.
        dim: Their dimension.
        global_scale: Whether one scale is estimated from all dimensions.
    """
    few = math.sqrt(min(dim, _MANY_DIMENSIONS)) / 2
    # Correlated dimensions overstate the evidence; few examples cannot estimate all correlations.
    many = min(dim, _MOST_DIMENSIONS) / 16 / (1 + number / _MANY_EXAMPLES)
    # Scales estimated from few values are unreliable.
    degrees = max(1, (number - 1) * (dim if global_scale else 1))
    return max(1.0, few, many) * (1 + (_FEW_DEGREES / degrees) ** 2)


@dataclass(frozen=True)
class ClassCalibration:
    """How log-densities become class probabilities.

    Attributes:
        temperature: Divisor of log-densities.
        label_noise: Probability that a label is drawn from the prior, whatever the element is.
    """

    temperature: float
    label_noise: float = 0.0

    def log_proba(self, log_prob: Tensor, log_prior: Tensor) -> Tensor:
        """Return log-probabilities of classes, ``(N, K)``.

        Args:
            log_prob: log p(x | class), ``(N, K)``.
            log_prior: Logarithms of the prior of the classes, ``(K,)``.
        """
        log_joint = log_prob / self.temperature + log_prior
        return with_label_noise(log_joint, log_prior, self.label_noise)


def with_label_noise(log_joint: Tensor, log_prior: Tensor, label_noise: float) -> Tensor:
    """Return log-probabilities of classes, some of whose labels are drawn from the prior.

    Args:
        log_joint: log p(x, class) of labels without noise, tempered, ``(N, K)``.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        label_noise: Probability that a label is drawn from the prior.
    """
    log_proba = log_joint.log_softmax(1)
    if not label_noise:
        return log_proba
    at_random = log_prior.log_softmax(0) + math.log(label_noise)
    return torch.logaddexp(log_proba + math.log1p(-label_noise), at_random)


def noisy_log_proba(log_joint: np.ndarray, log_prior: np.ndarray, noise: float) -> np.ndarray:
    """Return what :func:`with_label_noise` does, of one element, ``(K,)``, in numpy.

    Args:
        log_joint: log p(x, class) of labels without noise, tempered, ``(K,)``.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        noise: Probability that a label is drawn from the prior.
    """
    centred = log_joint - log_joint.max()
    log_proba: np.ndarray = centred - math.log(np.exp(centred).sum())
    if not noise:
        return log_proba
    at_random = log_prior - math.log(np.exp(log_prior).sum()) + math.log(noise)
    mixed: np.ndarray = np.logaddexp(log_proba + math.log1p(-noise), at_random)
    return mixed


def choose_calibration(
    log_prob: Tensor,
    truth: Tensor,
    start: float,
    log_prior: Tensor,
    weight: Tensor | None = None,
) -> ClassCalibration:
    """Return temperature and label noise of the least log-loss, penalised.

    A Gaussian log-ratio grows with the square of the distance: without label noise a few elements
    that lie among those of another class decide the temperature of all.

    Args:
        log_prob: log p(x | class) of examples that were held out, ``(repeats, N, K)``.
        truth: Their classes, int64 ``(N,)``.
        start: The starting temperature, towards which the penalty pulls.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        weight: How often each example counts, ``(N,)``; by default once.
    """
    repeats = len(log_prob)
    if not log_prob.numel():
        return ClassCalibration(start)
    each = torch.ones(len(truth), dtype=torch.float64, device="cpu") if weight is None else weight
    scores, truth, each = log_prob.flatten(0, 1), truth.repeat(repeats), each.repeat(repeats)
    prior = log_prior.to(scores).softmax(0)
    by_chance = prior[truth]
    # Of the largest of each element nothing depends; without it exponentials are finite.
    scores = scores - scores.amax(1, keepdim=True)
    of_truth = scores.gather(1, truth.unsqueeze(1)).squeeze(1)
    log_chance = by_chance.log()
    noises = torch.tensor(_NOISES[1:], dtype=torch.float64, device="cpu").unsqueeze(1)
    at_random = noises * by_chance
    found = []
    highest = max(_HIGHEST, _HIGHEST_TIMES_START * start)
    for temperature in (start, *np.geomspace(_LOWEST, highest, _NUMBER_OF_CANDIDATES).tolist()):
        of_all = ((scores / temperature).exp() @ prior).log()
        log_proba = of_truth / temperature + log_chance - of_all
        mixed = torch.addcmul(at_random, 1 - noises, log_proba.exp()).log()
        losses = [-float(each @ log_proba), *(-mixed @ each).tolist()]
        penalty = _PRIOR_STRENGTH * math.log(temperature / start) ** 2
        for noise, loss in zip(_NOISES, losses, strict=True):
            cost = loss / repeats + penalty + _NOISE_STRENGTH * noise
            found.append((cost, ClassCalibration(temperature, noise)))
    return min(found, key=lambda each: each[0])[1]


def cross_validated(
    score: Score,
    classes: Tensor,
    generator: torch.Generator,
    *,
    once: bool = False,
    shown: Shown = iter,
) -> Tensor:
    """Return held-out log p(x | class) of every example, ``(repeats, N, K)``.

    Args:
        score: Fits to some rows and scores others.
        classes: Class of every row, int64 ``(N,)``.
        generator: Source of the divisions into folds.
        once: Whether to divide only once, into the fewest folds, because fitting takes long.
        shown: Shows the progress through a sequence as it is iterated.

    Returns:
        One repeat for every division, each with every class in every fold; few examples are
        divided more often. No repeats if some class has fewer than three examples.
    """
    count = torch.bincount(classes)
    folds = _number_of_folds(int(count.min()), once=once)
    repeats = 1 if once else max(1, min(_REPEATS, _ENOUGH // len(classes)))
    shape = repeats if folds else 0, len(classes), len(count)
    scores = torch.zeros(shape, dtype=torch.float64, device="cpu")
    divisions = [_stratified(classes, folds, generator) for _ in scores]
    for repeat, i in shown(list(itertools.product(range(len(scores)), range(folds)))):
        is_held_out = divisions[repeat] == i
        learn, held_out = (torch.nonzero(rows).flatten() for rows in (~is_held_out, is_held_out))
        scores[repeat, held_out] = score(learn, held_out)[0].cpu()
    return scores


def log_odds_unknown(
    score: Score,
    classes: Tensor,
    log_prior: Tensor,
    temperature: float,
    generator: torch.Generator,
    *,
    once: bool = False,
    shown: Shown = iter,
) -> tuple[Tensor, Tensor]:
    """Return log-odds of an unknown class, without prior, of held-out examples.

    Classes are left out in groups; from each of the others some examples are held out, too.

    Args:
        score: Fits to some rows and scores others; called once for every group.
        classes: Class of every row, int64 ``(N,)``.
        log_prior: Logarithms of the prior of the classes, ``(K,)``.
        temperature: Divisor of log-densities.
        generator: Source of the groups and folds.
        once: Whether to use the fewest groups and folds, because fitting takes long.
        shown: Shows the progress through a sequence as it is iterated.

    Returns:
        log p(x | a new class) − log p(x | the known classes), tempered, of examples of known
        classes and of classes left out. None of either if there are fewer than three classes, or
        fewer than three examples of some class.
    """
    count = torch.bincount(classes)
    folds = _number_of_folds(int(count.min()), once=once)
    groups = _number_of_folds(len(count), once=once) if folds else 0
    nothing = torch.zeros(0, dtype=torch.float64, device="cpu")
    of_known, of_new = [nothing], [nothing]
    if groups:
        fold = _stratified(classes, folds, generator)
        group = torch.randperm(len(count), generator=generator, device="cpu") % groups
    for i in shown(range(groups)):
        is_known, is_held_out = (group != i)[classes], fold == i % folds
        held_out = torch.nonzero(is_known & is_held_out).flatten()
        new = torch.nonzero(~is_known).flatten()
        learn = torch.nonzero(is_known & ~is_held_out).flatten()
        log_prob, log_new = (part.cpu() for part in score(learn, torch.cat([held_out, new])))
        prior = log_prior[group != i].log_softmax(0)
        ratio = log_new / temperature - (log_prob / temperature + prior).logsumexp(1)
        of_known.append(ratio[: len(held_out)])
        of_new.append(ratio[len(held_out) :])
    return torch.cat(of_known), torch.cat(of_new)


def fit_platt_scaling(of_known: Tensor, of_new: Tensor) -> tuple[float, float]:
    """Return slope and intercept of log-odds over log-ratios, those with the least log-loss.

    The log-odds that an element is of a new class, before any prior, are slope · ratio + intercept
    (Platt, *Probabilistic Outputs for Support Vector Machines*, 1999).

    Args:
        of_known: Log-ratios of examples of known classes, as of :func:`log_odds_unknown`.
        of_new: Those of classes left out; all together they count as much as the known ones.

    Returns:
        A positive slope, and an intercept in nats; 1 and 0 if there are no log-ratios.
    """
    if not len(of_known) or not len(of_new):
        return 1.0, 0.0
    ratios = _without_extremes(torch.cat([of_known, of_new])).numpy()
    is_new = np.arange(len(ratios)) >= len(of_known)
    weight = 0.5 * len(ratios) / np.where(is_new, len(of_new), len(of_known))
    sign = np.where(is_new, -1.0, 1.0)

    def cost_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        against = sign * (values[0] * ratios + values[1])
        pull = weight * sign * expit(against)
        from_prior = (values - [1.0, 0.0]) / _PLATT_STD
        cost = weight @ np.logaddexp(0, against) + 0.5 * from_prior @ from_prior
        gradient = np.array([pull @ ratios, pull.sum()]) + from_prior / _PLATT_STD
        return float(cost), gradient

    # Convex, so that it does not matter where it begins.
    # Imported here, since a server only applies what was fitted.
    from scipy.optimize import minimize

    found = minimize(
        cost_and_gradient,
        np.array([1.0, 0.0]),
        method="L-BFGS-B",
        jac=True,
        bounds=[(_LEAST_SLOPE, None), (None, None)],
    )
    return float(found.x[0]), float(found.x[1])


def with_rejection(
    scores: Tensor,
    of_none: Tensor,
    slope: float,
    intercept: float,
    unknown_prior: float,
    log_prior: Tensor,
    label_noise: float,
) -> Tensor:
    """Return log p(class | x), ``(N, K + 1)``, the last for none of the known classes.

    Args:
        scores: log p(x, class), tempered, ``(N, K)``.
        of_none: log p(x) of an unknown class, tempered, ``(N,)``.
        slope: Of the log-odds of none of them over log-ratios (:func:`fit_platt_scaling`).
        intercept: Of the same.
        unknown_prior: Prior probability that an element is of none of them.
        log_prior: Logarithms of the prior of the known classes, ``(K,)``.
        label_noise: Probability that the label of a known class is drawn from the prior.
    """
    of_known = scores.logsumexp(1)
    log_odds = slope * (of_none - of_known) + intercept
    log_odds = log_odds + math.log(unknown_prior) - math.log1p(-unknown_prior)
    known = with_label_noise(scores, log_prior, label_noise) - softplus(log_odds).unsqueeze(1)
    return torch.cat([known, logsigmoid(log_odds).unsqueeze(1)], 1)


def _without_extremes(ratios: Tensor) -> Tensor:
    """Return log-ratios clipped not far outside of the central 90 per cent.

    The loss grows with the distance, so a single outlier would dominate all other examples.
    """
    ratios = ratios.clamp(-_LARGEST_RATIO, _LARGEST_RATIO)
    low, high = ratios.quantile(0.05), ratios.quantile(0.95)
    return ratios.clamp(low - (high - low), high + (high - low))


def _number_of_folds(available: int, *, once: bool) -> int:
    """Return the number of folds for a number of examples or classes; 0 if there are too few."""
    folds = min(_FEWEST_FOLDS if once else _FOLDS, available)
    return folds if folds >= _FEWEST_FOLDS else 0


def _stratified(classes: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Return a fold for every row such that each class is spread evenly over the folds."""
    shuffled = torch.randperm(len(classes), generator=generator, device="cpu")
    order = shuffled[classes[shuffled].argsort(stable=True)]
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order), device="cpu") % folds
    return fold
