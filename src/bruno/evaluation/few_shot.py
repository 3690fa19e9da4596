"""Accuracy of few-shot classification, as the BRUNO paper and most work on Omniglot measure it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.errors import UserError
from bruno.evaluation.encoding import encode_rotations
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.scoring import is_correct, trial_scores
from bruno.evaluation.streams import Stream
from bruno.evaluation.trials import check_trials, draw_trial
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for
from bruno.validation import check_tensor, check_whole


@dataclass(frozen=True)
class FewShotResult:
    """Accuracy of few-shot classification.

    Attributes:
        dataset: Data set and split, such as ``"omniglot/test"``.
        way: Number of classes to choose from.
        shot: Number of support images of each.
        trials: How often every class was queried in every rotation.
        rotations: Whether each class was queried in four rotations.
        decisions: Number of queries in all.
        accuracy: In per cent, the interval clustered by class.
        cross_entropy: Mean of −log p(true class | query), in nats; chance is log(way).
        seed: Seed of the episodes.
        contaminants: Images of other classes among the support images of every class.
        average_rotations: Whether posteriors were averaged over rotations of query and support.
    """

    dataset: str
    way: int
    shot: int
    trials: int
    rotations: bool
    decisions: int
    accuracy: Estimate
    cross_entropy: Estimate
    seed: int
    contaminants: int = 0
    average_rotations: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        estimates = {
            "accuracy": self.accuracy.to_dict(),
            "cross_entropy": self.cross_entropy.to_dict(),
        }
        return self.__dict__ | estimates

    def rows(self) -> list[list[str]]:
        """Return the kind of episodes, accuracy and chance in per cent, the number of decisions."""
        episodes, chance = f"{self.way}-way {self.shot}-shot", f"{100 / self.way:.0f}"
        return [[episodes, f"{self.accuracy}", chance, f"{self.decisions}"]]


def few_shot_accuracy(
    model: Bruno,
    dataset: LabelledImages,
    *,
    way: int,
    shot: int,
    rotations: bool,
    trials: int = 20,
    seed: int = 0,
    contaminants: int = 0,
    average_rotations: bool = False,
    encoded: Tensor | None = None,
    progress: ProgressCallback | None = None,
) -> FewShotResult:
    """Measure few-shot accuracy as the BRUNO paper and most work on Omniglot do.

    In every trial every class, in each of its four rotations if asked for, is queried once against
    ``way`` support sets of ``shot`` images; see :func:`~bruno.evaluation.trials.draw_trial`. A
    decision is right only if the true class scores strictly higher than every other and all scores
    are finite. Every image is encoded once however often it is drawn.

    Args:
        model: The model.
        dataset: Images of classes it was not trained on.
        way: Number of classes to choose from.
        shot: Number of support images of each.
        rotations: Query every class in four rotations, each a class of its own.
        trials: How often every class is queried.
        contaminants: Number of support images of every class replaced by images of other classes,
            to see how robust the model is; the usual figure is without.
        average_rotations: Average the posterior over four decisions, in which query and support
            are turned together by 0, 90, 180 and 270 degrees. The figure of such a decision rule
            is not that of a single posterior.
        seed: Seed of the episodes.
        encoded: The data set encoded by :func:`~bruno.evaluation.encoding.encode_rotations`, to
            share between several (way, shot); in four rotations if either option needs them.
        progress: Told the number of images encoded, then of trials done.

    Returns:
        Accuracy and cross-entropy, with intervals.

    Raises:
        UserError: If there are too few classes or too few images of one, if images to be rotated
            are not square, or ``encoded`` is not of this data set.
    """
    check_trials(dataset, way, shot, trials)
    check_whole("contaminants", contaminants, 0)
    if contaminants >= shot:
        raise UserError(f"contaminants: expected 0 to {shot - 1}, got {contaminants}")
    if encoded is None:
        encoded = encode_rotations(
            model, dataset, rotations=rotations or average_rotations, progress=progress
        )
    check_tensor("encoded", encoded)
    turns = 4 if rotations else 1
    views = 4 if average_rotations else 1
    dims = (model.flow.code_dim, model.process.dim)
    expected = (max(turns, views), len(dataset))
    if encoded.ndim != 3 or encoded.shape[:2] != expected or encoded.shape[2] not in dims:
        raise UserError(
            f"encoded: expected shape {(*expected, dims[1])}, got {tuple(encoded.shape)}"
        )
    process, rows = model.process.first(encoded.shape[2]), encoded.flatten(0, 1)
    correct, losses, characters = [], [], []
    for index in range(trials):
        generator = generator_for(seed, Stream.FEW_SHOT_TRIALS, index)
        trial = draw_trial(dataset, way, shot, turns, generator, contaminants=contaminants)
        log_posteriors = [
            trial_scores(process, rows, trial.turned(view, len(dataset))).log_softmax(-1)
            for view in range(views)
        ]
        log_posterior = torch.stack(log_posteriors).logsumexp(0) - math.log(views)
        correct.append(is_correct(log_posterior))
        losses.append(-log_posterior[:, 0])
        characters.append(trial.classes[:, 0])
        if progress is not None:
            progress(f"{way}-way {shot}-shot", index + 1, trials)
    clusters = torch.cat(characters)
    return FewShotResult(
        dataset=f"{dataset.name}/{dataset.split}",
        way=way,
        shot=shot,
        trials=trials,
        rotations=rotations,
        decisions=len(clusters),
        accuracy=estimate(100.0 * torch.cat(correct), clusters),
        cross_entropy=estimate(torch.cat(losses), clusters),
        seed=seed,
        contaminants=contaminants,
        average_rotations=average_rotations,
    )
