"""The scikit-learn estimators against those people use today, on the same splits and machine.

    python benchmarks/estimators.py [--only few_shot,adapt,outliers,pretrained,cost]

Adds rows to ``docs/results/estimators.jsonl``; what is there is not measured again. Draws
``docs/images/estimators.png``. Splits have seeds from 100 on: the defaults of the estimators were
chosen on splits of the same data sets with seeds from 0 to 11.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, OneClassSVM

from bruno import BrunoClassifier, BrunoOutlierDetector, Evidence, ExchangeableGaussian
from bruno.commands.evaluate import provenance
from bruno.data import load_dataset
from bruno.data.registry import DataConfig
from bruno.evaluation.interval import estimate
from experiments import rows

_DOCS = Path(__file__).parents[1] / "docs"
_RESULT = _DOCS / "results" / "estimators.jsonl"
_PICTURE = _DOCS / "images" / "estimators.png"
_SEEDS = range(100, 120)
_SHOTS = (1, 3, 5, 10)
_TESTED = 500
_BINS = 15
_DATA = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
Row = dict[str, Any]
Task = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Examples and their classes, queries and theirs."""


def handful(x: np.ndarray, y: np.ndarray, shot: int, seed: int) -> Task:
    """Return a few examples of every class, and (at most 500 of) the rest as queries."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(y == k), shot, replace=False) for k in np.unique(y)]
    learn = np.concatenate(chosen)
    rest = rng.permutation(np.setdiff1d(np.arange(len(y)), learn))[:_TESTED]
    return x[learn], y[learn], x[rest], y[rest]


def classifiers(shot: int) -> dict[str, Callable[[], Any]]:
    """Return what is compared, as far as it can be fitted to so few examples."""

    def scaled(classifier: Any) -> Any:
        return make_pipeline(StandardScaler(), classifier)

    chosen: dict[str, Callable[[], Any]] = {
        "BrunoClassifier": lambda: BrunoClassifier(random_state=0),
        "BrunoClassifier, gaussian": lambda: BrunoClassifier(process="gaussian", random_state=0),
        "LogisticRegression": lambda: scaled(LogisticRegression(max_iter=1000)),
        "GaussianNB": lambda: scaled(GaussianNB()),
        "k nearest neighbours": lambda: scaled(KNeighborsClassifier(min(shot, 5))),
    }
    if shot > 1:
        chosen["LDA, shrinkage"] = lambda: scaled(
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        )
        folds = min(shot, 5)
        chosen["SVC, calibrated"] = lambda: scaled(
            CalibratedClassifierCV(SVC(), cv=folds, ensemble=False)
        )
    return chosen


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error of top probabilities (Guo et al., 2017)."""
    top = probabilities.max(1)
    bins = np.minimum((top * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(right[bins == b].mean() - top[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def judged(classifier: Any, x: np.ndarray, y: np.ndarray) -> Row:
    """Return accuracy, log-loss and calibration error on queries."""
    probabilities = np.clip(classifier.predict_proba(x), 1e-15, 1)
    probabilities /= probabilities.sum(1, keepdims=True)
    right = classifier.classes_[probabilities.argmax(1)] == y
    return {
        "accuracy": float(right.mean()),
        "log_loss": float(log_loss(y, probabilities, labels=classifier.classes_)),
        "calibration_error": calibration_error(probabilities, right),
    }


def few_shot() -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield a few examples of every class of small tables, once for every method and seed."""
    for name, load in _DATA.items():
        x, y = load(return_X_y=True)
        for shot in _SHOTS:
            for method, make in classifiers(shot).items():
                for seed in _SEEDS:
                    key = {"data": name, "shot": shot, "method": method, "seed": seed}

                    def measure(x=x, y=y, shot=shot, make=make, seed=seed) -> Row:  # type: ignore[no-untyped-def]
                        learn, labels, queries, truth = handful(x, y, shot, seed)
                        return judged(make().fit(learn, labels), queries, truth)

                    yield key, measure


def adapt() -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield digits 5 to 9 from a few examples, with and without having learnt 0 to 4."""
    x, y = load_digits(return_X_y=True)
    parameters = {"process": "gaussian", "flow": "affine", "scale": "common"}
    learnt = BrunoClassifier(temperature=1.0, **parameters).fit(x[y < 5], y[y < 5]).model_
    methods: dict[str, Callable[[], Any]] = {
        "BrunoClassifier, model learnt on 0 to 4": lambda: BrunoClassifier(model=learnt),
        "BrunoClassifier": lambda: BrunoClassifier(random_state=0, **parameters),
        "LogisticRegression": lambda: make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000)
        ),
    }
    for shot in _SHOTS:
        for method, make in methods.items():
            for seed in _SEEDS:

                def measure(shot=shot, make=make, seed=seed) -> Row:  # type: ignore[no-untyped-def]
                    learn, labels, queries, truth = handful(x[y >= 5], y[y >= 5], shot, seed)
                    return judged(make().fit(learn, labels), queries, truth)

                yield (
                    {"data": "digits 5 to 9", "shot": shot, "method": method, "seed": seed},
                    measure,
                )


def detectors(seed: int) -> dict[str, Callable[[], Any]]:
    """Return what is compared in finding outliers; the others see standardised features."""
    others = {
        "IsolationForest": lambda: IsolationForest(random_state=seed),
        "LocalOutlierFactor": lambda: LocalOutlierFactor(novelty=True),
        "OneClassSVM": OneClassSVM,
        "KernelDensity": lambda: KernelDensity(bandwidth="scott"),
    }
    return {
        "BrunoOutlierDetector": BrunoOutlierDetector,
        "BrunoOutlierDetector, gaussian, common scale": lambda: BrunoOutlierDetector(
            process="gaussian", scale="common"
        ),
        **{
            name: (lambda make=make: make_pipeline(StandardScaler(), make()))
            for name, make in others.items()
        },
    }


def outliers() -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every digit in turn as what is normal, half of its images to learn from."""
    x, y = load_digits(return_X_y=True)
    for seed in list(_SEEDS)[:10]:
        for method, make in detectors(seed).items():
            for normal in range(10):

                def measure(make=make, normal=normal, seed=seed) -> Row:  # type: ignore[no-untyped-def]
                    inside = np.random.default_rng(seed).permutation(np.flatnonzero(y == normal))
                    learn, rest = np.array_split(inside, 2)
                    queries = np.concatenate([rest, np.flatnonzero(y != normal)])
                    scores = make().fit(x[learn]).score_samples(x[queries])
                    return {"auroc": float(roc_auc_score(y[queries] == normal, scores))}

                yield {"data": "digits", "normal": normal, "method": method, "seed": seed}, measure


def pretrained() -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield odd MNIST digits in turn as what is normal, for a model that knows even ones."""
    dataset = load_dataset(DataConfig("mnist", test_classes=[str(k) for k in range(10)]), "test")
    images = dataset.images.flatten(1).numpy().astype(np.float64)
    labels = np.array([int(dataset.class_names[k]) for k in dataset.labels])
    for seed in list(_SEEDS)[:10]:
        methods = {"BrunoOutlierDetector, mnist": lambda: BrunoOutlierDetector(model="mnist")}
        for seen in (20, 200):
            for method, make in {**methods, **detectors(seed)}.items():
                for normal in range(1, 10, 2):

                    def measure(make=make, normal=normal, seen=seen, seed=seed) -> Row:  # type: ignore[no-untyped-def]
                        rng = np.random.default_rng(seed)
                        inside = rng.permutation(np.flatnonzero(labels == normal))[: seen + 200]
                        outside = rng.permutation(np.flatnonzero(labels != normal))[:200]
                        queries = np.concatenate([inside[seen:], outside])
                        scores = make().fit(images[inside[:seen]]).score_samples(images[queries])
                        return {"auroc": float(roc_auc_score(labels[queries] == normal, scores))}

                    yield (
                        {
                            "data": f"MNIST, {seen} examples",
                            "normal": normal,
                            "method": method,
                            "seed": seed,
                        },
                        measure,
                    )


def cost() -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield times; measure them with nothing else running."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 784))
    y = np.arange(1000) % 10

    def update(flow: str, seen: int) -> Row:
        classifier = BrunoClassifier(flow=flow, temperature=1.0).fit(x, y)
        for start in range(0, seen - 1000, 1000):
            classifier.partial_fit(x, np.roll(y, start))
        times = []
        for i in range(600):
            row = slice(i, i + 1)
            start_time = time.perf_counter()
            classifier.partial_fit(x[row], y[row])
            times.append(1e6 * (time.perf_counter() - start_time))
        low, median, high = np.quantile(times[100:], [0.025, 0.5, 0.975])
        return {"microseconds": float(median), "low": float(low), "high": float(high)}

    for flow in ("affine", "linear"):
        for seen in (1_000, 100_000):
            key = {"what": "partial_fit of one example, D = 784", "flow": flow, "seen": seen}
            yield key, lambda flow=flow, seen=seen: update(flow, seen)

    def queries() -> Row:
        generator = torch.Generator().manual_seed(0)
        sets = torch.randn(1000, 5, 512, generator=generator, dtype=torch.float64)
        z = torch.randn(10_000, 512, generator=generator, dtype=torch.float64)
        process = ExchangeableGaussian.from_parameters(torch.full((512,), 2.0), 1.0)
        evidence = Evidence.of(sets)
        with torch.no_grad():
            ours = [_seconds(lambda: process.log_prob_given(z, evidence)) for _ in range(7)]
            bare = [_seconds(lambda: z @ evidence.mean.T) for _ in range(7)]
        return {
            "seconds": float(np.median(ours)),
            "bare product": float(np.median(bare)),
            "ratio": float(np.median(ours) / np.median(bare)),
            "threads": torch.get_num_threads(),
        }

    yield {"what": "10,000 queries against 1,000 classes, D = 512, Gaussian"}, queries

    def forgetting() -> Row:
        digits, labels = load_digits(return_X_y=True)
        start = BrunoClassifier(random_state=0).fit(digits[:900], labels[:900])
        never = start.predict_log_proba(digits)
        start.partial_fit(digits[900:], labels[900:]).forget(digits[900:], labels[900:])
        return {"largest difference": float(np.abs(start.predict_log_proba(digits) - never).max())}

    yield {"what": "log-probabilities after forgetting half of digits, against never"}, forgetting


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


BENCHMARKS = {
    "few_shot": few_shot,
    "adapt": adapt,
    "outliers": outliers,
    "pretrained": pretrained,
    "cost": cost,
}


def run(name: str) -> None:
    """Measure what is missing of a benchmark, a row at a time."""
    done = {json.dumps(row["key"]) for row in rows(_RESULT)}
    with _RESULT.open("a") as stream:
        for key, measure in BENCHMARKS[name]():
            key = {"benchmark": name, **key}
            if json.dumps(key) not in done:
                row = {"key": key, "figures": measure()}
                stream.write(json.dumps(row) + "\n")
                stream.flush()


def summary(name: str, figure: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the mean of a figure over seeds, with its interval: data -> shot -> method."""
    grouped: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for row in rows(_RESULT):
        key = row["key"]
        if key["benchmark"] == name:
            group = (key["data"], str(key.get("shot", "")), key["method"])
            grouped.setdefault(group, {}).setdefault(key["seed"], []).append(row["figures"][figure])
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for (data, shot, method), by_seed in grouped.items():
        means = torch.tensor([float(np.mean(values)) for values in by_seed.values()])
        result.setdefault(data, {}).setdefault(shot, {})[method] = estimate(means)
    return result


def print_tables() -> None:
    """Print all figures as Markdown."""
    figures = [
        ("few_shot", "log_loss"),
        ("few_shot", "accuracy"),
        ("few_shot", "calibration_error"),
        ("adapt", "log_loss"),
        ("adapt", "accuracy"),
        ("outliers", "auroc"),
        ("pretrained", "auroc"),
    ]
    for name, figure in figures:
        for data, by_shot in summary(name, figure).items():
            shots = list(by_shot)
            methods = list(dict.fromkeys(m for column in by_shot.values() for m in column))
            print(
                f"\n{data}, {figure}\n\n| | {' | '.join(f'{s} each' if s else '' for s in shots)} |"
            )
            print("|---" * (1 + len(shots)) + "|")
            for method in methods:
                cells = [
                    f"{one.mean:.3f} ± {one.half_width:.3f}"
                    if (one := by_shot[s].get(method))
                    else ""
                    for s in shots
                ]
                print(f"| {method} | {' | '.join(cells)} |")
    for row in rows(_RESULT):
        if row["key"]["benchmark"] == "cost":
            print(row["key"], row["figures"])
    print(provenance())


def draw() -> None:
    """Draw log-loss against examples per class, one panel for each data set."""
    losses = summary("few_shot", "log_loss")
    figure, panels = plt.subplots(1, len(losses), figsize=(4 * len(losses), 3.6), sharex=True)
    for axes, (data, by_shot) in zip(panels, losses.items(), strict=True):
        methods = list(dict.fromkeys(m for column in by_shot.values() for m in column))
        for method in methods:
            points = [(int(s), by_shot[s][method]) for s in by_shot if method in by_shot[s]]
            ours = method.startswith("Bruno")
            axes.errorbar(
                [shot for shot, _ in points],
                [one.mean for _, one in points],
                [one.half_width for _, one in points],
                label=method,
                linewidth=2.5 if ours else 1.2,
                marker="o" if ours else ".",
                capsize=2,
            )
        axes.set(title=data, xscale="log", yscale="log", xlabel="examples per class")
        axes.set_xticks(_SHOTS, [str(shot) for shot in _SHOTS])
        axes.minorticks_off()
    panels[0].set_ylabel("log-loss [nats]")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.subplots_adjust(bottom=0.32, wspace=0.25, left=0.06, right=0.99)
    figure.savefig(_PICTURE, dpi=110)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="benchmarks, with commas")
    names = parser.parse_args().only.split(",")
    warnings.filterwarnings("ignore")
    for name in names:
        print(f"{name} …", flush=True)
        run(name)
    print_tables()
    draw()


if __name__ == "__main__":
    main()
