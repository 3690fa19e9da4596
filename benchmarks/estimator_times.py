"""What updates and predictions of the estimators cost; nothing else should run meanwhile.

    python benchmarks/estimator_times.py
    python benchmarks/estimator_times.py --beside-lda

Writes ``docs/results/estimators-cost.json``, or ``estimators-beside-lda.json``: fits, and updates
and predictions of one row, beside scikit-learn's LDA and a streaming one, all in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bruno import BrunoClassifier, Evidence, ExchangeableGaussian
from bruno.provenance import provenance

_RESULTS = Path(__file__).parents[1] / "docs" / "results"
_SEED = 100
_EXAMPLES_OF_A_CLASS = (5, 20, 200)


def milliseconds(work: Callable[[], Any], repetitions: int = 5) -> float:
    """Return the median wall-clock time of a piece of work, after one run to warm up."""
    work()
    return 1e3 * float(np.median([seconds(work) for _ in range(repetitions)]))


def seconds(work: Callable[..., Any], *inputs: Any) -> float:
    """Return the wall-clock time of a piece of work."""
    start = time.perf_counter()
    work(*inputs)
    return time.perf_counter() - start


def spread(times: list[float]) -> dict[str, float]:
    """Return median and 95 % range of times in seconds, in microseconds."""
    low, median, high = np.percentile(1e6 * np.asarray(times), [2.5, 50, 97.5])
    return {"median": median, "low": low, "high": high}


def few_classes(
    classes: int, dim: int, each: int, **parameters: Any
) -> tuple[BrunoClassifier, np.random.Generator]:
    """Return a classifier of normal classes, fitted, and the source of more elements."""
    rng = np.random.default_rng(_SEED)
    y = np.repeat(np.arange(classes), each)
    x = rng.standard_normal((classes, dim))[y] + rng.standard_normal((len(y), dim))
    # How long the choice of a temperature takes is not asked here, but for the default.
    return BrunoClassifier(**{"temperature": 1.0, **parameters}).fit(x, y), rng


def fit_cost(dim: int = 784) -> dict[str, float]:
    """Return milliseconds to fit, with the choice of a temperature, by examples of ten classes."""
    return {
        f"{10 * each} examples": milliseconds(
            lambda each=each: few_classes(10, dim, each, temperature="auto"), 3
        )
        for each in _EXAMPLES_OF_A_CLASS
    }


def update_cost(
    flow: str | None, each: int, dim: int = 784, repetitions: int = 500
) -> dict[str, Any]:
    """Return microseconds to take and to forget one example, by how many a class had seen.

    As examples arrive, one after the other; then they are forgotten one after the other.
    """
    classifier, rng = few_classes(10, dim, each, flow=flow)
    figures = {}
    for new, seen in enumerate((10, 1_000, 100_000), start=10):
        for start in range(0, seen, 10_000):
            x = rng.standard_normal((min(10_000, seen - start), dim))
            classifier.partial_fit(x, np.full(len(x), new))
        examples, y = rng.standard_normal((repetitions, 1, dim)), np.array([new])
        figures[f"{seen} seen"] = {
            update.__name__: spread([seconds(update, example, y) for example in examples])
            for update in (classifier.partial_fit, classifier.forget)
        }
    return figures


def class_cost(dim: int = 64, repetitions: int = 500) -> dict[str, Any]:
    """Return microseconds to take the first example of a new class, by how many are known."""
    classifier, rng = few_classes(10, dim, 20, flow="diagonal")
    figures = {}
    known = 10
    for classes in (100, 10_000):
        taken = []
        for name in range(known, classes + repetitions):
            example = rng.standard_normal((1, dim))
            taken.append(seconds(classifier.partial_fit, example, np.array([name])))
        known = classes + repetitions
        figures[f"{classes} known"] = spread(taken[-repetitions:])
    return figures


def prediction_cost(classes: int = 1_000, queries: int = 10_000, dim: int = 512) -> dict[str, Any]:
    """Return milliseconds of many queries against many classes, and of a bare matrix product."""
    generator = torch.Generator().manual_seed(_SEED)
    process = ExchangeableGaussian.from_parameters(variance=torch.full((dim,), 2.0), covariance=1.0)
    sets = torch.randn(classes, 5, dim, generator=generator, dtype=torch.float64)
    evidence = Evidence.of(sets)
    z = torch.randn(queries, dim, generator=generator, dtype=torch.float64)
    weights = evidence.mean

    with torch.no_grad():
        bare = milliseconds(lambda: z @ weights.T)
        scored_all = milliseconds(lambda: process.log_prob_given(z, evidence))
    figures = {
        "float64 matrix product": bare,
        "log_prob_given": scored_all,
        "ratio": scored_all / bare,
    }
    for process, flow in (("gaussian", "diagonal"), ("gaussian", None), ("student_t", None)):
        classifier, rng = few_classes(classes, dim, 5, flow=flow, process=process)
        x = rng.standard_normal((queries, dim))
        figures[f"predict, {process}, {classifier.flow_}"] = milliseconds(
            lambda classifier=classifier, x=x: classifier.predict(x), 3
        )
    return figures


def forgetting(flow: str | None, dim: int = 784, count: int = 1_000) -> float:
    """Return the largest difference of log-probabilities to never having seen some examples."""
    classifier, rng = few_classes(10, dim, 20, flow=flow)
    queries = rng.standard_normal((200, dim))
    before = classifier.predict_log_proba(queries)
    x, y = rng.standard_normal((count, dim)), np.arange(count) % 11
    for i in range(count):
        classifier.partial_fit(x[i : i + 1], y[i : i + 1])
    classifier.forget(x, y)
    return float(np.abs(classifier.predict_log_proba(queries) - before).max())


class StreamingLda:
    """Linear discriminant analysis with running means, behind the covariance of a fit.

    Args:
        x: Elements, ``(N, D)``.
        y: Their classes, from 0 to K − 1.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.count = np.bincount(y).astype(float)
        self.mean = np.stack([x[y == k].mean(0) for k in range(len(self.count))])
        residuals = x - self.mean[y]
        self.precision = np.linalg.inv(residuals.T @ residuals / len(x))
        self.weight = self.mean @ self.precision
        self.offset = 0.5 * (self.weight * self.mean).sum(1)

    def partial_fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take one element."""
        k = y[0]
        self.count[k] += 1
        self.mean[k] += (x[0] - self.mean[k]) / self.count[k]
        self.weight[k] = self.mean[k] @ self.precision
        self.offset[k] = 0.5 * self.weight[k] @ self.mean[k]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the class of one element."""
        best: np.ndarray = (self.weight @ x[0] - self.offset).argmax(keepdims=True)
        return best


def beside_lda(repetitions: int = 2000) -> dict[str, Any]:
    """Return seconds of fits, and microseconds of one row after the other, beside LDA."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(_SEED)

    def table(number: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(number) % 10
        mixing = np.eye(dim) + 0.1 * rng.standard_normal((dim, dim))
        return rng.standard_normal((10, dim))[y] + rng.standard_normal((number, dim)) @ mixing, y

    x, y = table(10_000, 100)
    fits: dict[str, list[float]] = {}
    BrunoClassifier().fit(x[:500], y[:500])  # imports
    for _ in range(5):
        for name, method in (
            ("LinearDiscriminantAnalysis", LinearDiscriminantAnalysis()),
            ("BrunoClassifier", BrunoClassifier(random_state=0)),
        ):
            fits.setdefault(name, []).append(seconds(method.fit, x, y))
    x, y = table(2_000, 64)
    lda = LinearDiscriminantAnalysis().fit(x, y)
    methods = {
        "BrunoClassifier": BrunoClassifier(random_state=0).fit(x, y),
        "BrunoClassifier, student_t": BrunoClassifier(process="student_t").fit(x, y),
        "BrunoClassifier, diagonal": BrunoClassifier(flow="diagonal").fit(x, y),
        "streaming LDA in numpy": StreamingLda(x, y),
    }
    rows = [(x[i : i + 1], y[i : i + 1]) for i in rng.integers(0, len(x), repetitions)]
    one_row: dict[str, Any] = {}
    for name, method in methods.items():
        for example in rows[:100]:
            method.partial_fit(*example)
            method.predict(example[0])
        one_row[name] = {
            "predict": spread([seconds(method.predict, row) for row, _ in rows]),
            "update": spread([seconds(method.partial_fit, *row) for row in rows]),
            "update, then predict": spread(
                [
                    seconds(method.partial_fit, *row) + seconds(method.predict, row[0])
                    for row in rows
                ]
            ),
        }
    one_row["LinearDiscriminantAnalysis"] = {
        "predict": spread([seconds(lda.predict, row) for row, _ in rows])
    }
    return {
        "seconds to fit, N = 10000, D = 100, 10 classes": {
            name: {"median": float(np.median(times)), "low": min(times), "high": max(times)}
            for name, times in fits.items()
        },
        "microseconds of one row, D = 64, 10 classes": one_row,
    }


def cost() -> dict[str, Any]:
    """Return all that is timed, with one thread and with all."""
    figures: dict[str, Any] = {}
    for threads in dict.fromkeys((1, os.cpu_count() or 1)):
        torch.set_num_threads(threads)
        figures[f"{threads} threads"] = {
            "milliseconds to fit, D = 784": fit_cost(),
            "microseconds of one example, D = 784": {
                "diagonal": update_cost("diagonal", 20),
                **{
                    f"default, fitted to {10 * each}": update_cost(None, each)
                    for each in _EXAMPLES_OF_A_CLASS
                },
            },
            "microseconds of a new class, D = 64": class_cost(),
            "milliseconds of 10,000 queries and 1,000 classes, D = 512": prediction_cost(),
        }
    figures["largest difference after forgetting 1,000 examples, nats"] = {
        "diagonal": forgetting("diagonal"),
        "default": forgetting(None),
    }
    return figures


def main() -> None:
    """Measure, print and write all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=_RESULTS, help="where the figures go")
    parser.add_argument("--beside-lda", action="store_true", help="fits and rows, beside LDA")
    arguments = parser.parse_args()
    name, measured = ("estimators-cost", cost)
    if arguments.beside_lda:
        name, measured = ("estimators-beside-lda", beside_lda)
    text = json.dumps({**provenance(), **measured()}, indent=2)
    print(text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
