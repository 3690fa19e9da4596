"""The scikit-learn estimators beside those of scikit-learn, on the same splits.

    OMP_NUM_THREADS=1 python benchmarks/estimators.py [--only few_shot wide adapt] [--seeds 20]

``few_shot``: scikit-learn's bundled tables with 1 to 30 examples per class. ``wide``: the same with
digits and all products of two of their pixels, 2144 columns. ``adapt``: digits 5-9
from a handful of each, with transfer from classes 0-4, and built-in characters as principal
components, with what 683 others have. Rows are added to
``docs/results/estimators-*.jsonl``; those that are there are not measured again. Draws
``docs/images/estimators-*.png``; ``results_tables.py`` makes the tables of the documentation.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator
from sklearn import datasets
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from bruno import BrunoClassifier
from bruno.data import load_dataset
from bruno.evaluation.interval import Estimate
from comparison import Figures, add_row, summary
from experiments import rows

_DOCS = Path(__file__).parents[1] / "docs"
_FIRST_SEED = 100  # the defaults were chosen on splits of seeds 0 to 11
_TABLES = ("digits", "wine", "breast_cancer", "iris")
_SHOTS = (1, 3, 5, 10)
_TABLE_SHOTS = (*_SHOTS, 30)
_MOST_TESTED = 500
_MOST_CLASSES = 20
# Of 10, 20, 40 and 63, the number that did best on the validation characters of glyphs.
_MOST_DIRECTIONS = 20
_BINS = 15
_SMALLEST_PROBABILITY = 1e-15

Split = tuple[np.ndarray, np.ndarray]
"""Rows to learn from and rows to be tested on."""
Table = tuple[np.ndarray, np.ndarray]
"""Elements ``(N, D)`` and their classes ``(N,)``."""


def table(name: str) -> Table:
    """Return a bundled table of scikit-learn, ``(N, D)`` and ``(N,)``."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x.astype(np.float64), y


class CommonScaler(TransformerMixin, BaseEstimator):
    """Divides all columns by one number, the root of their mean variance."""

    def fit(self, x: np.ndarray, y: Any = None) -> CommonScaler:  # noqa: ARG002
        """Take the number from a table ``(N, D)``."""
        self.scale_ = float(np.sqrt(x.var(0).mean())) or 1.0
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Return the table divided by it."""
        return x / self.scale_


def few_of_each(y: np.ndarray, shot: int, seed: int) -> Split:
    """Return so many rows of every class, and at most 500 of the others."""
    rng = np.random.default_rng(seed)
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(y == label))[:shot] for label in np.unique(y)]
    )
    return chosen, rng.permutation(np.setdiff1d(np.arange(len(y)), chosen))[:_MOST_TESTED]


def scored(proba: np.ndarray, classes: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return accuracy, log-loss and expected calibration error of class probabilities.

    Args:
        proba: The probabilities, ``(N, K)``.
        classes: What the columns stand for, ``(K,)``.
        truth: The classes, ``(N,)``.

    Returns:
        Accuracy and calibration error (15 bins of equal width of the largest probability) in
        per cent, the mean log-loss in nats.
    """
    proba = np.clip(proba, _SMALLEST_PROBABILITY, 1)
    right = classes[proba.argmax(1)] == truth
    surest = proba.max(1)
    bins = np.minimum((surest * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(bins, right - surest, _BINS)
    of_truth = proba[np.arange(len(truth)), np.searchsorted(classes, truth)]
    return {
        "accuracy": round(100 * float(right.mean()), 4),
        "log-loss": round(-float(np.log(of_truth).mean()), 6),
        "calibration error": round(100 * float(np.abs(gap).sum() / len(truth)), 4),
    }


def classifiers(shot: int, seed: int) -> dict[str, Any]:
    """Return what is compared on the bundled tables; Bruno's first."""
    others = {
        "GaussianNB": GaussianNB(),
        "LDA, shrinkage": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "LogisticRegression": LogisticRegression(max_iter=2000),
        "KNeighbors": KNeighborsClassifier(n_neighbors=min(shot, 5)),
    }
    if shot > 1:  # one example of a class cannot be both learnt from and held out
        others["SVC, calibrated"] = CalibratedClassifierCV(SVC(), cv=min(shot, 5), ensemble=False)
    return {
        "BrunoClassifier": BrunoClassifier(random_state=seed),
        "Bruno, gaussian": BrunoClassifier(process="gaussian", random_state=seed),
        "Bruno, diagonal": BrunoClassifier(flow="diagonal", random_state=seed),
        "Bruno, per-feature scale": BrunoClassifier(scale="per_feature", random_state=seed),
        "Bruno, temperature 1": BrunoClassifier(temperature=1.0),
        "LogisticRegression, common scale": make_pipeline(
            CommonScaler(), LogisticRegression(max_iter=2000)
        ),
        **{name: make_pipeline(StandardScaler(), other) for name, other in others.items()},
    }


def compare_classifiers(
    methods: dict[str, Any], x: np.ndarray, y: np.ndarray, split: Split
) -> Figures:
    """Return the figures of all that can be fitted to these few examples."""
    learn, test = split
    figures = {}
    for name, method in methods.items():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            # Without any spread within classes LDA ends in an error or in values that are none.
            try:
                proba = method.fit(x[learn], y[learn]).predict_proba(x[test])
            except (ValueError, np.linalg.LinAlgError):
                continue
        if not np.isnan(proba).any():
            figures[name] = scored(proba, np.unique(y), y[test])
    return figures


def few_shot(file: Path, seeds: Iterable[int]) -> None:
    """Measure what is missing on the bundled tables."""
    for seed in seeds:
        for name in _TABLES:
            x, y = table(name)
            for shot in _TABLE_SHOTS:
                add_row(
                    file,
                    {"data": name, "shot": shot, "seed": seed},
                    lambda x=x, y=y, shot=shot, seed=seed: compare_classifiers(
                        classifiers(shot, seed), x, y, few_of_each(y, shot, seed)
                    ),
                )


def wide(file: Path, seeds: Iterable[int]) -> None:
    """Measure what is missing on a table of many columns."""
    x, y = table("digits")
    x = PolynomialFeatures(2, include_bias=False).fit_transform(x)
    for seed in seeds:
        methods = {
            "BrunoClassifier": BrunoClassifier(random_state=seed),
            "Bruno, diagonal": BrunoClassifier(flow="diagonal", random_state=seed),
            "Bruno, temperature 1": BrunoClassifier(temperature=1.0),
            "LogisticRegression, common scale": make_pipeline(
                CommonScaler(), LogisticRegression(max_iter=2000)
            ),
            "LogisticRegression": make_pipeline(
                StandardScaler(), LogisticRegression(max_iter=2000)
            ),
        }
        for shot in _TABLE_SHOTS:
            add_row(
                file,
                {"data": "digits and products", "shot": shot, "seed": seed},
                lambda methods=methods, shot=shot, seed=seed: compare_classifiers(
                    methods, x, y, few_of_each(y, shot, seed)
                ),
            )


def adapt(file: Path, seeds: Iterable[int]) -> None:
    """Measure what is missing on new classes, with transfer from other classes."""
    x, y = table("digits")
    adapt_to(
        file,
        "digits 5-9 after 0-4",
        (x[y < 5], y[y < 5]),
        (x[y >= 5], y[y >= 5]),
        seeds,
        StandardScaler(),
    )
    adapt_to(file, "20 glyphs after 683", *embedded_glyphs(), seeds, "passthrough")


def embedded_glyphs() -> tuple[Table, Table]:
    """Return principal components of the built-in characters, of training and of test scripts."""
    train, test = (load_dataset("glyphs", split) for split in ("train", "test"))
    images, more = (part.images.flatten(1).double().numpy() / 255 for part in (train, test))
    components = PCA(64, random_state=_FIRST_SEED).fit(images)
    return (
        (components.transform(images), train.labels.numpy()),
        (components.transform(more), test.labels.numpy()),
    )


def adapt_to(
    file: Path,
    name: str,
    other: Table,
    new: Table,
    seeds: Iterable[int],
    scaler: Any,
) -> None:
    """Measure what is missing on a handful of each of at most 20 new classes, drawn by the seed.

    Args:
        file: Where rows are.
        name: Of the data.
        other: Elements and classes to transfer from.
        new: Elements and classes to classify.
        seeds: Of the classes and of the splits.
        scaler: What suits the data before a logistic regression.
    """
    taught = BrunoClassifier(random_state=_FIRST_SEED).fit(*other)
    directions = LinearDiscriminantAnalysis(
        solver="eigen",
        shrinkage="auto",
        n_components=min(_MOST_DIRECTIONS, len(np.unique(other[1])) - 1),
    ).fit(*other)
    for seed in seeds:
        known = np.random.default_rng(seed).permutation(np.unique(new[1]))[:_MOST_CLASSES]
        chosen = np.isin(new[1], known)
        x, y = new[0][chosen], new[1][chosen]
        methods = {
            "BrunoClassifier, taught": BrunoClassifier(taught.model_, random_state=seed),
            "BrunoClassifier, taught, its temperature": BrunoClassifier(
                taught.model_,
                temperature=taught.temperature_,
                covariance=taught.covariance_prior_ or "shared",
            ),
            "BrunoClassifier": BrunoClassifier(random_state=seed),
            "LDA, taught, LogisticRegression": make_pipeline(
                FrozenEstimator(directions), LogisticRegression(max_iter=2000)
            ),
            "LogisticRegression": make_pipeline(scaler, LogisticRegression(max_iter=2000)),
        }
        for shot in _SHOTS:
            add_row(
                file,
                {"data": name, "shot": shot, "seed": seed},
                lambda x=x, y=y, methods=methods, shot=shot, seed=seed: compare_classifiers(
                    methods, x, y, few_of_each(y, shot, seed)
                ),
            )


_COLOURS = {
    "BrunoClassifier": "C3",
    "BrunoClassifier, taught": "C1",
    "BrunoClassifier, taught, its temperature": "C8",
    "GaussianNB": "C0",
    "LDA, shrinkage": "C2",
    "LDA, taught, LogisticRegression": "C2",
    "LogisticRegression": "C4",
    "LogisticRegression, common scale": "C6",
    "KNeighbors": "C5",
    "SVC, calibrated": "C7",
}


def draw_over_shots(
    panels: list[tuple[str, str, dict[str, dict[str, Estimate]], bool]], columns: int = 2
) -> plt.Figure:
    """Return a picture of quantities over the number of examples per class, with intervals.

    Args:
        panels: Of each its data, the label of its ordinate, estimates by data and method, and
            whether the ordinate is logarithmic.
        columns: Number of panels side by side.
    """
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(9, 3.2 * lines + 0.5), layout="constrained", squeeze=False
    )
    for axis, (data, name, means, logarithmic) in zip(axes.flat, panels, strict=True):
        for method, colour in _COLOURS.items():
            points = [
                (shot, means[f"{data}, {shot}"][method])
                for shot in _TABLE_SHOTS
                if method in means.get(f"{data}, {shot}", {})
            ]
            if points:
                own = method.startswith("Bruno")
                axis.errorbar(
                    [shot for shot, _ in points],
                    [value.mean for _, value in points],
                    [value.half_width for _, value in points],
                    fmt="o-",
                    color=colour,
                    label=method,
                    capsize=2,
                    markersize=4,
                    linewidth=2.2 if own else 1.2,
                    zorder=3 if own else 2,
                )
        axis.set(title=data.replace("_", " "), xlabel="examples per class", ylabel=name)
        axis.set_xscale("log")
        shown = [shot for shot in _TABLE_SHOTS if f"{data}, {shot}" in means]
        axis.set_xticks(shown, [str(shot) for shot in shown])
        axis.xaxis.set_minor_locator(NullLocator())
        if logarithmic:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    handles, names = axes.flat[0].get_legend_handles_labels()
    last, last_names = axes.flat[-1].get_legend_handles_labels()
    if len(last_names) > len(names):
        handles, names = last, last_names
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_classifiers(name: str, found: list[dict[str, Any]], images: Path) -> None:
    """Draw what was measured of classifiers."""
    means = {key: summary(found, key) for key in ("accuracy", "log-loss", "calibration error")}
    data = list(dict.fromkeys(row["data"] for row in found))
    loss = [(each, "log-loss, nats", means["log-loss"], True) for each in data]
    gap = [(each, "calibration error, %", means["calibration error"], False) for each in data]
    if name == "few_shot":
        draw_over_shots(loss).savefig(images / "estimators-few-shot.png", dpi=150)
        draw_over_shots(gap).savefig(images / "estimators-calibration.png", dpi=150)
    elif name == "adapt":
        right = [(each, "accuracy, %", means["accuracy"], False) for each in data]
        draw_over_shots(right + loss).savefig(images / "estimators-adapt.png", dpi=150)


def main() -> None:
    """Measure what is missing, then draw all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choices = ("few_shot", "wide", "adapt")
    parser.add_argument("--only", nargs="+", choices=choices, default=choices)
    parser.add_argument("--seeds", type=int, default=20, help="how many, from 100 on")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="where rows and pictures go")
    arguments = parser.parse_args()
    results, images = arguments.docs / "results", arguments.docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.seeds)
    measures = {"few_shot": few_shot, "wide": wide, "adapt": adapt}
    for name in arguments.only:
        file = results / f"estimators-{name.replace('_', '-')}.jsonl"
        measures[name](file, seeds)
        found = [row for row in rows(file) if row["seed"] in seeds]
        draw_classifiers(name, found, images)


if __name__ == "__main__":
    main()
