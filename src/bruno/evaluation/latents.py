"""Latent vectors against the marginal of the process: histograms and Kolmogorov-Smirnov."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.evaluation.encoding import encode_dataset
from bruno.evaluation.streams import Stream
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for
from bruno.validation import check_whole

RANGE = 4.0
"""Histograms reach from minus to plus this many standard deviations."""

_BINS, _SHOWN = 64, 6


@dataclass(frozen=True)
class LatentsResult:
    """Distances of latent dimensions from the distribution that the process gives them.

    The Kolmogorov-Smirnov distance is the largest difference of the cumulative probabilities; with
    n independent values it is below ``critical`` in 95 of 100 dimensions if the model is right.

    Attributes:
        dataset: Data set and split.
        images: Number of images, each from a class of its own where there are enough.
        distances: Kolmogorov-Smirnov distance of every latent dimension, ascending.
        critical: Distance that a dimension of a right model exceeds with a probability of 5 %.
        histogram: Densities of the standardised values of all dimensions, in equal bins.
        dimensions: Histograms of some dimensions, from the least to the most distant.
        dimension_distances: Their distances.
        seed: Seed of the images and of the dequantisation noise.
    """

    dataset: str
    images: int
    distances: tuple[float, ...]
    critical: float
    histogram: tuple[float, ...]
    dimensions: tuple[tuple[float, ...], ...]
    dimension_distances: tuple[float, ...]
    seed: int

    @property
    def median(self) -> float:
        """Median of the distances."""
        return self.distances[len(self.distances) // 2]

    @property
    def rejected(self) -> float:
        """Share of dimensions whose distance is above the critical one."""
        above = sum(distance > self.critical for distance in self.distances)
        return above / len(self.distances)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**self.__dict__, "median": self.median, "rejected": self.rejected}

    def rows(self) -> list[list[str]]:
        """Return images, the median and the largest distance, and the share above the critical."""
        return [
            [
                f"{self.images}",
                f"{self.median:.3f}",
                f"{self.distances[-1]:.3f}",
                f"{self.critical:.3f}",
                f"{100 * self.rejected:.0f}",
            ]
        ]


@torch.no_grad()
def latents(
    model: Bruno,
    dataset: LabelledImages,
    *,
    images: int = 1000,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> LatentsResult:
    r"""Compare latent vectors with the marginal of the process, dimension by dimension.

    The first element of a set follows :math:`N(\mu, v)`, or a Student-t distribution of that
    variance, in every latent dimension, if the flow fits the data. Elements of a class depend on
    each other, so as many classes as possible are used.

    Args:
        model: The model.
        dataset: Images of classes it was not trained on.
        images: Number of images, at most those of the data set.
        seed: Seed of the images and of the one uniform noise draw of every pixel.
        progress: Told the number of images encoded.

    Returns:
        Distances and histograms.

    Raises:
        UserError: If the number of images is below 1, or they do not fit the model.
    """
    check_whole("images", images, 1)
    rows = _spread_over_classes(dataset, min(images, len(dataset)), seed)
    z, _ = encode_dataset(
        model,
        dataset.images[rows],
        generator=generator_for(seed, Stream.LATENTS, 1),
        context=None if dataset.context is None else dataset.context[rows],
        progress=progress,
    )
    process = model.process
    prior = process.predictive(Evidence.empty(process.dim, device=model.device)).base_dist
    standard = (z.double() - process.loc) / process.variance.sqrt()
    scale = getattr(prior, "scale", process.variance.sqrt())
    cumulative = process.standard_cdf(prior, (z.double() - process.loc) / scale)
    distances = _kolmogorov_smirnov(cumulative.cpu())
    order = distances.argsort()
    shown = order[
        torch.linspace(0, len(order) - 1, _SHOWN, device="cpu", dtype=torch.float64).long()
    ]
    standard = standard.cpu()
    return LatentsResult(
        dataset=f"{dataset.name}/{dataset.split}",
        images=len(rows),
        distances=tuple(round(float(one), 6) for one in distances[order]),
        critical=1.358 / math.sqrt(len(rows)),  # of the Kolmogorov distribution
        histogram=_histogram(standard),
        dimensions=tuple(_histogram(standard[:, index]) for index in shown),
        dimension_distances=tuple(round(float(distances[index]), 6) for index in shown),
        seed=seed,
    )


def _spread_over_classes(dataset: LabelledImages, number: int, seed: int) -> Tensor:
    """Return rows of random images such that classes take turns."""
    generator = generator_for(seed, Stream.LATENTS)
    order = torch.randperm(len(dataset), generator=generator, device="cpu")
    turn = torch.zeros(len(dataset), device="cpu", dtype=torch.long)
    labels = dataset.labels[order].cpu()
    for label in range(dataset.num_classes):
        members = (labels == label).nonzero().flatten()
        turn[members] = torch.arange(len(members), device="cpu")
    return order[turn.argsort(stable=True)[:number]]


def _kolmogorov_smirnov(cumulative: Tensor) -> Tensor:
    """Return the distance from the uniform distribution of every column of ``(N, D)``."""
    ordered = cumulative.sort(0).values
    number = len(ordered)
    steps = torch.arange(1, number + 1, device="cpu", dtype=torch.float64).unsqueeze(1) / number
    above, below = (steps - ordered).amax(0), (ordered - steps + 1 / number).amax(0)
    return torch.maximum(above, below)


def _histogram(standard: Tensor) -> tuple[float, ...]:
    """Return densities of values in equal bins of ``[-RANGE, RANGE]``; others count, unseen."""
    counts = torch.histc(standard.flatten(), _BINS, -RANGE, RANGE)
    width = 2 * RANGE / _BINS
    return tuple(round(float(one), 6) for one in counts / (standard.numel() * width))
