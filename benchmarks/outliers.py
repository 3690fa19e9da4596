"""What does not belong to a set: the detector beside those of scikit-learn, on the same splits.

    OMP_NUM_THREADS=1 BRUNO_DATA_DIR=... python benchmarks/outliers.py [--seeds 10]

One class of digits, or of MNIST with the pretrained model ``mnist``, against the others. Rows are
added to ``docs/results/estimators-outliers.jsonl``; those that are there are not measured again.
Draws ``docs/images/estimators-outliers.png``; ``results_tables.py`` makes the table of the
documentation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.svm import OneClassSVM

from bruno import BrunoOutlierDetector
from bruno.data import load_dataset
from bruno.evaluation.interval import Estimate
from comparison import Figures, add_row, summary
from experiments import rows

_DOCS = Path(__file__).parents[1] / "docs"
_FIRST_SEED = 100
_ODD = (1, 3, 5, 7, 9)  # the pretrained model has seen even digits only
_MNIST_COUNTS = (20, 200)
_MNIST_TESTED = 200  # images of the class, and as many of others


def detectors(seed: int) -> dict[str, Any]:
    """Return outlier detectors of scikit-learn."""
    return {
        "IsolationForest": IsolationForest(random_state=seed),
        "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
        "OneClassSVM": OneClassSVM(),
        "KernelDensity": KernelDensity(),
    }


def areas(
    methods: dict[str, Any], normal: np.ndarray, tested: np.ndarray, belongs: np.ndarray
) -> Figures:
    """Return the area under the ROC curve of every method, in per cent.

    Args:
        methods: Estimators with ``score_samples``, unfitted.
        normal: What they learn from, ``(n, D)``.
        tested: What they score, ``(N, D)``.
        belongs: Which of these are of the class learnt, ``(N,)``.
    """
    return {
        name: auroc(method.fit(normal).score_samples(tested), belongs)
        for name, method in methods.items()
    }


def auroc(scores: np.ndarray, belongs: np.ndarray) -> dict[str, float]:
    """Return the area under the ROC curve, in per cent."""
    return {"auroc": round(100 * float(roc_auc_score(belongs, scores)), 4)}


def digit_outliers(normal: int, seed: int) -> Figures:
    """Learn half of one class of digits, and separate its other half from all other classes."""
    x, y = load_digits(return_X_y=True)
    members = np.random.default_rng(seed).permutation(np.flatnonzero(y == normal))
    learn, rest = np.array_split(members, 2)
    test = np.concatenate([rest, np.flatnonzero(y != normal)])
    own = {
        "BrunoOutlierDetector": BrunoOutlierDetector(),
        "Bruno, per-feature scale": BrunoOutlierDetector(scale="per_feature"),
        "Bruno, gaussian": BrunoOutlierDetector(process="gaussian"),
        "Bruno, diagonal": BrunoOutlierDetector(flow="diagonal"),
    }
    # On seeds 0 and 1 the others did better with pixels from 0 to 1 than with standard columns.
    return areas(own, x[learn], x[test], y[test] == normal) | areas(
        detectors(seed), x[learn] / 16, x[test] / 16, y[test] == normal
    )


def mnist_outliers(normal: int, count: int, seed: int) -> Figures:
    """Learn some images of an odd digit, and separate others of it from the other odd digits."""
    rng = np.random.default_rng(seed)
    train, test = (load_dataset("mnist", split) for split in ("train", "test"))
    learn = rng.permutation(np.flatnonzero(train.labels.numpy() == normal))[:count]
    labels = test.labels.numpy()
    others = np.flatnonzero(np.isin(labels, _ODD) & (labels != normal))
    rest = [
        rng.permutation(rows)[:_MNIST_TESTED] for rows in (np.flatnonzero(labels == normal), others)
    ]
    x = train.images.flatten(1).double().numpy()[learn]
    tested = test.images.flatten(1).double().numpy()[np.concatenate(rest)]
    belongs = np.repeat([True, False], [len(part) for part in rest])
    own = BrunoOutlierDetector(model="mnist").fit(x).score_samples(tested)
    return {
        "BrunoOutlierDetector": auroc(own, belongs),
    } | areas(detectors(seed), x / 255, tested / 255, belongs)


def outliers(file: Path, seeds: Iterable[int]) -> None:
    """Measure what is missing of the detection of outliers."""
    for seed in seeds:
        for normal in range(10):
            add_row(
                file,
                {"data": "digits", "normal": normal, "seed": seed},
                lambda normal=normal, seed=seed: digit_outliers(normal, seed),
            )
        for normal in _ODD:
            for count in _MNIST_COUNTS:
                add_row(
                    file,
                    {"data": f"MNIST, {count} images", "normal": normal, "seed": seed},
                    lambda normal=normal, count=count, seed=seed: mnist_outliers(
                        normal, count, seed
                    ),
                )


def draw_bars(means: dict[str, dict[str, Estimate]]) -> plt.Figure:
    """Return a picture of areas under the curve as bars, a panel for each data set."""
    figure, axes = plt.subplots(
        1, len(means), figsize=(9, 3.2), layout="constrained", squeeze=False
    )
    for axis, (data, cells) in zip(axes.flat, means.items(), strict=True):
        names = list(cells)[::-1]
        axis.barh(
            [name.replace(", ", ",\n") for name in names],
            [cells[name].mean for name in names],
            xerr=[cells[name].half_width for name in names],
            color=["C3" if name.startswith("Bruno") else "0.7" for name in names],
            capsize=2,
        )
        for place, name in enumerate(names):
            axis.text(2, place, f"{cells[name].mean:.1f}", va="center", fontsize=8)
        axis.set(title=data, xlabel="area under the curve, %", xlim=(0, 100))
        axis.tick_params(axis="y", labelsize=8)
    return figure


def main() -> None:
    """Measure what is missing, then draw all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 100 on")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="where rows and pictures go")
    arguments = parser.parse_args()
    seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.seeds)
    file = arguments.docs / "results" / "estimators-outliers.jsonl"
    outliers(file, seeds)
    means = summary([row for row in rows(file) if row["seed"] in seeds], "auroc")
    (arguments.docs / "images").mkdir(parents=True, exist_ok=True)
    draw_bars(means).savefig(arguments.docs / "images" / "estimators-outliers.png", dpi=150)


if __name__ == "__main__":
    main()
