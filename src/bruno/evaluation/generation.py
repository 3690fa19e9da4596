"""Few-shot generation: share of samples that a judge assigns to the class of the examples.

Likelihood and accuracy can both be good while samples are noise. So an independent judge, a
few-shot classifier that was never trained with the model, names the samples among several unseen
classes, of which it is given *other* real examples. Real images are judged beside the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bruno.baselines.prototypical import PrototypicalNetwork
from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise, quantise, sample_sets
from bruno.errors import UserError
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.streams import Stream
from bruno.few_shot import classify
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for
from bruno.validation import check_counts, check_number, check_whole

Judge = Callable[[Tensor, Tensor], Tensor]
"""From real examples of every class, uint8 ``(K, n, C, H, W)``, and images, uint8
``(Q, C, H, W)``, to the scores of the classes for every image, ``(Q, K)``."""

JUDGED_SPLIT = (6, 4)
"""Images of every class that are examples for the judge, and real ones that are judged."""


@dataclass(frozen=True)
class GenerationResult:
    """Samples given some examples of a class, compared with real images of that class.

    Attributes:
        dataset: Data set and split.
        given: Examples of every class that the model is given.
        latent_scale: Latent scale of the samples; 1 for exact ones.
        way: Classes among which the judge chooses.
        samples: Samples judged in all.
        judged: Share of samples named as their class, in per cent, clustered by class.
        real: Share of real new images named as their class, in per cent.
        variance: Variance of the samples of a class over that of its real images, summed over
            pixels.
        spread: Mean distance between two samples of a class over that of two real images.
        nearest_given: Mean distance of a sample to the nearest given image, over that of a real
            new image; far below 1 for a model that copies.
        nearest_training: The same for the nearest training image, if these were given.
        seed: Seed of classes, images, noise and samples.
    """

    dataset: str
    given: int
    latent_scale: float
    way: int
    samples: int
    judged: Estimate
    real: Estimate
    variance: Estimate
    spread: Estimate
    nearest_given: Estimate
    nearest_training: Estimate | None
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            name: value.to_dict() if isinstance(value, Estimate) else value
            for name, value in self.__dict__.items()
        }

    def rows(self) -> list[list[str]]:
        """Return examples given, latent scale, judged, chance, real images, and ratios to these."""
        ratios = (self.variance, self.spread, self.nearest_given)
        return [
            [
                f"{self.given}",
                f"{self.latent_scale:g}",
                f"{self.judged}",
                f"{100 / self.way:.0f}",
                f"{self.real}",
                *(f"{ratio.mean:.2f}" for ratio in ratios),
                "" if self.nearest_training is None else f"{self.nearest_training.mean:.2f}",
            ]
        ]


_JUDGES = Path(__file__).parent / "judges"


def shipped_judge(event_shape: tuple[int, ...]) -> Judge:
    """Return the prototypical network that comes with the package, for handwriting.

    It was trained on the training classes of Omniglot and never together with a model.

    Args:
        event_shape: Shape of the images to be judged.

    Raises:
        UserError: If there is none for images of this shape.
    """
    network = PrototypicalNetwork.load(_JUDGES / "omniglot.safetensors")
    if network.event_shape != event_shape:
        raise UserError(
            f"judge: expected a model that names images of shape {event_shape}; the judge that "
            f"comes with the package takes {network.event_shape}"
        )
    return network.scores


def judge_of(model: Bruno) -> Judge:
    """Return a model as a judge: a class scores its log-probability given the image."""

    def scores(examples: Tensor, images: Tensor) -> Tensor:
        number = examples.shape[1]
        labels = torch.arange(len(examples), device="cpu").repeat_interleave(number)
        return classify(model, examples.flatten(0, 1), labels, images)[0].cpu()

    return scores


@torch.no_grad()
def generation(
    model: Bruno,
    dataset: LabelledImages,
    judge: Judge,
    *,
    given: Sequence[int] = (1, 5, 10),
    latent_scales: Sequence[float] = (1.0, 0.5),
    way: int = 20,
    episodes: int = 5,
    samples: int = 4,
    training: LabelledImages | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> list[GenerationResult]:
    """Judge samples given a few examples of unseen classes, beside real images of them.

    All numbers of examples and all latent scales share their classes, real images and the examples
    of the judge.

    Args:
        model: A model without context.
        dataset: Images of classes that neither the model nor the judge was trained on.
        judge: Names images among classes; see :data:`Judge` and :func:`judge_of`.
        given: Numbers of examples of every class that the model is given.
        latent_scales: Latent scales of the samples; 1 for exact ones.
        way: Classes among which the judge chooses.
        episodes: How often that many classes are drawn.
        samples: Samples of every class in an episode, at least 2.
        training: Images the model was trained on, for the distance to the nearest of them.
        seed: Seed of classes, images, noise and samples.
        progress: Told the number of episodes done.

    Returns:
        One result for every number of examples and every latent scale.

    Raises:
        UserError: If there are too few classes or images of one, or a number is out of range.
    """
    _check(dataset, given, latent_scales, way, episodes, samples)
    most = max(given)
    for_judge_size, real_size = JUDGED_SPLIT
    settings = [(number, latent_scale) for number in given for latent_scale in latent_scales]
    figures: dict[tuple[int, float], list[dict[str, Tensor]]] = {key: [] for key in settings}
    for episode in range(episodes):
        generator = generator_for(seed, Stream.GENERATION, episode)
        sets = sample_sets(dataset, way, most + sum(JUDGED_SPLIT), generator)
        examples, for_judge, real = sets.images.split([most, for_judge_size, real_size], 1)
        real_right = _named_right(judge, for_judge, real)
        for number, latent_scale in settings:
            seen = examples[:, :number]
            drawn = _samples(model, seen, samples, latent_scale, generator)
            comparison = _compared(drawn, sets.images, seen, real, training)
            figures[number, latent_scale].append(
                {
                    "judged": _named_right(judge, for_judge, drawn),
                    "real": real_right,
                    "class": sets.classes,
                    **comparison,
                }
            )
        if progress is not None:
            progress("judging samples", episode + 1, episodes)
    source = f"{dataset.name}/{dataset.split}"
    return [
        _result(figures[key], *key, dataset=source, way=way, samples=samples, seed=seed)
        for key in settings
    ]


def _samples(
    model: Bruno, seen: Tensor, number: int, latent_scale: float, generator: torch.Generator
) -> Tensor:
    """Return samples given each set, uint8 ``(K, number, C, H, W)``."""
    device = model.device
    predictive = model.condition(dequantise(seen, generator).to(device))
    drawn = predictive.sample(number, generator=generator, latent_scale=latent_scale)
    return quantise(drawn.cpu()).transpose(0, 1)


def _named_right(judge: Judge, examples: Tensor, images: Tensor) -> Tensor:
    """Return the share of images ``(K, m, C, H, W)`` named as their class, in per cent, (K,)."""
    scores = judge(examples, images.flatten(0, 1))
    right = scores.argmax(-1).view(images.shape[:2]) == torch.arange(
        len(images), device=scores.device
    ).unsqueeze(1)
    return 100 * right.double().mean(1)


def _compared(
    drawn: Tensor, images: Tensor, seen: Tensor, real: Tensor, training: LabelledImages | None
) -> dict[str, Tensor]:
    """Return figures of samples over those of real images, for every class ``(K,)``."""
    ours, all_real, seen, real = (part.flatten(2).float() for part in (drawn, images, seen, real))
    figures = {
        "variance": ours.var(1).sum(-1) / all_real.var(1).sum(-1),
        "spread": _mean_distance(ours) / _mean_distance(all_real),
        "nearest_given": _nearest(ours, seen) / _nearest(real, seen),
    }
    if training is not None:
        known = training.images.flatten(1).float()
        nearest = [torch.stack([_nearest(one, known) for one in part]) for part in (ours, real)]
        figures["nearest_training"] = nearest[0] / nearest[1]
    return figures


def _mean_distance(x: Tensor) -> Tensor:
    """Return the mean distance between two of ``(K, m, D)`` vectors of a set, (K,)."""
    number = x.shape[1]
    return torch.cdist(x, x).sum((1, 2)) / (number * (number - 1))


def _nearest(x: Tensor, others: Tensor) -> Tensor:
    """Return the mean distance of vectors ``(*K, m, D)`` to the nearest of others, (*K,)."""
    return torch.cdist(x, others).amin(-1).mean(-1)


def _result(
    episodes: list[dict[str, Tensor]],
    given: int,
    latent_scale: float,
    *,
    dataset: str,
    way: int,
    samples: int,
    seed: int,
) -> GenerationResult:
    figures = {name: torch.cat([one[name] for one in episodes]) for name in episodes[0]}
    classes = figures.pop("class")
    estimates = {name: estimate(values.double(), classes) for name, values in figures.items()}
    return GenerationResult(
        dataset=dataset,
        given=given,
        latent_scale=latent_scale,
        way=way,
        samples=samples * len(classes),
        judged=estimates["judged"],
        real=estimates["real"],
        variance=estimates["variance"],
        spread=estimates["spread"],
        nearest_given=estimates["nearest_given"],
        nearest_training=estimates.get("nearest_training"),
        seed=seed,
    )


def _check(
    dataset: LabelledImages,
    given: Sequence[int],
    latent_scales: Sequence[float],
    way: int,
    episodes: int,
    samples: int,
) -> None:
    least = {"way": (way, 2), "episodes": (episodes, 1), "samples": (samples, 2)}
    for name, (value, low) in least.items():
        check_whole(name, value, low)
    check_counts("given", given, 1)
    for name, values in {"given": given, "latent_scales": latent_scales}.items():
        if not isinstance(values, Sequence) or not values:
            raise UserError(f"{name}: expected a list of at least one number, got {values!r}")
    for scale in latent_scales:
        check_number("latent_scales", scale, "numbers of at least 0", lambda scale: scale >= 0)
    if way > dataset.num_classes:
        raise UserError(
            f"way: expected at most the {dataset.num_classes} classes of "
            f"{dataset.name}/{dataset.split}, got {way}"
        )
    room = int(dataset.class_sizes.min()) - sum(JUDGED_SPLIT)
    if max(given) > room:
        for_judge, real = JUDGED_SPLIT
        raise UserError(
            f"given: expected at most {room}, so that {for_judge} images of every class are left "
            f"for the judge and {real} to be judged, got {max(given)}"
        )
