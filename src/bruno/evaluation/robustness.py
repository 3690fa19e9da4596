"""Gaussian against Student-t process: one trained flow under both, with contaminated sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import sample_sets
from bruno.errors import UserError
from bruno.evaluation.encoding import encode_dataset, encode_rotations
from bruno.evaluation.few_shot import few_shot_accuracy
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.streams import Stream
from bruno.model import Bruno
from bruno.processes import ExchangeableGaussian, ExchangeableProcess, ExchangeableStudentT
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for

_DEGREES_OF_FREEDOM = (5.0, 30.0, 1000.0)


@dataclass(frozen=True)
class RobustnessResult:
    """A trained model under one process.

    Attributes:
        dataset: Data set and split.
        process: Name of the process.
        trained: Whether it is the one that the model was trained with.
        way: Classes to choose from.
        shot: Support images of each.
        contaminants: Numbers of support images replaced by images of other classes.
        accuracy: Few-shot accuracy in per cent, for each of these numbers.
        nll: Negative log-likelihood per image of clean sets, in nats.
        difference: That minus the one under the trained process, paired by set.
        seed: Seed of episodes, sets and noise.
    """

    dataset: str
    process: str
    trained: bool
    way: int
    shot: int
    contaminants: tuple[int, ...]
    accuracy: tuple[Estimate, ...]
    nll: Estimate
    difference: Estimate
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            **self.__dict__,
            "contaminants": list(self.contaminants),
            "accuracy": [one.to_dict() for one in self.accuracy],
            "nll": self.nll.to_dict(),
            "difference": self.difference.to_dict(),
        }

    def rows(self) -> list[list[str]]:
        """Return process, contaminants, accuracy, chance; nats in the first row of a process."""
        name = f"{self.process} (trained)" if self.trained else self.process
        return [
            [
                name if index == 0 else "",
                f"{number} of {self.shot}",
                f"{accuracy}",
                f"{100 / self.way:.0f}",
                f"{self.nll}" if index == 0 else "",
                "" if index or self.trained else f"{self.difference}",
            ]
            for index, (number, accuracy) in enumerate(
                zip(self.contaminants, self.accuracy, strict=True)
            )
        ]


@torch.no_grad()
def robustness(
    model: Bruno,
    dataset: LabelledImages,
    *,
    way: int = 20,
    shot: int = 5,
    contaminants: Sequence[int] = (0, 1, 2),
    trials: int = 5,
    set_size: int = 20,
    rotations: bool = False,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> list[RobustnessResult]:
    """Measure a trained flow under a Gaussian and several Student-t processes.

    All have the variances and covariances of the trained process; a Student-t process that was
    trained keeps its degrees of freedom and is one of them. Nothing is trained again, so a process
    that the flow was not trained with may be at a disadvantage; ``benchmarks/processes.py`` trains
    one model with each.

    Args:
        model: A model without context.
        dataset: Images of classes it was not trained on.
        way: Classes to choose from.
        shot: Support images of each.
        contaminants: Numbers of support images replaced by images of other classes.
        trials: How often every class is queried.
        set_size: Images in a set whose likelihood is measured.
        rotations: Query every class in four rotations, each a class of its own.
        seed: Seed of episodes, sets and noise.
        progress: Told the number of images encoded, then of trials done.

    Returns:
        One result for every process, the trained one first.

    Raises:
        UserError: If there are too few classes or images of one, or no number of contaminants.
    """
    if not contaminants:
        raise UserError("contaminants: expected at least one number, got none")
    encoded = encode_rotations(model, dataset, rotations=rotations, progress=progress)
    generator = generator_for(seed, Stream.ROBUSTNESS)
    sets = sample_sets(dataset, dataset.num_classes, set_size, generator)
    z, log_det = encode_dataset(
        model, sets.images.flatten(0, 1), generator=generator, progress=progress
    )
    z, log_det = z.unflatten(0, (-1, set_size)), log_det.view(-1, set_size).mean(1)
    results: list[RobustnessResult] = []
    trained_nll: Tensor | None = None
    for name, process in _processes(model.process).items():
        joint = torch.stack([process.log_prob(one) for one in z])
        nll = -joint / set_size - log_det
        trained_nll = nll if trained_nll is None else trained_nll
        accuracies = [
            few_shot_accuracy(
                Bruno(model.flow, process),
                dataset,
                way=way,
                shot=shot,
                rotations=rotations,
                trials=trials,
                contaminants=number,
                encoded=encoded,
                seed=seed,
                progress=progress,
            ).accuracy
            for number in contaminants
        ]
        results.append(
            RobustnessResult(
                dataset=f"{dataset.name}/{dataset.split}",
                process=name,
                trained=not results,
                way=way,
                shot=shot,
                contaminants=tuple(contaminants),
                accuracy=tuple(accuracies),
                nll=estimate(nll, sets.classes),
                difference=estimate(nll - trained_nll, sets.classes),
                seed=seed,
            )
        )
    return results


def _processes(trained: ExchangeableProcess) -> dict[str, ExchangeableProcess]:
    """Return processes of the same covariances by name, the trained one first."""
    parameters = {
        name: getattr(trained, name).detach() for name in ("variance", "covariance", "loc")
    }
    gaussian = ExchangeableGaussian.from_parameters(**parameters).to(trained.loc.device)
    processes: dict[str, ExchangeableProcess] = {}
    if isinstance(trained, ExchangeableStudentT):
        processes["Student-t, its own df"] = trained
    processes["Gaussian"] = gaussian
    for df in _DEGREES_OF_FREEDOM:
        student = ExchangeableStudentT.from_parameters(**parameters, df=df)
        processes[f"Student-t, df {df:g}"] = student.to(trained.loc.device)
    return processes
