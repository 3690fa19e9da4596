"""Tables of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from bruno.baselines.interface import Abilities
from bruno.baselines.registry import SETTINGS, SYSTEMS

_MAIN = (20, 1)

Table = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True)
class Figure:
    """A figure of a system over its seeds.

    Attributes:
        mean: Mean over the seeds.
        half_width: Half the width of its 95 % interval: of several seeds a t interval over them,
            which leaves out the choice of test episodes, the same for all seeds; of one the
            interval over test episodes, which leaves out chance in training.
    """

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.half_width:.1f}"


def figure(estimates: Sequence[dict[str, Any]]) -> Figure:
    """Return the figure of a system from its estimates with every seed.

    Args:
        estimates: As :meth:`~bruno.evaluation.interval.Estimate.to_dict` returns them.

    Example:
        >>> print(figure([{"mean": 90.0, "half_width": 1.0}]))
        90.0 ± 1.0
        >>> print(figure([{"mean": 90.0, "half_width": 1.0}, {"mean": 92.0, "half_width": 1.0}]))
        91.0 ± 12.7
    """
    means = [one["mean"] for one in estimates]
    mean = sum(means) / len(means)
    if len(means) == 1:
        half_width = estimates[0]["half_width"]
        return Figure(mean, math.inf if half_width is None else half_width)
    variance = sum((one - mean) ** 2 for one in means) / (len(means) - 1)
    quantile = float(stats.t.ppf(0.975, len(means) - 1))
    return Figure(mean, quantile * math.sqrt(variance / len(means)))


def last_measurements(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the measurements of every system at the end of training, one a seed.

    Args:
        rows: All rows of a comparison.
    """
    finished = {(row["system"], row["seed"]) for row in rows if row["kind"] == "cost"}
    last = {
        (row["system"], row["seed"]): row
        for row in rows
        if row["kind"] == "measurement" and (row["system"], row["seed"]) in finished
    }
    return {
        name: [row for (system, _), row in last.items() if system == name]
        for name in SYSTEMS
        if any(system == name for system, _ in last)
    }


def of_task(measurements: Sequence[dict[str, Any]], way: int, shot: int, name: str) -> list[Any]:
    """Return a figure of one task from measurements, one a seed.

    Args:
        measurements: Rows of kind measurement.
        way: Classes of the task.
        shot: Examples of each.
        name: Name of the figure.
    """
    return [
        task[name]
        for row in measurements
        for task in row["tasks"]
        if (task["way"], task["shot"]) == (way, shot)
    ]


def main_task(rows: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Return the one-shot task (way, shot) with the most classes that was measured.

    Args:
        rows: All rows of a comparison.
    """
    measured = [row for row in rows if row["kind"] == "measurement"]
    return max(task["way"] for row in measured for task in row["tasks"]), 1


def accuracy_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return accuracy in per cent in every task, beside the published one on Omniglot.

    Args:
        rows: All rows of a comparison.
    """
    header = ["system", *(f"{way}-way {shot}-shot" for way, shot in SETTINGS)]
    header += ["within alphabet", "steps", "published, Omniglot 20-way 1-shot"]
    body = []
    for name, measured in last_measurements(rows).items():
        cells = [
            str(figure(found)) if (found := of_task(measured, way, shot, "accuracy")) else ""
            for way, shot in SETTINGS
        ]
        published = SYSTEMS[name].published[SETTINGS.index(_MAIN)]
        within = [
            row["within_alphabet"]["accuracy"] for row in measured if "within_alphabet" in row
        ]
        steps = sum(row["step"] for row in measured) / len(measured)
        body.append(
            [
                name,
                *cells,
                str(figure(within)) if within else "",
                f"{steps:.0f}",
                "" if published is None else f"{published:.1f}",
            ]
        )
    return "accuracy, %", header, body


def probability_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return log-loss in nats and calibration error in per cent, in the main task.

    Args:
        rows: All rows of a comparison.
    """
    body = []
    way, shot = main_task(rows)
    for name, measured in last_measurements(rows).items():
        loss, tempered = (
            figure(of_task(measured, way, shot, kind)) for kind in ("log_loss", "log_loss_tempered")
        )
        error = of_task(measured, way, shot, "calibration_error")
        temperature = sum(row["temperature"] for row in measured) / len(measured)
        body.append(
            [
                name,
                f"{loss.mean:.3f} ± {loss.half_width:.3f}",
                f"{tempered.mean:.3f} ± {tempered.half_width:.3f}",
                f"{temperature:.2f}",
                f"{sum(error) / len(error):.1f}",
            ]
        )
    header = ["system", "log-loss", "with temperature", "temperature", "calibration error, %"]
    return f"log-loss in nats, {way}-way {shot}-shot", header, body


def cost_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return cost, memory and permutation spread of every system, and its abilities.

    Args:
        rows: All rows of a comparison.
    """
    header = ["system", "parameters", "adapt, ms", "decide, ms", "kB a class", "spread, nats"]
    header += ["density", "samples", "adds", "forgets", "any way"]
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["kind"] == "cost":
            first.setdefault(row["system"], row)
    body = []
    for name, row in first.items():
        abilities = SYSTEMS[name].load().abilities
        body.append(
            [
                name,
                f"{row['parameters']}",
                f"{row['adapt_ms']:.0f}",
                f"{row['decide_ms']:.1f}",
                f"{row['bytes_per_class'] / 1e3:.1f}",
                f"{row['permutation_spread']:.1e}",
                *_marks(abilities),
            ]
        )
    way, shot = next(iter(first.values()))["cost_task"] if first else _MAIN
    title = f"cost of a {way}-way {shot}-shot task in CPU time, and abilities"
    return title, header, body


def published_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the published accuracies in per cent on Omniglot, and differences from those systems.

    Args:
        rows: All rows of a comparison.
    """
    body = []
    for name in last_measurements(rows):
        entry = SYSTEMS[name]
        figures = ["" if one is None else f"{one:.1f}" for one in entry.published]
        body.append([name, *figures, entry.note])
    header = ["system", *(f"{way}-way {shot}-shot" for way, shot in SETTINGS)]
    header.append("differences of the system here")
    return "published accuracy on Omniglot, %", header, body


def _marks(abilities: Abilities) -> list[str]:
    can = (
        abilities.density,
        abilities.sampling,
        abilities.streaming,
        abilities.forgetting,
        abilities.any_way,
    )
    return ["yes" if one else "no" for one in can]


def as_markdown(table: Table) -> str:
    """Return a table in Markdown, its title above it.

    Args:
        table: Title, header and rows.
    """
    title, header, body = table
    lines = [f"**{title}**", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body), ""])
