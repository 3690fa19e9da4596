"""Figures of several methods on the same splits: measured once, kept as rows, shown as tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import norm, t

from bruno.evaluation.interval import Estimate, estimate
from bruno.provenance import provenance
from experiments import rows

Figures = dict[str, dict[str, float]]
"""Figures by method and quantity."""


def add_row(file: Path, key: dict[str, Any], measure: Callable[[], Figures]) -> None:
    """Measure and append a row, unless it is there."""
    if any(key.items() <= row.items() for row in rows(file)):
        return
    figures = measure()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.write(json.dumps({**key, **provenance(), "figures": figures}) + "\n")


def summary(found: list[dict[str, Any]], quantity: str) -> dict[str, dict[str, Estimate]]:
    """Return the mean of a quantity with its interval, by data and method.

    Intervals are those of Student's t over seeds; where classes take turns, clustered by class. A
    method that could not be fitted to every split of the data is left out there.
    """
    means: dict[str, dict[str, Estimate]] = {}
    for data in dict.fromkeys(data_of(row) for row in found):
        mine = [row for row in found if data_of(row) == data]
        methods = dict.fromkeys(name for row in mine for name in row["figures"])
        means[data] = {
            name: _of_few(
                [row["figures"][name][quantity] for row in mine],
                [row.get("normal", row["seed"]) for row in mine],
            )
            for name in methods
            if all(name in row["figures"] for row in mine)
        }
    return means


def _of_few(values: list[float], clusters: list[int]) -> Estimate:
    """Return the mean with an interval that is right for few clusters, too."""
    normal = estimate(torch.tensor(values), torch.tensor(clusters))
    wider = t.ppf(0.975, len(set(clusters)) - 1) / norm.ppf(0.975)
    return replace(normal, half_width=normal.half_width * wider)


def above(found: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return rows of what each method has more than one of them, on the same split."""
    return [
        {
            **row,
            "figures": {
                method: {key: value - row["figures"][name][key] for key, value in figures.items()}
                for method, figures in row["figures"].items()
                if method != name
            },
        }
        for row in found
    ]


def data_of(row: dict[str, Any]) -> str:
    """Return what a row is of, without its seed and class."""
    return f"{row['data']}, {row['shot']}" if "shot" in row else str(row["data"])


def markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def markdown_table(
    means: dict[str, dict[str, Estimate]], shown: Callable[[str], bool] = lambda _: True
) -> str:
    """Return estimates as a Markdown table: a row for each data set, a column for each method."""
    every = dict.fromkeys(name for cells in means.values() for name in cells)
    methods = [name for name in every if shown(name)]
    cells = [
        [data.replace("_", " "), *(str(of.get(name, "")) for name in methods)]
        for data, of in means.items()
    ]
    return markdown(("", *methods), cells)
