"""Anomaly detection in streams: long sets of one class with planted elements of other classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.errors import UserError
from bruno.evaluation.anomaly import chance_average_precision
from bruno.evaluation.encoding import encode_dataset
from bruno.evaluation.interval import Estimate, estimate
from bruno.evaluation.streams import Stream
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for, uniform
from bruno.validation import check_share, check_whole

SEQUENTIAL, LEAVE_ONE_OUT = "bruno", "bruno, given all others"
NEIGHBOURS_PIXELS, NEIGHBOURS_LATENTS = "k-NN of pixels", "k-NN of latents"
FOREST = "isolation forest"

_NEIGHBOURS = 3
_WINDOW = 20  # positions that share a point of the curves over positions, in long streams
_FEWEST_WINDOWS = 4  # points of these curves in short streams
_SHORTEST = 3  # elements of a stream by default: two of its class and a planted one
_FEWEST_PAST = 4  # scores that quartiles are taken of


@dataclass(frozen=True)
class MethodResult:
    """Separation of planted elements from the others of their stream, by one method.

    Attributes:
        method: Its name.
        auroc: AUROC within a stream, averaged over streams: 0.5 is chance, 1 perfect.
        average_precision: Average precision within a stream, averaged over streams; chance is
            :func:`~bruno.evaluation.anomaly.chance_average_precision`.
        late_auroc: AUROC within the elements after the first ``late`` ones.
        curve: AUROC within windows of positions, in their order.
        average_precision_curve: Average precision within the same windows.
    """

    method: str
    auroc: Estimate
    average_precision: Estimate
    late_auroc: Estimate
    curve: tuple[Estimate, ...]
    average_precision_curve: tuple[Estimate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "method": self.method,
            "auroc": self.auroc.to_dict(),
            "average_precision": self.average_precision.to_dict(),
            "late_auroc": self.late_auroc.to_dict(),
            "curve": [one.to_dict() for one in self.curve],
            "average_precision_curve": [one.to_dict() for one in self.average_precision_curve],
        }


@dataclass(frozen=True)
class QuartileRule:
    """The alarm of the BRUNO paper: a score below Q1 − 1.5 IQR of the past scores of the stream.

    Attributes:
        recall: Share of planted elements with an alarm.
        false_alarm_rate: Share of other elements with an alarm.
    """

    recall: Estimate
    false_alarm_rate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "recall": self.recall.to_dict(),
            "false_alarm_rate": self.false_alarm_rate.to_dict(),
        }


@dataclass(frozen=True)
class AnomalyStreamsResult:
    """Detection of planted elements in streams, beside other methods.

    Attributes:
        dataset: Data set and split, such as ``"omniglot/test"``.
        streams: Number of streams.
        length: Elements of each.
        n_anomalies: Planted elements of each.
        late: Elements after which ``late_auroc`` and the quartile rule are measured.
        windows: First and last position of every window of the curves, counted from 1.
        methods: Results of every method, this model first.
        quartile_rule: Alarms of the paper's rule on the scores of this model.
        example: Scores of one stream, in nats, and its thresholds and planted positions.
        seed: Seed of the streams and of the dequantisation noise.
    """

    dataset: str
    streams: int
    length: int
    n_anomalies: int
    late: int
    windows: tuple[tuple[int, int], ...]
    methods: tuple[MethodResult, ...]
    quartile_rule: QuartileRule
    example: Mapping[str, list[Any]]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            **self.__dict__,
            "windows": [list(window) for window in self.windows],
            "methods": [one.to_dict() for one in self.methods],
            "quartile_rule": self.quartile_rule.to_dict(),
            "example": dict(self.example),
        }

    def rows(self) -> list[list[str]]:
        """Return method, AUROC, AUROC of late elements, and average precision; then chance."""
        rows = [
            [one.method, *map(_precise, (one.auroc, one.late_auroc, one.average_precision))]
            for one in self.methods
        ]
        rule = self.quartile_rule
        alarms = f"finds {100 * rule.recall.mean:.0f} %"
        alarms += f", false alarms {100 * rule.false_alarm_rate.mean:.1f} %"
        chance = chance_average_precision(self.length - 1, self.n_anomalies)
        rows.append(["chance", "0.5", "0.5", f"{chance:.3f}"])
        return [*rows, ["rule Q1 - 1.5 IQR on the scores of bruno", "", alarms, ""]]


@torch.no_grad()
def anomaly_streams(
    model: Bruno,
    dataset: LabelledImages,
    *,
    length: int | None = None,
    share: float = 0.1,
    streams: int = 200,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> AnomalyStreamsResult:
    r"""Measure the detection of elements of other classes that are planted in streams.

    An element scores :math:`\log p(z_n | z_{<n}) - \log p(z_n)`: how much more probable the
    elements before it make it ("set anomaly detection" of Korshunova et al., *BRUNO*, NeurIPS
    2018). Planted elements stay in the stream, so that later ones are scored given a contaminated
    set. The first element has nothing before it; it is never planted and not scored.

    Competitors have the same streams: the mean distance to the three nearest earlier elements, in
    pixels and in latent vectors, and an isolation forest of the pixels, which sees the whole stream
    at once. The model is measured in that way, too: each element given all others, from which it
    is removed by exact forgetting.

    Args:
        model: A model without context.
        dataset: Images of classes it was not trained on.
        length: Elements of a stream; by default 100, or what the smallest class is enough for.
        share: Share of planted elements.
        streams: Number of streams; classes take turns.
        seed: Seed of the streams and of the one uniform noise draw of every pixel.
        progress: Told the number of images encoded, then of streams scored.

    Returns:
        AUROC and average precision of every method, with intervals clustered by class, and alarms
        of the quartile rule.

    Raises:
        UserError: If there are fewer than two classes, a class has too few images, or a number is
            out of range.
    """
    check_whole("streams", streams, 1)
    check_share("share", share, without_zero=True, without_highest=True)
    if dataset.num_classes < 2:
        raise UserError(f"data: {dataset.name}/{dataset.split} has one class; expected at least 2")
    length, planted = _checked_length(dataset, length, share)
    rows, classes, foreign = _draw_streams(dataset, streams, length, planted, seed)
    images = dataset.images[rows.flatten()]
    z, _ = encode_dataset(
        model,
        images,
        generator=generator_for(seed, Stream.ANOMALY_STREAM_NOISE),
        progress=progress,
    )
    z = z.unflatten(0, rows.shape)
    pixels = images.flatten(1).float().unflatten(0, rows.shape).numpy() / 255
    scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _METHODS}
    for index in range(streams):
        one = _OneStream(model, z[index], pixels[index], seed)
        for name, method in _METHODS.items():
            scores[name].append(method(one))
        if progress is not None:
            progress("scoring streams", index + 1, streams)
    by_method = {name: np.stack(values) for name, values in scores.items()}
    late = _WINDOW if length >= 2 * _WINDOW else length // 2
    number = max(1, min(max(_FEWEST_WINDOWS, round(length / _WINDOW)), (length - 1) // 2))
    edges = np.linspace(1, length, number + 1).round().astype(int)
    windows = tuple((int(a) + 1, int(b)) for a, b in itertools.pairwise(edges))
    methods = tuple(
        _measured(name, values, foreign.numpy(), classes, late, windows)
        for name, values in by_method.items()
    )
    ours = by_method[SEQUENTIAL]
    thresholds = np.stack([_thresholds(row) for row in ours])
    return AnomalyStreamsResult(
        dataset=f"{dataset.name}/{dataset.split}",
        streams=streams,
        length=length,
        n_anomalies=planted,
        late=late,
        windows=windows,
        methods=methods,
        quartile_rule=_alarms(ours < thresholds, foreign.numpy(), classes, late),
        example={
            "scores": [round(float(value), 3) for value in ours[0, 1:]],
            "thresholds": [
                round(float(value), 3) if math.isfinite(value) else None
                for value in thresholds[0, 1:]
            ],
            "planted": [int(place) for place in foreign[0].nonzero().flatten()],
        },
        seed=seed,
    )


def _checked_length(dataset: LabelledImages, length: int | None, share: float) -> tuple[int, int]:
    """Return the length of streams and the number of planted elements of each."""
    smallest = int(dataset.class_sizes.min())
    name = dataset.class_names[int(dataset.class_sizes.argmin())]
    if smallest < 2:
        raise UserError(
            f"data: class {name!r} of {dataset.name}/{dataset.split} has one image; streams need "
            "at least 2 of every class"
        )
    if length is None:
        length = max(_SHORTEST, min(100, math.floor(smallest / (1 - share))))
    check_whole("length", length, 1)
    planted = max(1, round(share * length))
    if not 2 <= length - planted <= smallest:
        raise UserError(
            f"length: expected streams with at least 2 and at most {smallest} images of one "
            f"class, as many as class {name!r} of {dataset.name}/{dataset.split} has; got "
            f"{length} with {planted} of other classes"
        )
    return length, planted


def _draw_streams(
    dataset: LabelledImages, streams: int, length: int, planted: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of the data set ``(S, length)``, classes ``(S,)`` and which are planted."""
    generator = generator_for(seed, Stream.ANOMALY_STREAMS)
    order = torch.randperm(dataset.num_classes, generator=generator, device="cpu")
    classes = order[torch.arange(streams, device="cpu") % dataset.num_classes]
    table = dataset.index_table[classes]
    keys = uniform(table.shape, generator).masked_fill_(table < 0, 2.0)
    rows = table.gather(1, keys.argsort(1)[:, :length])
    if rows.shape[1] < length:  # planted elements fill the end, and are then moved
        rows = torch.cat([rows, rows[:, :1].expand(-1, length - rows.shape[1])], 1)
    own = torch.rand(
        (streams, length - 1), generator=generator, device="cpu", dtype=torch.float32
    ).argsort(1)
    places = 1 + own[:, :planted]
    foreign = torch.zeros((streams, length), device="cpu", dtype=torch.bool)
    foreign.scatter_(1, places, True)
    # The first elements of a random order of the class take the places that are not planted.
    position = (~foreign).long().cumsum(1) - 1
    rows = rows.gather(1, position.clamp_min(0))
    step = torch.randint(1, dataset.num_classes, places.shape, generator=generator, device="cpu")
    others = (classes.unsqueeze(1) + step) % dataset.num_classes
    which = uniform(places.shape, generator) * dataset.class_sizes[others]
    strange = dataset.index_table[others].gather(2, which.long().unsqueeze(2)).squeeze(2)
    return rows.scatter(1, places, strange), classes, foreign


@dataclass(frozen=True)
class _OneStream:
    """A stream as methods take it; scores are low for anomalies, shape ``(length,)``."""

    model: Bruno
    z: Tensor
    pixels: NDArray[np.float32]
    seed: int

    def sequential(self) -> NDArray[np.float64]:
        process = self.model.process
        score = process.predictive_log_prob(self.z) - process.log_prob(self.z.unsqueeze(1))
        return score.double().cpu().numpy()

    def leave_one_out(self) -> NDArray[np.float64]:
        process = self.model.process
        others = Evidence.of(self.z).expand((len(self.z),)) - Evidence.of(self.z.unsqueeze(1))
        given: Tensor = process.predictive(others).log_prob(self.z.double())
        return (given - process.log_prob(self.z.unsqueeze(1))).cpu().numpy()

    def neighbours(self, x: Tensor) -> NDArray[np.float64]:
        distances = torch.cdist(x.double(), x.double())
        scores = [0.0]
        for here in range(1, len(x)):
            nearest = distances[here, :here].sort().values[:_NEIGHBOURS]
            scores.append(-float(nearest.mean()))
        return np.array(scores)

    def forest(self) -> NDArray[np.float64]:
        fitted = IsolationForest(random_state=self.seed).fit(self.pixels)
        scores: NDArray[np.float64] = fitted.score_samples(self.pixels)
        return scores


_METHODS: dict[str, Callable[[_OneStream], NDArray[np.float64]]] = {
    SEQUENTIAL: _OneStream.sequential,
    LEAVE_ONE_OUT: _OneStream.leave_one_out,
    NEIGHBOURS_PIXELS: lambda one: one.neighbours(torch.from_numpy(one.pixels)),
    NEIGHBOURS_LATENTS: lambda one: one.neighbours(one.z.cpu()),
    FOREST: _OneStream.forest,
}


def _measured(
    name: str,
    scores: NDArray[np.float64],
    foreign: NDArray[np.bool_],
    classes: Tensor,
    late: int,
    windows: tuple[tuple[int, int], ...],
) -> MethodResult:
    """Return the figures of one method from its scores ``(S, length)``."""

    def within(first: int, last: int, figure: Callable[..., float]) -> Estimate:
        """Return the mean of a figure over the positions ``first..last``, counted from 1."""
        part = slice(first - 1, last)
        kept = [i for i, row in enumerate(foreign[:, part]) if row.any() and not row.all()]
        if not kept:
            return Estimate(math.nan, math.nan, 0)
        values = [float(figure(foreign[i, part], -scores[i, part])) for i in kept]
        return estimate(torch.tensor(values, device="cpu", dtype=torch.float64), classes[kept])

    length = scores.shape[1]
    return MethodResult(
        method=name,
        auroc=within(2, length, roc_auc_score),
        average_precision=within(2, length, average_precision_score),
        late_auroc=within(late + 1, length, roc_auc_score),
        curve=tuple(within(*window, roc_auc_score) for window in windows),
        average_precision_curve=tuple(
            within(*window, average_precision_score) for window in windows
        ),
    )


def _thresholds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Q1 − 1.5 IQR of the past scores at every position; −∞ where there are too few."""
    thresholds = np.full(len(scores), -math.inf)
    for here in range(1 + _FEWEST_PAST, len(scores)):
        first, third = np.quantile(scores[1:here], (0.25, 0.75))
        thresholds[here] = first - 1.5 * (third - first)
    return thresholds


def _alarms(
    alarms: NDArray[np.bool_], foreign: NDArray[np.bool_], classes: Tensor, late: int
) -> QuartileRule:
    """Return the shares of planted and of other elements after the first ``late`` with alarms."""
    alarms, foreign = alarms[:, late:], foreign[:, late:]
    clusters = classes.unsqueeze(1).expand(-1, alarms.shape[1]).numpy()

    def share(of: NDArray[np.bool_]) -> Estimate:
        if not of.any():
            return Estimate(math.nan, math.nan, 0)
        return estimate(
            torch.from_numpy(alarms[of].astype(np.float64)), torch.from_numpy(clusters[of])
        )

    return QuartileRule(share(foreign), share(~foreign))


def _precise(figure: Estimate) -> str:
    return f"{figure.mean:.3f} ± {figure.half_width:.3f}"
