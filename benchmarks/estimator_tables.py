"""Tables of the estimators beside other methods, from the rows of ``docs/results/estimators-*``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from comparison import above, markdown, markdown_table, summary
from experiments import rows

_RESULTS = Path(__file__).parents[1] / "docs" / "results"
_OWN = "BrunoClassifier"
_AS_THE_MODEL_SAYS = "as the model says"
_SHOWN: dict[str, Callable[[str], bool]] = {
    "all": lambda _: True,
    "methods": lambda name: not name.startswith("Bruno, "),
    "parameters": lambda name: name.startswith("Bruno"),
}
_ALL_ROWS = "all rows"
_AVERAGED = {
    "Bruno": _OWN,
    "LogisticRegression": "LogisticRegression",
    "HistGradientBoosting": "HistGradientBoosting",
}
_ON_ALL_ROWS = (_OWN, "LogisticRegression", "LDA, shrinkage", "HistGradientBoosting")


def compared(experiment: str, quantity: str, which: str = "all") -> str:
    """Return the mean of a quantity by data and method, with intervals.

    Args:
        experiment: ``few-shot``, ``wide``, ``adapt`` or ``outliers``.
        quantity: Of the rows.
        which: ``all``; the ``methods`` with their defaults; ``BrunoClassifier`` and its other
            ``parameters``; or by how much the methods are ``above`` it.
    """
    found = _rows(experiment)
    if which == "above":
        return markdown_table(summary(above(found, _OWN), quantity), _SHOWN["methods"])
    return markdown_table(summary(found, quantity), _SHOWN[which])


def open_set(kind: str) -> str:
    """Return what is ``rejected`` of known and new classes, or the ``quality`` of rejection."""
    found = _rows("open-set")
    both = [
        {**row, "figures": {name: row["figures"][name] for name in (_OWN, _AS_THE_MODEL_SAYS)}}
        for row in found
    ]
    if kind == "rejected":
        known, new = (summary(both, f"rejected of the {which}") for which in ("known", "new"))
        header = ("", "known", "new", f"known, {_AS_THE_MODEL_SAYS}", f"new, {_AS_THE_MODEL_SAYS}")
        return markdown(
            header,
            [
                [data, *(str(part[data][name]) for name in known[data] for part in (known, new))]
                for data in known
            ],
        )
    losses, areas = summary(both, "log-loss"), summary(found, "auroc")
    peers = [name for name in next(iter(areas.values())) if name not in (_OWN, _AS_THE_MODEL_SAYS)]
    header = ("", "log-loss", _AS_THE_MODEL_SAYS, "area", *(f"{name}, area" for name in peers))
    return markdown(
        header,
        [
            [
                data,
                *(str(losses[data][name]) for name in (_OWN, _AS_THE_MODEL_SAYS)),
                *(str(areas[data][name]) for name in (_OWN, *peers)),
            ]
            for data in losses
        ],
    )


def ranks() -> str:
    """Return mean ranks in log-loss, by the number of examples of each class."""
    methods: list[str] = []
    cells = {}
    for label, found in _by_shot():
        loss = means(found, "log-loss")
        own = in_all(loss)
        methods += [name for name in own if name not in methods]
        ranked = np.mean([rankdata([loss[table][m] for m in own]) for table in loss], axis=0)
        cells[label] = dict(zip(own, ranked, strict=True))
    return markdown(
        ("examples of each class", *methods),
        [
            [label, *(f"{ranked[m]:.2f}" if m in ranked else "" for m in methods)]
            for label, ranked in cells.items()
        ],
    )


def averages() -> str:
    """Return means over tables of log-loss, accuracy and calibration error."""
    quantities = (("log-loss", 2), ("accuracy", 1), ("calibration error", 1))
    header = ["examples of each class"]
    for shown in _AVERAGED:
        header += [f"{shown}: log-loss", "accuracy", "calibration error"]
    table = []
    for label, found in _by_shot():
        measured = [(means(found, quantity), digits) for quantity, digits in quantities]
        table.append([label, *(_average(*one, m) for m in _AVERAGED.values() for one in measured)])
    return markdown(header, table)


def _average(cells: dict[str, dict[str, float]], digits: int, method: str) -> str:
    """Return the mean over tables, or nothing where a method could not be fitted to all."""
    if method not in in_all(cells):
        return ""
    return f"{np.mean([of_table[method] for of_table in cells.values()]):.{digits}f}"


def on_all_rows() -> str:
    """Return the log-loss of every table with all its rows."""
    loss = means([row for row in _rows("tables") if row["shot"] == _ALL_ROWS], "log-loss")
    return markdown(
        ("", *_ON_ALL_ROWS),
        [[name, *(f"{cells[m]:.2f}" for m in _ON_ALL_ROWS)] for name, cells in loss.items()],
    )


def means(found: Sequence[dict[str, Any]], quantity: str) -> dict[str, dict[str, float]]:
    """Return means over seeds, by table and method; without methods that failed somewhere."""
    result = {}
    for name in dict.fromkeys(row["data"] for row in found):
        mine = [row["figures"] for row in found if row["data"] == name and row["figures"]]
        if mine:
            methods = [m for m in mine[0] if all(m in figures for figures in mine)]
            result[name] = {m: float(np.mean([f[m][quantity] for f in mine])) for m in methods}
    return result


def in_all(cells: dict[str, dict[str, float]]) -> list[str]:
    """Return the methods that could be fitted to all tables."""
    return [name for name in next(iter(cells.values())) if all(name in c for c in cells.values())]


def _rows(experiment: str) -> list[dict[str, Any]]:
    """Return the rows of an experiment by data and number of examples, whenever measured."""
    found = rows(_RESULTS / f"estimators-{experiment}.jsonl")
    data = list(dict.fromkeys(row["data"] for row in found))

    def place(row: dict[str, Any]) -> tuple[int, float]:
        shot = row.get("shot", 0)
        return data.index(row["data"]), math.inf if shot == _ALL_ROWS else shot

    return sorted(found, key=place)


def _by_shot() -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the rows of real tables by the number of examples, and what to call it."""
    every = _rows("tables")
    most = len({row["data"] for row in every})
    parts = []
    for shot in dict.fromkeys(row["shot"] for row in every):
        mine = [row for row in every if row["shot"] == shot]
        number = len(means(mine, "log-loss"))
        parts.append((str(shot) if number == most else f"{shot} ({number} tables)", mine))
    return parts
