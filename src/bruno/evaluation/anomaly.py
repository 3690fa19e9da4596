"""Anomaly detection: sets of one class that contain a few images of other classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import sample_sets
from bruno.errors import UserError
from bruno.evaluation.encoding import encode_dataset
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.streams import Stream
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for, uniform
from bruno.validation import check_whole


@dataclass(frozen=True)
class AnomalyResult:
    """Separation of images of other classes from the rest of their set.

    Attributes:
        dataset: Data set and split, such as ``"omniglot/test"``.
        sets: Number of sets.
        set_size: Images in each, the anomalies included.
        n_anomalies: Images of other classes in each.
        auroc: Area under the receiver operating characteristic within a set, averaged over sets:
            0.5 is chance, 1 perfect.
        average_precision: Average precision within a set, averaged over sets; chance is about
            ``n_anomalies / (set_size - 1)``.
        seed: Seed of the sets and of the dequantisation noise.
    """

    dataset: str
    sets: int
    set_size: int
    n_anomalies: int
    auroc: Estimate
    average_precision: Estimate
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        estimates = {
            "auroc": self.auroc.to_dict(),
            "average_precision": self.average_precision.to_dict(),
        }
        return self.__dict__ | estimates

    def rows(self) -> list[list[str]]:
        """Return anomalies per set, area under the curve, average precision and sets."""
        auroc, average_precision = (
            f"{one.mean:.3f} ± {one.half_width:.3f}" for one in (self.auroc, self.average_precision)
        )
        return [
            [f"{self.n_anomalies} of {self.set_size}", auroc, average_precision, f"{self.sets}"]
        ]


@torch.no_grad()
def set_anomalies(
    model: Bruno,
    dataset: LabelledImages,
    *,
    set_size: int = 20,
    n_anomalies: int = 2,
    sets_per_class: int = 1,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> AnomalyResult:
    r"""Measure the detection of images of other classes in sets of one class.

    An image scores :math:`\log p(z_n | z_{<n}) - \log p(z_n)`: how much more likely the images
    before it make it ("set anomaly detection" of Korshunova et al., *BRUNO*, NeurIPS 2018). The
    anomalies stay in the set, so later images are scored by a contaminated support.
    The first image has nothing before it; it is never an anomaly and not scored.

    Args:
        model: The model.
        dataset: Images of classes it was not trained on.
        set_size: Images in a set, the anomalies included.
        n_anomalies: How many of them are of other classes, each of a random one.
        sets_per_class: Sets of every class.
        seed: Seed of the sets and of the one uniform noise draw of every pixel.
        progress: Told the number of images encoded.

    Returns:
        AUROC and average precision, with intervals.

    Raises:
        UserError: If there are fewer than two classes, a class has too few images, or a number
            leaves no anomaly or no other image.
    """
    check_whole("set_size", set_size, 3)
    check_whole("n_anomalies", n_anomalies, 1)
    if n_anomalies > set_size - 2:
        raise UserError(
            f"n_anomalies: expected at most set_size - 2 = {set_size - 2}, got {n_anomalies}"
        )
    check_whole("sets_per_class", sets_per_class, 1)
    if dataset.num_classes < 2:
        raise UserError(f"data: {dataset.name}/{dataset.split} has one class; expected at least 2")
    generator = generator_for(seed, Stream.ANOMALY_SETS)
    drawn = [
        sample_sets(dataset, dataset.num_classes, set_size, generator)
        for _ in range(sets_per_class)
    ]
    classes = torch.cat([part.classes for part in drawn])
    images = torch.cat([part.images for part in drawn])
    contexts = [part.context for part in drawn if part.context is not None]
    context = torch.cat(contexts) if contexts else None
    foreign = _plant(images, context, classes, dataset, n_anomalies, generator)
    z, _ = encode_dataset(
        model,
        images.flatten(0, 1),
        generator=generator_for(seed, Stream.ANOMALY_NOISE),
        context=None if context is None else context.flatten(0, 1),
        progress=progress,
    )
    scores = _scores(model, z.unflatten(0, foreign.shape)).cpu()
    truth, wrongness = foreign[:, 1:].numpy(), -scores[:, 1:].numpy()
    pairs = list(zip(truth, wrongness, strict=True))
    auroc, average_precision = (
        torch.tensor([score(*pair) for pair in pairs], device="cpu", dtype=torch.float64)
        for score in (roc_auc_score, average_precision_score)
    )
    return AnomalyResult(
        dataset=f"{dataset.name}/{dataset.split}",
        sets=len(classes),
        set_size=set_size,
        n_anomalies=n_anomalies,
        auroc=estimate(auroc, classes),
        average_precision=estimate(average_precision, classes),
        seed=seed,
    )


def _plant(
    images: Tensor,
    context: Tensor | None,
    classes: Tensor,
    dataset: LabelledImages,
    n_anomalies: int,
    generator: torch.Generator,
) -> Tensor:
    """Replace some images of every set, in place, and return which: bool ``(S, n)``."""
    sets, size = images.shape[:2]
    places = 1 + uniform((sets, size - 1), generator).argsort(1)[:, :n_anomalies]
    step = torch.randint(
        1, dataset.num_classes, places.shape, generator=generator, device=generator.device
    )
    contaminating = (classes.unsqueeze(1) + step) % dataset.num_classes
    which = uniform(places.shape, generator) * dataset.class_sizes[contaminating]
    rows = dataset.index_table[contaminating].gather(2, which.long().unsqueeze(2)).squeeze(2)
    here = torch.arange(sets, device=generator.device).unsqueeze(1)
    images[here, places] = dataset.images[rows]
    if context is not None and dataset.context is not None:
        context[here, places] = dataset.context[rows]
    foreign = torch.zeros(sets, size, device=generator.device, dtype=torch.bool)
    foreign[here, places] = True
    return foreign


def _scores(model: Bruno, z: Tensor) -> Tensor:
    """Return log p(z_n | z_<n) − log p(z_n), ``(S, n, D) -> (S, n)``."""
    process = model.process
    return torch.stack(
        [process.predictive_log_prob(part) - process.log_prob(part.unsqueeze(1)) for part in z]
    )


def chance_average_precision(elements: int, anomalies: int) -> float:
    """Return the expected average precision of a random order, which exceeds the share if few.

    Place ``i`` holds an anomaly with probability ``anomalies / elements``; the precision there is
    then ``(1 + (i - 1) (anomalies - 1) / (elements - 1)) / i`` on average.

    Args:
        elements: Number of elements, at least 2.
        anomalies: How many of them are anomalies, at least 1.
    """
    place = np.arange(1, elements + 1)
    before = (place - 1) * (anomalies - 1) / (elements - 1)
    return float(((1 + before) / place).mean())
