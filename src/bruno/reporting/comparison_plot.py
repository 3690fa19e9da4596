"""The picture of a comparison: accuracy and log-loss over CPU minutes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from bruno.baselines.registry import SYSTEMS
from bruno.comparison.summary import figure, of_task
from bruno.reporting.figures import DPI

_STYLES = {"model": "-", "metric": "--", "optimisation": ":", "generative": "-.", "transfer": ":"}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^vDP*"


def comparison_figure(rows: Sequence[dict[str, Any]], way: int, shot: int) -> Figure:
    """Draw accuracy and log-loss of every system over CPU minutes, with 95 % intervals.

    Systems are in the order of their accuracy at the end. A dashed line is chance.

    Args:
        rows: All rows of a comparison.
        way: Classes of the task.
        shot: Examples of each.

    Returns:
        A figure of two axes.
    """
    canvas = Figure(figsize=(12, 5.2), dpi=DPI, layout="constrained")
    accuracy, log_loss = canvas.subplots(1, 2)
    names = [name for name in SYSTEMS if any(_curve(rows, name, way, shot, "accuracy"))]
    names.sort(key=lambda name: -_curve(rows, name, way, shot, "accuracy")[-1][1])
    for name in names:
        for axes, kind in ((accuracy, "accuracy"), (log_loss, "log_loss")):
            _draw(axes, name, _curve(rows, name, way, shot, kind))
    accuracy.axhline(100 / way, color="0.6", linestyle=(0, (2, 4)))
    accuracy.set_ylabel(f"accuracy, {way}-way {shot}-shot [%]")
    log_loss.set_ylabel("log-loss [nats]")
    log_loss.set_yscale("log")
    log_loss.yaxis.set_major_formatter(ScalarFormatter())
    log_loss.yaxis.set_minor_formatter(ScalarFormatter())
    for axes in (accuracy, log_loss):
        axes.set_xlabel("CPU time of training [minutes, one thread]")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter("")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    minutes = sorted(
        {round(x, 1) for name in names for x, _, _ in _curve(rows, name, way, shot, "accuracy")}
    )
    for axes in (accuracy, log_loss):
        axes.set_xticks(_apart(minutes))
        axes.set_xlim(0.8 * min(minutes), 1.3 * max(minutes))
    handles, labels = accuracy.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return canvas


def _apart(minutes: list[float]) -> list[float]:
    """Return ticks that do not overlap: each at least a third more than the one before."""
    ticks: list[float] = []
    for value in minutes:
        if value > 0 and (not ticks or value > 1.33 * ticks[-1]):
            ticks.append(value)
    return ticks


def _draw(axes: Axes, name: str, curve: list[tuple[float, float, float]]) -> None:
    index = list(SYSTEMS).index(name)
    minutes, means, widths = zip(*curve, strict=True)
    axes.errorbar(
        minutes,
        means,
        yerr=widths,
        label=name,
        color=_COLOURS[index % len(_COLOURS)],
        marker=_MARKERS[index // len(_COLOURS) + index % len(_MARKERS) - len(_MARKERS)],
        linestyle=_STYLES[SYSTEMS[name].family],
        linewidth=2.5 if name == "bruno" else 1.4,
        capsize=2,
        markersize=5,
    )


def _curve(
    rows: Sequence[dict[str, Any]], name: str, way: int, shot: int, kind: str
) -> list[tuple[float, float, float]]:
    """Return CPU minutes, mean and half width at every mark that all seeds have reached."""
    by_seed: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "measurement" and row["system"] == name:
            by_seed.setdefault(row["seed"], []).append(row)
    curve = []
    for together in zip(*by_seed.values(), strict=False):
        found = of_task(together, way, shot, kind)
        if found:
            minutes = sum(row["cpu_minutes"] for row in together) / len(together)
            mean = figure(found)
            curve.append((minutes, mean.mean, mean.half_width))
    return curve
