"""The conditional neural process on its own tasks: regression in one dimension, and completion.

    BRUNO_DATA_DIR=... python benchmarks/neural_process.py

Trains on functions of a Gaussian process and on MNIST digits, measures the log-likelihood of unseen
functions beside the exact Gaussian process and that of unseen digits beside independent pixels, and
writes ``docs/results/neural-process.json`` and ``docs/images/neural-process.png``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.distributions import Normal

from bruno.baselines.neural_process_regression import (
    FunctionProcess,
    gaussian_process_functions,
    images_as_functions,
    train_on_functions,
)
from bruno.data import DataConfig, load_dataset
from bruno.evaluation.interval import estimate
from bruno.provenance import provenance
from bruno.seeding import generator_for

DOCS = Path(__file__).parents[1] / "docs"
SCALE = 0.4  # of the kernel
STEPS = {"functions": 6_000, "digits": 1_500}
TEST_FUNCTIONS, TEST_DIGITS = 200, 200
_TEST = 10**6  # a step whose randomness no training step has


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared exponential kernel, ``(n, 1), (m, 1) -> (n, m)``, in float64."""
    return (-0.5 * ((a.double() - b.double().T) / SCALE).square()).exp()


def exact_posterior(x: Tensor, y: Tensor, at: Tensor) -> Normal:
    """Return the marginals of the Gaussian process given observations of one function."""
    noisy = kernel(x, x) + 1e-4 * torch.eye(len(x), dtype=torch.float64)
    gain = torch.linalg.solve(noisy, kernel(x, at)).T
    variance = 1 + 1e-4 - (gain * kernel(at, x)).sum(-1)
    return Normal((gain @ y.double()).squeeze(-1), variance.clamp_min(1e-8).sqrt())


def regression() -> tuple[FunctionProcess, dict[str, Any]]:
    """Train on functions; return the process and figures by number of observations."""
    process = FunctionProcess(1, 1)
    started = time.process_time()
    train_on_functions(
        process,
        lambda generator: gaussian_process_functions(16, 60, generator, scale=SCALE),
        STEPS["functions"],
        learning_rate=2e-3,
    )
    figures: dict[str, Any] = {"cpu_seconds": time.process_time() - started}
    x, y = gaussian_process_functions(TEST_FUNCTIONS, 60, generator_for(0, _TEST), scale=SCALE)
    for seen in (3, 10, 30):
        with torch.no_grad():
            ours = process(x[:, :seen], y[:, :seen], x[:, seen:]).log_prob(y[:, seen:]).mean(1)
        exact = [
            exact_posterior(a[:seen], b[:seen], a[seen:]).log_prob(b[seen:, 0].double()).mean()
            for a, b in zip(x, y, strict=True)
        ]
        figures[f"given {seen}"] = {
            "neural process": estimate(ours.double()).to_dict(),
            "exact Gaussian process": estimate(torch.stack(exact)).to_dict(),
        }
    return process, figures


def completion() -> tuple[FunctionProcess, Tensor, dict[str, Any]]:
    """Train on digits; return the process, test digits and figures by number of pixels."""
    train = load_dataset(DataConfig("mnist"), "train").images
    test = load_dataset(DataConfig("mnist"), "test").images
    test = test[torch.randperm(len(test), generator=generator_for(0, _TEST))[:TEST_DIGITS]]

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(train), (8,), generator=generator)
        return images_as_functions(train[rows])

    process = FunctionProcess(2, 1)
    started = time.process_time()
    train_on_functions(process, draw, STEPS["digits"], observations=(3, 400), learning_rate=2e-3)
    figures: dict[str, Any] = {"cpu_seconds": time.process_time() - started}
    x, y = images_as_functions(test)
    seen_digits = images_as_functions(train)[1]
    independent = Normal(seen_digits.mean(0), seen_digits.std(0).clamp_min(0.05))
    order = torch.randperm(x.shape[1], generator=generator_for(0, _TEST + 1))
    for seen in (10, 100, 300):
        given, rest = order[:seen], order[seen:]
        with torch.no_grad():
            ours = process(x[:, given], y[:, given], x[:, rest]).log_prob(y[:, rest]).mean(1)
        alone = independent.log_prob(y)[:, rest].mean((1, 2))
        figures[f"given {seen}"] = {
            "neural process": estimate(ours.double()).to_dict(),
            "independent pixels": estimate(alone.double()).to_dict(),
        }
    return process, test, figures


@torch.no_grad()
def draw(functions: FunctionProcess, digits: FunctionProcess, test: Tensor) -> plt.Figure:
    """Draw predictions of functions over the exact ones, and completed digits."""
    figure = plt.figure(figsize=(10, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    axes = above.subplots(1, 3, sharey=True)
    x, y = (
        values[0] for values in gaussian_process_functions(1, 60, generator_for(7), scale=SCALE)
    )
    at = torch.linspace(-2, 2, 200).unsqueeze(1)
    for ax, seen in zip(axes, (3, 10, 30), strict=True):
        exact = exact_posterior(x[:seen], y[:seen], at)
        ours = functions(x[None, :seen], y[None, :seen], at[None]).base_dist
        for found, colour, name in (
            (exact, "0.45", "exact Gaussian process"),
            (Normal(ours.mean[0, :, 0], ours.stddev[0, :, 0]), "#0072B2", "neural process"),
        ):
            low, high = found.mean - 2 * found.stddev, found.mean + 2 * found.stddev
            ax.fill_between(at[:, 0], low, high, color=colour, alpha=0.25, lw=0)
            ax.plot(at[:, 0], found.mean, color=colour, lw=1.2, label=name)
        ax.plot(x[:seen, 0], y[:seen, 0], "k.", ms=5)
        ax.set_title(f"given {seen} values")
    axes[0].legend(fontsize=8)
    grid = below.subplots(3, 8)
    places, colours = images_as_functions(test[:2])
    order = torch.randperm(places.shape[1], generator=generator_for(0, _TEST + 1))
    shape = tuple(test.shape[-2:])
    for column in range(8):
        digit, seen = divmod(column, 4)
        given = order[: (10, 40, 100, 300)[seen]]
        shown = torch.full((places.shape[1], 3), 0.3)
        shown[:, 2] = 0.5
        shown[given] = colours[digit, given].expand(-1, 3)
        found = digits(
            places[digit : digit + 1, given],
            colours[digit : digit + 1, given],
            places[digit : digit + 1],
        )
        mean, deviation = found.mean[0, :, 0], found.base_dist.stddev[0, :, 0]
        grid[0, column].imshow(shown.view(*shape, 3))
        grid[1, column].imshow(mean.view(shape), cmap="gray", vmin=0, vmax=1)
        grid[2, column].imshow(deviation.view(shape), cmap="gray", vmin=0)
        grid[0, column].set_title(f"{len(given)} pixels", fontsize=9)
        for row in range(3):
            grid[row, column].set(xticks=[], yticks=[])
    for row, name in enumerate(("given", "mean", "deviation")):
        grid[row, 0].set_ylabel(name)
    return figure


def main() -> None:
    """Train, measure and draw."""
    torch.manual_seed(0)
    functions, of_functions = regression()
    digits, test, of_digits = completion()
    figures = {**provenance(), "seed": 0, "functions": of_functions, "digits": of_digits}
    file = DOCS / "results" / "neural-process.json"
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    draw(functions, digits, test).savefig(DOCS / "images" / "neural-process.png", dpi=120)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
