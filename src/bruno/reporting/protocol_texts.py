"""What results of protocols mean, in sentences: with chance and reference levels, and terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from bruno.data.dataset import LabelledImages
from bruno.evaluation.anomaly_streams import AnomalyStreamsResult
from bruno.evaluation.correlation import CorrelationResult
from bruno.evaluation.few_shot import FewShotResult
from bruno.evaluation.generation import GenerationResult
from bruno.evaluation.interval import Estimate
from bruno.evaluation.latents import LatentsResult
from bruno.evaluation.order_invariance import ExchangeabilityResult
from bruno.evaluation.robustness import RobustnessResult
from bruno.evaluation.set_likelihood import LikelihoodResult
from bruno.evaluation.subject import Result
from bruno.evaluation.suite import Evaluation
from bruno.evaluation.within_alphabet import PEOPLE, WAY, WithinAlphabetResult
from bruno.reporting.page import Tile

_DRAWS = 1 / 3
"""Share of the way from chance to real images from which a model counts as drawing."""

_NATS = ("nats", "unit of natural logarithms; 1 nat is a factor of 2.72 in density")
_INTERVAL = ("±", "95 % interval, clustered by class")

TERMS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "likelihood": (
        _NATS,
        (
            "negative log-likelihood",
            "minus the log-density of an image; smaller is better. Only differences mean something",
        ),
        ("bits/dim", "the same per pixel, to base 2; uniform noise has 8"),
        ("position", "how many images of the set were seen before, plus one"),
        _INTERVAL,
    ),
    "few_shot": (
        ("5-way 1-shot", "one query, five classes to choose from, one example of each"),
        ("decision", "one query against its classes; ties count as wrong"),
        _INTERVAL,
    ),
    "within_alphabet": (
        (
            "run",
            "one drawer's example of each of 20 characters of an alphabet, and another drawer's "
            "query of each",
        ),
        ("official runs", "those of Lake et al. 2015, which people were given, too"),
        ("±", "95 % interval, clustered by run"),
    ),
    "anomalies": (
        ("score", "log p(x | images before) - log p(x): how much more probable the others make it"),
        (
            "AUROC",
            "probability that a planted image scores lower than another one; 0.5 is chance, 1 "
            "perfect",
        ),
        ("average precision", "share of planted images among those flagged, averaged over recall"),
        ("given all others", "each image is forgotten exactly, then scored given the rest"),
        ("k-NN", "mean distance to the three nearest earlier images"),
        ("isolation forest", "sees the whole stream at once"),
        ("Q1 - 1.5 IQR", "lower quartile of the past scores minus 1.5 times their quartile range"),
    ),
    "generation": (
        ("judge", "a classifier that was trained apart, with other examples of the classes"),
        ("exact samples", "drawn from the predictive distribution as it is (latent scale 1)"),
        ("variance, spread, nearest", "of samples, relative to the same figure of real images"),
    ),
    "exchangeability": (
        ("exchangeable", "the joint density does not depend on the order of a set"),
        ("spread", "largest minus smallest log-density over the orders; 0 is drawn at 1e-16"),
        ("chain minus joint", "sum of the one-step-ahead terms minus the joint log-density"),
        _NATS,
    ),
    "correlation": (
        ("latent dimension", "a coordinate of the image after the invertible network"),
        ("rho / v", "correlation of two images of a class in that coordinate, between 0 and 1"),
    ),
    "latents": (
        (
            "Kolmogorov-Smirnov distance",
            "largest difference between the cumulative distribution of the values and the one the "
            "process assumes",
        ),
    ),
    "robustness": (
        ("contaminant", "an image of another class among the examples of a class"),
        ("df", "degrees of freedom of the Student-t process; many are nearly Gaussian"),
    ),
}
"""Terms of every protocol with their meanings."""


def sentence_of(name: str, results: Sequence[Result]) -> str:
    """Return what results of a protocol mean, in a sentence or two; nothing if none is known.

    Args:
        name: Name of the protocol.
        results: Its results.
    """
    return _SENTENCES[name](results) if name in _SENTENCES else ""


def lead_of(evaluation: Evaluation, dataset: LabelledImages, trained_classes: bool) -> str:
    """Return the first sentence of a page.

    Args:
        evaluation: What was measured.
        dataset: The data it was measured on.
        trained_classes: Whether some of its classes were trained on.
    """
    origin = "were also trained on" if trained_classes else "were not trained on"
    return (
        f"Measured on {len(dataset):,} images of {dataset.num_classes:,} classes of "
        f"{evaluation.dataset} that {origin}, without retraining."
    )


def tiles_of(evaluation: Evaluation) -> list[Tile]:
    """Return the figures for the top of a page, each with what to compare it with.

    Args:
        evaluation: What was measured.
    """
    tiles = []
    results = evaluation.results
    if "few_shot" in results:
        hardest = cast("FewShotResult", results["few_shot"][-1])
        tiles.append(
            Tile(
                f"{hardest.accuracy.mean:.1f} %",
                f"{hardest.way}-way {hardest.shot}-shot accuracy",
                f"chance {100 / hardest.way:.0f} %",
            )
        )
    if "likelihood" in results:
        nll = cast("LikelihoodResult", results["likelihood"][0])
        tiles.append(
            Tile(
                f"{nll.bits_per_dim.mean:.3f} bits/dim",
                f"{nll.nll.mean:.0f} nats per image",
                "uniform noise: 8 bits/dim",
            )
        )
    if "generation" in results:
        one = _exact(cast("Sequence[GenerationResult]", results["generation"]))
        tiles.append(
            Tile(
                f"{one.judged.mean:.0f} %",
                f"of samples given {one.given} recognised",
                f"chance {100 / one.way:.0f} %, real images {one.real.mean:.0f} %",
            )
        )
    if "anomalies" in results:
        stream = cast("AnomalyStreamsResult", results["anomalies"][0])
        rival = max(stream.methods[2:], key=lambda method: method.auroc.mean)
        tiles.append(
            Tile(
                f"{stream.methods[0].auroc.mean:.3f}",
                "AUROC of planted anomalies",
                f"chance 0.5, {rival.method} {rival.auroc.mean:.3f}",
            )
        )
    return tiles


def _likelihood(results: Sequence[Any]) -> str:
    result: LikelihoodResult = results[0]
    gain = result.conditioning_gain
    size = result.set_size
    text = (
        f"An image costs {result.nll.mean:.0f} nats on average ({result.bits_per_dim.mean:.3f} "
        f"bits/dim); pixels of uniform noise would cost {result.dim * math.log(256):.0f}. "
    )
    if _is_clear(gain):
        verb = "gain" if gain.mean > 0 else "lose"
        text += f"{size - 1} examples of its class {verb} {abs(gain.mean):.1f} ± "
        text += f"{gain.half_width:.1f} nats."
    elif size > 1:
        text += f"No gain from {size - 1} examples of its class is measurable: {gain} nats."
    if result.probes is not None:
        same = result.probes.same_image
        text += (
            f" One image shown again and again gains {same[0].mean - same[-1].mean:.0f} nats; an "
            "image of another class in front costs "
            f"{result.probes.contaminant_cost} nats per image."
        )
    return text


def _few_shot(results: Sequence[Any]) -> str:
    shots: Sequence[FewShotResult] = results
    best = shots[-1]
    rotated = " in each of four rotations" if best.rotations else ""
    times = "once" if best.trials == 1 else f"{best.trials} times"
    return (
        f"Given {_number(best.shot, 'example')} of each of {best.way} classes, the model assigns "
        f"{best.accuracy} % of new images to the right one; guessing assigns "
        f"{100 / best.way:.0f} %. Every class was queried {times}{rotated}."
    )


def _within_alphabet(results: Sequence[Any]) -> str:
    result: WithinAlphabetResult = results[0]
    kind = "the official runs" if result.official else "runs drawn from the test alphabets"
    return (
        f"Characters of one alphabet resemble each other. In {kind}, one example given of each of "
        f"{WAY} characters, the model assigns {result.accuracy} % of another drawer's characters "
        f"to the right one; guessing assigns {100 / WAY:.0f} %, and people assigned {PEOPLE} % on "
        "the official runs."
    )


def _anomalies(results: Sequence[Any]) -> str:
    result: AnomalyStreamsResult = results[0]
    ours, other, *rivals = result.methods
    rival = max(rivals, key=lambda method: method.auroc.mean)
    rule = result.quartile_rule
    return (
        f"In streams of {result.length} images of a class, {_number(result.n_anomalies, 'image')} "
        f"of other classes {'is' if result.n_anomalies == 1 else 'are'} planted. Scored one after "
        f"the other, they are separated with an AUROC of {_precise(ours.auroc)} (chance 0.5), "
        f"{_precise(ours.late_auroc)} after the first {result.late}; given all others, with "
        f"{_precise(other.auroc)}. The best other method, {rival.method}, reaches "
        f"{_precise(rival.auroc)}. As an alarm, the rule Q1 - 1.5 IQR finds "
        f"{100 * rule.recall.mean:.0f} % of them, with false alarms at "
        f"{100 * rule.false_alarm_rate.mean:.1f} % of the other images."
    )


def _generation(results: Sequence[Any]) -> str:
    one = _exact(results)
    chance = 100 / one.way
    text = (
        f"An independent judge assigns {one.judged} % of exact samples given "
        f"{_number(one.given, 'example')} to their class among {one.way}; by chance it would be "
        f"{chance:.0f} %, and of real images it is {one.real} %. "
    )
    if one.judged.mean - chance < _DRAWS * (one.real.mean - chance):
        text += "So this model does not draw what it is given, however well it classifies."
    return text


def _exchangeability(results: Sequence[Any]) -> str:
    largest: ExchangeabilityResult = results[-1]
    return (
        f"The log-density of a set of {largest.elements:,} images differs between orders by "
        f"{largest.spread:.1e} of {abs(largest.log_prob):.1e} nats: rounding, and nothing else."
    )


def _correlation(results: Sequence[Any]) -> str:
    result: CorrelationResult = results[0]
    _, half, tenth, _ = result.above
    return (
        f"Images of a set inform each other through correlated latent dimensions only. {tenth} of "
        f"{len(result.spectrum)} have a correlation above 0.1, {half} above 0.5."
    )


def _latents(results: Sequence[Any]) -> str:
    result: LatentsResult = results[0]
    return (
        f"With {result.images:,} images, {100 * result.rejected:.0f} % of the latent dimensions "
        "differ measurably from the distribution that the process assumes; of a perfect model it "
        f"would be 5 %. The median distance is {result.median:.3f}."
    )


def _robustness(results: Sequence[Any]) -> str:
    processes: Sequence[RobustnessResult] = results
    first, *others = processes
    best = max(others, key=lambda one: one.accuracy[-1].mean)
    return (
        f"With {first.contaminants[-1]} of {first.shot} examples of every class replaced by "
        f"images of other classes, accuracy goes from {first.accuracy[0].mean:.1f} to "
        f"{first.accuracy[-1].mean:.1f} % under the trained process ({first.process}). The best of "
        f"the others, which were not trained again, is {best.process}: "
        f"{best.accuracy[-1].mean:.1f} %. Chance is {100 / first.way:.0f} %."
    )


_SENTENCES: Mapping[str, Callable[[Sequence[Any]], str]] = {
    "likelihood": _likelihood,
    "few_shot": _few_shot,
    "within_alphabet": _within_alphabet,
    "anomalies": _anomalies,
    "generation": _generation,
    "exchangeability": _exchangeability,
    "correlation": _correlation,
    "latents": _latents,
    "robustness": _robustness,
}


def _exact(results: Sequence[GenerationResult]) -> GenerationResult:
    """Return the result of exact samples given five examples, or the most there are."""
    exact = [one for one in results if one.latent_scale == 1.0] or list(results)
    return next((one for one in exact if one.given == 5), exact[-1])


def _is_clear(figure: Estimate) -> bool:
    """Whether an interval leaves out zero."""
    return abs(figure.mean) > figure.half_width


def _number(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"


def _precise(figure: Estimate) -> str:
    return f"{figure.mean:.3f} ± {figure.half_width:.3f}"
