"""Open-set rejection: calibrated by ``fit``, and by the densities of the model alone.

    OMP_NUM_THREADS=1 BRUNO_DATA_DIR=... python benchmarks/open_set.py [--seeds 10]

A handful of each of some classes is given; elements of these and of others are separated. Digits:
seven drawn by the seed are known, three are not. Omniglot: 20 test characters and 20 others, with
pretrained models. Rows are added to ``docs/results/estimators-open-set.jsonl``; those that are
there are not measured again; ``results_tables.py`` makes the tables of the documentation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from bruno import BrunoClassifier
from bruno.data import load_dataset
from comparison import Figures, add_row

_RESULTS = Path(__file__).parents[1] / "docs" / "results"
_FIRST_SEED = 100
_SHOTS = (3, 10)
_KNOWN_DIGITS = 7
_CHARACTERS = 20
_TESTED_CHARACTERS = 2 * _CHARACTERS
_MODELS = ("omniglot", "omniglot-classify", "glyphs")
_UNKNOWN_PRIOR = 0.5  # known and unknown elements count alike


def judged(log_none: np.ndarray, log_known: np.ndarray, is_new: np.ndarray) -> dict[str, float]:
    """Return how well elements of new classes are separated from those of known ones.

    Args:
        log_none: Log-probability of none of the known classes, ``(N,)``.
        log_known: Log-probability of any of them, ``(N,)``.
        is_new: Whether elements are of new classes, ``(N,)``.

    Returns:
        Area under the ROC curve and shares rejected in per cent, log-loss in nats; new and known
        elements count alike.
    """
    rejected = log_none > np.log(0.5)
    loss = (-log_none[is_new].mean() - log_known[~is_new].mean()) / 2
    return {
        "auroc": 100 * float(roc_auc_score(is_new, log_none - log_known)),
        "log-loss": float(loss),
        "rejected of the known": 100 * float(rejected[~is_new].mean()),
        "rejected of the new": 100 * float(rejected[is_new].mean()),
    }


def measure(
    classifier: BrunoClassifier,
    learn: tuple[np.ndarray, np.ndarray],
    x: np.ndarray,
    is_new: np.ndarray,
) -> Figures:
    """Return the figures of a classifier as it is, and with nothing learnt of new classes."""
    classifier.set_params(unknown_prior=_UNKNOWN_PRIOR).fit(*learn)
    figures = {}
    for name in ("BrunoClassifier", "as the model says"):
        log_proba = classifier.predict_log_proba(x)
        log_known = np.logaddexp.reduce(log_proba[:, :-1], axis=1)
        figures[name] = judged(log_proba[:, -1], log_known, is_new)
        classifier.unknown_slope_, classifier.unknown_intercept_ = 1.0, 0.0
    return figures


def peers(
    learn: tuple[np.ndarray, np.ndarray], x: np.ndarray, is_new: np.ndarray, white: float
) -> Figures:
    """Return how well logistic regression and distance separate new elements from known ones.

    Args:
        learn: Elements and classes to learn from.
        x: Elements to score.
        is_new: Which of these are of new classes.
        white: The largest grey level; peers see pixels from 0 to 1.
    """
    known, x = learn[0] / white, x / white
    regression = LogisticRegression(max_iter=2000).fit(known, learn[1])
    distance, _ = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(x)
    scores = {
        "LogisticRegression, least sure": -regression.predict_proba(x).max(1),
        "distance to the nearest": distance[:, 0],
    }
    return {
        name: {"auroc": 100 * float(roc_auc_score(is_new, score))} for name, score in scores.items()
    }


def few_known(
    y: np.ndarray, known: np.ndarray, shot: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of so many examples of each known class, and all other rows."""
    learn = np.concatenate([rng.permutation(np.flatnonzero(y == label))[:shot] for label in known])
    return learn, np.setdiff1d(np.arange(len(y)), learn)


def digits(shot: int, seed: int) -> Figures:
    """Learn some examples of seven digits, and detect elements of the other three."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    known = rng.permutation(10)[:_KNOWN_DIGITS]
    learn, test = few_known(y, known, shot, rng)
    given, is_new = (x[learn], y[learn]), ~np.isin(y[test], known)
    return measure(BrunoClassifier(random_state=seed), given, x[test], is_new) | peers(
        given, x[test], is_new, 16
    )


def characters(model: str, shot: int, seed: int) -> Figures:
    """Learn some examples of 20 test characters of Omniglot, and detect those of 20 others."""
    data = load_dataset("omniglot", "test")
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(np.unique(data.labels.numpy()))[:_TESTED_CHARACTERS]
    chosen = np.flatnonzero(np.isin(data.labels.numpy(), drawn))
    x, y = data.images.flatten(1).double().numpy()[chosen], data.labels.numpy()[chosen]
    known = drawn[:_CHARACTERS]
    learn, test = few_known(y, known, shot, rng)
    given, is_new = (x[learn], y[learn]), ~np.isin(y[test], known)
    return measure(BrunoClassifier(model, random_state=seed), given, x[test], is_new) | peers(
        given, x[test], is_new, 255
    )


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 100 on")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="where rows go")
    arguments = parser.parse_args()
    file = arguments.results / "estimators-open-set.jsonl"
    seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.seeds)
    for seed in seeds:
        for shot in _SHOTS:
            add_row(
                file,
                {"data": "digits", "shot": shot, "seed": seed},
                lambda shot=shot, seed=seed: digits(shot, seed),
            )
            for model in _MODELS:
                add_row(
                    file,
                    {"data": f"Omniglot, {model}", "shot": shot, "seed": seed},
                    lambda model=model, shot=shot, seed=seed: characters(model, shot, seed),
                )


if __name__ == "__main__":
    main()
