"""A picture of the results of every protocol: functions from results to matplotlib Axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator, NullLocator

from bruno.evaluation.anomaly_streams import SEQUENTIAL, AnomalyStreamsResult
from bruno.evaluation.correlation import CorrelationResult
from bruno.evaluation.few_shot import FewShotResult
from bruno.evaluation.generation import GenerationResult
from bruno.evaluation.interval import Estimate
from bruno.evaluation.latents import RANGE, LatentsResult
from bruno.evaluation.order_invariance import ExchangeabilityResult
from bruno.evaluation.robustness import RobustnessResult
from bruno.evaluation.set_likelihood import LikelihoodResult
from bruno.evaluation.subject import Result
from bruno.evaluation.within_alphabet import PEOPLE, WAY, WithinAlphabetResult
from bruno.reporting.figures import BLUE, DPI, VERMILION, line_axes
from bruno.reporting.plots import plot_log_likelihood_by_set_size

_GREEN, _GREY = "#009E73", "0.45"
_COLOURS = (BLUE, VERMILION, _GREEN, "#CC79A7", "#E69F00", "#56B4E9")


def plot_likelihood(results: Sequence[Result]) -> Axes:
    """Draw the curve over the size of the set, with those of the probes.

    Args:
        results: One result.
    """
    (result,) = cast("Sequence[LikelihoodResult]", results)
    ax = plot_log_likelihood_by_set_size(result)
    if result.probes is not None:
        curves = {
            "one image again and again": (result.probes.same_image, VERMILION),
            "an image of another class in front": (result.probes.contaminant_first, _GREEN),
        }
        for label, (curve, colour) in curves.items():
            ax.plot([one.mean for one in curve], color=colour, ls="--", lw=1.2, label=label)
        ax.legend(frameon=False)
    return ax


def plot_few_shot(results: Sequence[Result]) -> Axes:
    """Draw accuracies with intervals beside chance.

    Args:
        results: One for every kind of episode.
    """
    episodes = cast("Sequence[FewShotResult]", results)
    ax = line_axes()
    places = np.arange(len(episodes))
    _points(ax, places, [one.accuracy for one in episodes], BLUE, "model")
    chance = [100 / one.way for one in episodes]
    ax.plot(places, chance, "_", color=_GREY, ms=18, label="chance")
    ax.set_xticks(places, [f"{one.way}-way\n{one.shot}-shot" for one in episodes])
    ax.set(ylabel="accuracy [%]", ylim=(0, 103), xlim=(-0.6, len(episodes) - 0.4))
    ax.legend(frameon=False, loc="center right")
    return ax


def plot_within_alphabet(results: Sequence[Result]) -> Axes:
    """Draw the accuracy of every run in increasing order, with the mean and chance.

    Args:
        results: One result.
    """
    (result,) = cast("Sequence[WithinAlphabetResult]", results)
    ax = line_axes()
    ax.plot(np.arange(1, len(result.by_run) + 1), sorted(result.by_run), "o", color=BLUE, ms=5)
    ax.axhline(result.accuracy.mean, color=BLUE, lw=1, label="mean of the model")
    ax.axhline(PEOPLE, color=_GREEN, lw=1, label="people, on the official runs")
    ax.axhline(100 / WAY, color=_GREY, lw=1, ls="--", label="chance")
    ax.set(xlabel="run, from the worst to the best", ylabel="accuracy [%]", ylim=(0, 103))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, loc="center right")
    return ax


def plot_anomalies(results: Sequence[Result]) -> Axes:
    """Draw one stream with its alarms, and both figures of every method, also over positions.

    Args:
        results: One result.
    """
    (result,) = cast("Sequence[AnomalyStreamsResult]", results)
    figure = _figure((6.0, 9.0))
    grid = figure.add_gridspec(3, 2, height_ratios=(1.1, 0.8, 1))
    stream, auroc = _panel(figure, grid[0, :]), _panel(figure, grid[1, :])
    _draw_stream(stream, result)
    names = [one.method for one in result.methods]
    order = np.arange(len(names))[::-1]
    for place, one in zip(order, result.methods, strict=True):
        colour = BLUE if one.method.startswith(SEQUENTIAL) else _GREY
        auroc.errorbar(
            one.auroc.mean, place, xerr=_finite(one.auroc), fmt="o", color=colour, capsize=3
        )
    auroc.axvline(0.5, color=_GREY, lw=0.8, ls="--")
    auroc.set_yticks(order, names)
    low = min(0.45, *(one.auroc.mean - _finite(one.auroc) for one in result.methods))
    auroc.set(xlabel="AUROC within a stream (0.5 is chance)", xlim=(low, 1.01))
    auroc.set(title=f"{result.streams} streams of {result.length}, {result.n_anomalies} planted")
    by_position, precision = _panel(figure, grid[2, 0]), _panel(figure, grid[2, 1])
    _draw_positions(by_position, result, "curve", "AUROC")
    by_position.axhline(0.5, color=_GREY, lw=0.8, ls="--", label="chance")
    _draw_positions(precision, result, "average_precision_curve", "average precision")
    handles, labels = by_position.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return stream


def _draw_stream(ax: Axes, result: AnomalyStreamsResult) -> None:
    """Draw the scores of one stream, those that are planted, and the limit of the alarm."""
    scores = np.array(result.example["scores"], dtype=float)
    limits = np.array(
        [math.nan if one is None else one for one in result.example["thresholds"]], dtype=float
    )
    places = np.arange(2, len(scores) + 2)
    planted = np.isin(places - 1, result.example["planted"])
    ax.plot(places[~planted], scores[~planted], ".", color=BLUE, label="elements of the class")
    ax.plot(places[planted], scores[planted], "x", color=VERMILION, mew=2, label="planted")
    ax.plot(places, limits, color=_GREY, lw=1, label="Q1 - 1.5 IQR of the past")
    ax.set(xlabel="position in the stream", ylabel="score [nats]", title="one stream")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=8, loc="best", framealpha=0.9)


def _draw_positions(ax: Axes, result: AnomalyStreamsResult, curve: str, label: str) -> None:
    """Draw a figure of every method over windows of positions."""
    middles = [(first + last) / 2 for first, last in result.windows]
    for index, one in enumerate(result.methods):
        means = [point.mean for point in getattr(one, curve)]
        width = 1.8 if one.method.startswith(SEQUENTIAL) else 1
        ax.plot(middles, means, "o-", ms=3, lw=width, color=_COLOURS[index], label=one.method)
    ax.set(xlabel="position in the stream", title=label, ylim=(None, 1.02))
    ax.set_xlim(1, result.length)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def plot_generation(results: Sequence[Result]) -> Axes:
    """Draw how often the judge names samples as their class, over the number of examples.

    Args:
        results: One for every number of examples and latent scale.
    """
    measured = cast("Sequence[GenerationResult]", results)
    ax = line_axes()
    for colour, scale in zip(
        _COLOURS, sorted({one.latent_scale for one in measured}, reverse=True), strict=False
    ):
        rows = [one for one in measured if one.latent_scale == scale]
        label = "exact samples" if scale == 1 else f"latent scale {scale:g}"
        _points(ax, [one.given for one in rows], [one.judged for one in rows], colour, label, "-")
    ax.axhline(measured[0].real.mean, color=_GREEN, lw=1, label="real images")
    ax.axhline(100 / measured[0].way, color=_GREY, lw=1, ls="--", label="chance")
    ax.set(xlabel="examples given", ylabel="named as their class [%]", ylim=(0, 103))
    ax.set_xticks(sorted({one.given for one in measured}))
    ax.margins(x=0.1)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def plot_exchangeability(results: Sequence[Result]) -> Axes:
    """Draw differences between orders over the size of the set.

    Args:
        results: One for every size.
    """
    sizes = cast("Sequence[ExchangeabilityResult]", results)
    ax = line_axes()
    elements = [one.elements for one in sizes]
    smallest = 1e-16
    for label, colour, values in (
        ("between orders", BLUE, [one.spread for one in sizes]),
        ("sum of one-step terms minus joint", VERMILION, [one.chain_error for one in sizes]),
        ("log p itself", _GREY, [abs(one.log_prob) for one in sizes]),
    ):
        ax.plot(elements, np.maximum(values, smallest), "o-", color=colour, ms=4, label=label)
    ax.set(xscale="log", yscale="log", xlabel="elements of the set", ylabel="nats")
    ax.set_xticks(elements, [f"{number:,}" for number in elements], minor=False)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax


def plot_correlation(results: Sequence[Result]) -> Axes:
    """Draw the spectrum of correlations, and the patches of an image that move latents.

    Args:
        results: One result.
    """
    (result,) = cast("Sequence[CorrelationResult]", results)
    maps = {"correlated": result.patches, "other": result.other_patches}
    maps = {name: patches for name, patches in maps.items() if patches}
    figure = _figure((6.0, 6.0 if maps else 3.2))
    grid = figure.add_gridspec(
        1 + bool(maps), max(1, len(maps)), height_ratios=(1.2, 1)[: 1 + bool(maps)]
    )
    first = _panel(figure, grid[0, :])
    first.plot(np.arange(1, len(result.spectrum) + 1), result.spectrum, color=BLUE)
    first.set(xscale="log", xlabel="latent dimension, by correlation", ylabel=r"$\rho / v$")
    first.set_ylim(-0.02, 1.02)
    highest = max((max(map(max, patches)) for patches in maps.values()), default=1.0)
    for column, (name, patches) in enumerate(maps.items()):
        ax = _panel(figure, grid[1, column])
        ax.imshow(np.array(patches), vmin=0, vmax=highest, cmap="viridis")
        ax.set(title=f"{name} dimensions", xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.set_xlabel("brighter: moved more by\nthis part of an image", fontsize=9)
    return first


def plot_latents(results: Sequence[Result]) -> Axes:
    """Draw histograms of standardised latent values against the standard normal density.

    Args:
        results: One result.
    """
    (result,) = cast("Sequence[LatentsResult]", results)
    figure = _figure((6.0, 6.0))
    grid = figure.add_gridspec(3, 3, height_ratios=(2, 1, 1))
    main = figure.add_subplot(grid[0, :])
    _histogram(main, result.histogram, "all dimensions")
    main.set(xlabel="standardised latent value", ylabel="density")
    main.legend(frameon=False, fontsize=8, loc="upper left")
    for index, (values, distance) in enumerate(
        zip(result.dimensions, result.dimension_distances, strict=True)
    ):
        ax = figure.add_subplot(grid[1 + index // 3, index % 3])
        _histogram(ax, values, f"distance {distance:.2f}")
        ax.title.set_fontsize(9)
        ax.set(xticks=[-3, 0, 3], yticks=[])
    return main


def plot_robustness(results: Sequence[Result]) -> Axes:
    """Draw accuracy over the number of contaminants, for every process.

    Args:
        results: One for every process.
    """
    processes = cast("Sequence[RobustnessResult]", results)
    ax = line_axes()
    for index, (one, colour) in enumerate(zip(processes, _COLOURS, strict=False)):
        label = f"{one.process} (trained)" if one.trained else one.process
        shifted = [number + 0.04 * (index - len(processes) / 2) for number in one.contaminants]
        _points(ax, shifted, one.accuracy, colour, label, "-")
    first = processes[0]
    ax.axhline(100 / first.way, color=_GREY, lw=1, ls="--", label="chance")
    ax.set(xlabel=f"contaminants among {first.shot} support images", ylim=(0, 103))
    ax.set(ylabel=f"{first.way}-way accuracy [%]", xticks=first.contaminants)
    ax.legend(fontsize=8, loc="center left", framealpha=0.9)
    return ax


PICTURES: dict[str, Callable[[Sequence[Result]], Axes]] = {
    "likelihood": plot_likelihood,
    "few_shot": plot_few_shot,
    "within_alphabet": plot_within_alphabet,
    "anomalies": plot_anomalies,
    "generation": plot_generation,
    "exchangeability": plot_exchangeability,
    "correlation": plot_correlation,
    "latents": plot_latents,
    "robustness": plot_robustness,
}
"""The picture of every protocol whose results are enough for one; not of conditional models."""


def _histogram(ax: Axes, values: Sequence[float], title: str) -> None:
    edges = np.linspace(-RANGE, RANGE, len(values) + 1)
    ax.stairs(values, edges, fill=True, color=BLUE, alpha=0.5, label="latent values")
    x = np.linspace(-RANGE, RANGE, 200)
    normal = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    ax.plot(x, normal, color=VERMILION, lw=1, label="standard normal")
    ax.set_title(title)


def _points(
    ax: Axes,
    places: Any,
    estimates: Sequence[Estimate],
    colour: str,
    label: str,
    line: str = "",
) -> None:
    means = [one.mean for one in estimates]
    errors = [_finite(one) for one in estimates]
    ax.errorbar(places, means, errors, fmt=f"o{line}", color=colour, ms=4, capsize=3, label=label)


def _finite(figure: Estimate) -> float:
    """Return the half width of an interval, or 0 where it is infinite."""
    return figure.half_width if math.isfinite(figure.half_width) else 0.0


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panel(figure: Figure, place: SubplotSpec) -> Axes:
    """Return axes at a place of the grid of a figure."""
    ax = figure.add_subplot(place)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.6)
    return ax
