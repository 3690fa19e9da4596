"""Test likelihood of sets: of an image alone, and given the images before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bruno import chunks
from bruno.data.dataset import LabelledImages
from bruno.data.sets import Sets, sample_sets
from bruno.errors import UserError
from bruno.evaluation.encoding import encode_dataset
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.streams import Stream
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for
from bruno.validation import check_whole


@dataclass(frozen=True)
class LikelihoodProbes:
    """Sets that are not what the model expects, to see whether it conditions as it should.

    Attributes:
        same_image: −log p(x_n | x_<n) at every position of a set that is one image again and
            again, each time with other dequantisation noise. It must fall: a set without scatter
            is easy to predict.
        contaminant_first: −log p(x_n | x_<n) at every position of the measured sets after their
            first image was replaced by one of another class. From the second position on it should
            come back to the curve of clean sets.
        contaminant_cost: Nats per image by which that image makes the others less probable, paired
            by set, averaged over positions from the second on.
    """

    same_image: tuple[Estimate, ...]
    contaminant_first: tuple[Estimate, ...]
    contaminant_cost: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "same_image": [position.to_dict() for position in self.same_image],
            "contaminant_first": [position.to_dict() for position in self.contaminant_first],
            "contaminant_cost": self.contaminant_cost.to_dict(),
        }


@dataclass(frozen=True)
class LikelihoodResult:
    """Negative log-likelihoods per image, in nats, with intervals clustered by class.

    Attributes:
        dataset: Data set and split, such as ``"omniglot/test"``.
        sets: Number of sets.
        set_size: Images in each.
        dim: Values in an image, for bits/dim.
        nll: Mean of −log p(x_n | x_<n) over all positions n.
        first: −log p(x_1), without any example.
        last: −log p(x_n | x_<n) at the last position.
        conditioning_gain: log p(x_n | x_<n) − log p(x_n) of the image at the last position, the
            same image both times: the value of the examples. Its expectation is that of first minus
            last, without the differences between images.
        curve: −log p(x_n | x_<n) at every position, the first to the last.
        seed: Seed of the sets and of the dequantisation noise.
        importance_samples: Noise draws of the importance-weighted figure, or 0.
        first_std: Standard deviation of −log p(x_1) over images, in nats; NaN for one set.
        importance_weighted: That figure, in nats per image: a tighter bound on the likelihood of
            the 8-bit images, not to be mixed with the others.
        probes: Unusual sets, if they were measured.
    """

    dataset: str
    sets: int
    set_size: int
    dim: int
    nll: Estimate
    first: Estimate
    last: Estimate
    conditioning_gain: Estimate
    curve: tuple[Estimate, ...]
    seed: int
    importance_samples: int = 0
    importance_weighted: Estimate | None = None
    first_std: float = math.nan
    probes: LikelihoodProbes | None = None

    @property
    def bits_per_dim(self) -> Estimate:
        """The mean over all positions in bits per dimension."""
        return self.nll.scaled(1 / (self.dim * math.log(2)))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        plain = {key: value for key, value in self.__dict__.items() if isinstance(value, str | int)}
        estimates = ["nll", "bits_per_dim", "first", "last", "conditioning_gain"]
        if self.importance_weighted is not None:
            estimates.append("importance_weighted")
        return {
            **plain,
            **{name: getattr(self, name).to_dict() for name in estimates},
            "first_std": self.first_std if math.isfinite(self.first_std) else None,
            "curve": [position.to_dict() for position in self.curve],
            **({} if self.probes is None else {"probes": self.probes.to_dict()}),
        }

    def rows(self) -> list[list[str]]:
        """Return positions in the set, nats per image and bits/dim."""
        rows = [
            ["all positions", f"{self.nll}", f"{self.bits_per_dim.mean:.3f}"],
            ["first (prior)", f"{self.first}", ""],
            [f"last (given {self.set_size - 1})", f"{self.last}", ""],
            ["gained by conditioning", f"{self.conditioning_gain}", ""],
            ["uniform noise, for comparison", f"{self.dim * math.log(256):.0f}", "8"],
        ]
        if self.importance_weighted is not None:
            name = f"importance-weighted, {self.importance_samples} noise draws"
            rows.append([name, f"{self.importance_weighted}", ""])
        if self.probes is not None:
            rows += [
                [f"one image {self.set_size} times, last", f"{self.probes.same_image[-1]}", ""],
                [
                    "cost of an image of another class in front",
                    f"{self.probes.contaminant_cost}",
                    "",
                ],
            ]
        return rows


def likelihood(
    model: Bruno,
    dataset: LabelledImages,
    *,
    set_size: int = 20,
    sets: int | None = None,
    seed: int = 0,
    importance_samples: int = 0,
    probes: bool = False,
    progress: ProgressCallback | None = None,
) -> LikelihoodResult:
    """Measure the negative log-likelihood of sets of one class, as the BRUNO paper does.

    Args:
        model: The model.
        dataset: Images of classes it was not trained on.
        set_size: Images in a set; in random order.
        sets: Number of sets, each of one class. Classes take turns, so that none has two sets
            more than another; by default one set of each class.
        seed: Seed of the sets and of the one uniform noise draw of every pixel.
        importance_samples: Number of draws of the noise of every set; report the logarithm of
            the mean joint density, too; 0 for not.
        probes: Measure unusual sets, too: one image again and again, and sets with an image of
            another class in front.
        progress: Told the number of images encoded.

    Returns:
        Negative log-likelihoods, with intervals.

    Raises:
        UserError: If a class has fewer than ``set_size`` images, a number is below 1, or probes
            have no second class or image.
    """
    check_whole("importance_samples", importance_samples, 0)
    sets = dataset.num_classes if sets is None else sets
    drawn = _draw_sets(dataset, sets, set_size, seed)
    images = torch.cat([part.images for part in drawn])
    contexts = [part.context for part in drawn if part.context is not None]
    context = torch.cat(contexts).flatten(0, 1) if contexts else None

    def terms(*draw: int) -> _Terms:
        noise = generator_for(seed, Stream.LIKELIHOOD_NOISE, *draw)
        return _terms(model, images, noise, progress, context)

    given_earlier, last_alone = terms()
    nll = -given_earlier
    weighted = None
    if importance_samples:
        joints = torch.stack(
            [terms(draw).given_earlier.sum(1) for draw in range(importance_samples)]
        )
        weighted = (math.log(importance_samples) - joints.logsumexp(0)) / set_size
    classes = torch.cat([part.classes for part in drawn])
    unusual = None
    if probes:
        if context is not None or dataset.num_classes < 2 or set_size < 2:
            raise UserError(
                "probes: expected a model without context, two classes and sets of two images, got "
                f"{dataset.num_classes} classes and sets of {set_size}"
            )
        unusual = _probes(model, dataset, images, classes, nll, seed, progress)
    return LikelihoodResult(
        dataset=f"{dataset.name}/{dataset.split}",
        sets=sets,
        set_size=set_size,
        dim=model.process.dim,
        nll=estimate(nll.flatten(), classes.repeat_interleave(set_size)),
        first=estimate(nll[:, 0], classes),
        last=estimate(nll[:, -1], classes),
        conditioning_gain=estimate(given_earlier[:, -1] - last_alone, classes),
        curve=tuple(estimate(position, classes) for position in nll.unbind(1)),
        first_std=float(nll[:, 0].std()),
        seed=seed,
        importance_samples=importance_samples,
        importance_weighted=None if weighted is None else estimate(weighted, classes),
        probes=unusual,
    )


def _probes(
    model: Bruno,
    dataset: LabelledImages,
    images: Tensor,
    classes: Tensor,
    clean: Tensor,
    seed: int,
    progress: ProgressCallback | None,
) -> LikelihoodProbes:
    """Return probes of sets ``(S, n, C, H, W)`` whose terms are ``clean``, ``(S, n)``."""
    generator = generator_for(seed, Stream.LIKELIHOOD_PROBES)
    step = torch.randint(
        1, dataset.num_classes, classes.shape, generator=generator, device=generator.device
    )
    others = (classes + step) % dataset.num_classes
    contaminants = dataset.images[dataset.index_table[others, 0]]
    same = images[:, :1].expand_as(images)
    changed = torch.cat([contaminants.unsqueeze(1), images[:, 1:]], 1)
    same_nll, changed_nll = (
        -_terms(
            model, part, generator_for(seed, Stream.LIKELIHOOD_PROBES, 1 + index), progress
        ).given_earlier
        for index, part in enumerate((same, changed))
    )
    cost = (changed_nll - clean)[:, 1:].mean(1)
    return LikelihoodProbes(
        same_image=tuple(estimate(position, classes) for position in same_nll.unbind(1)),
        contaminant_first=tuple(estimate(position, classes) for position in changed_nll.unbind(1)),
        contaminant_cost=estimate(cost, classes),
    )


class _Terms(NamedTuple):
    """Log-densities of the images of sets, in nats.

    Attributes:
        given_earlier: log p(x_i | x_<i), ``(S, n)``.
        last_alone: log p(x_n) of the last image of every set, ``(S,)``.
    """

    given_earlier: Tensor
    last_alone: Tensor


def _terms(
    model: Bruno,
    images: Tensor,
    generator: torch.Generator,
    progress: ProgressCallback | None,
    context: Tensor | None = None,
) -> _Terms:
    """Return the terms of sets ``(S, n, C, H, W)`` under one noise draw."""
    z, log_det = encode_dataset(
        model, images.flatten(0, 1), generator=generator, context=context, progress=progress
    )
    sets = images.shape[:2]
    z, log_det = z.unflatten(0, sets), log_det.reshape(sets)
    alone = _one_step_terms(model, z[:, -1:])[:, 0]
    return _Terms(_one_step_terms(model, z) + log_det, alone + log_det[:, -1])


def _draw_sets(dataset: LabelledImages, sets: int, set_size: int, seed: int) -> list[Sets]:
    check_whole("sets", sets, 1)
    check_whole("set_size", set_size, 1)
    smallest = int(dataset.class_sizes.argmin())
    available = int(dataset.class_sizes[smallest])
    if set_size > available:
        raise UserError(
            f"set_size: expected 1 to {available}, the images of class "
            f"{dataset.class_names[smallest]!r} of {dataset.name}/{dataset.split}, got {set_size}"
        )
    drawn = []
    for start in range(0, sets, dataset.num_classes):
        generator = generator_for(seed, Stream.LIKELIHOOD_SETS, start)
        number = min(dataset.num_classes, sets - start)
        drawn.append(sample_sets(dataset, number, set_size, generator))
    return drawn


@torch.no_grad()
def _one_step_terms(model: Bruno, z: Tensor) -> Tensor:
    """Return log p(z_i | z_<i) of sets ``(S, n, D)``, shape ``(S, n)``, some sets at a time."""
    rows = chunks.rows_per_chunk(z.shape[1] * z.shape[2], chunks.MEMORY_ELEMENTS)
    return torch.cat([model.process.predictive_log_prob(part) for part in z.split(rows)])
