"""Likelihood against accuracy: one model, one budget, several weights of the two objectives.

    python benchmarks/trade_off.py [--steps 150] [--weights 0 0.01 0.03 0.1 0.3]

Trains the weights ``omniglot-density`` on, each time with another weight of the cross-entropy
beside a generative weight of 1, and measures on the *validation* characters. Adds a row a run to
``docs/results/trade-off.jsonl``; runs that are there are not repeated, and calls with different
``--weights`` may work side by side. Draws ``docs/images/trade-off.png``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from bruno import Bruno
from bruno.data import LabelledImages
from bruno.evaluation import encode_rotations, few_shot_accuracy, likelihood
from bruno.recipes import recipe_path
from bruno.training import Experiment, ModelConfig
from bruno.training.config import experiment_from_yaml
from experiments import rows, run_missing

_DOCS = Path(__file__).parents[1] / "docs"
_RESULT = _DOCS / "results" / "trade-off.jsonl"


def experiment_for(weight: float, steps: int) -> Experiment:
    """Return the recipe, warm, with another weight of the cross-entropy and another length."""
    recipe = experiment_from_yaml(recipe_path("omniglot-density"))
    return dataclasses.replace(
        recipe,
        model=ModelConfig(pretrained="omniglot-density"),
        objective=dataclasses.replace(recipe.objective, discriminative_weight=weight),
        training=dataclasses.replace(
            recipe.training,
            steps=steps,
            max_minutes=None,
            sets_per_batch=20,  # as many classes as in the figures
            learning_rate=1e-3,
            validate_every=max(1, steps // 2),
        ),
    )


def measure(model: Bruno, dataset: LabelledImages) -> dict[str, Any]:
    """Return the figures of a model."""
    measured = likelihood(model, dataset)
    encoded = encode_rotations(model, dataset, rotations=True)
    accuracy = few_shot_accuracy(
        model, dataset, way=20, shot=1, rotations=True, trials=4, encoded=encoded
    ).accuracy
    return {
        "nll": measured.nll.mean,
        "nats gained by conditioning": measured.conditioning_gain.mean,
        "20-way 1-shot": accuracy.mean,
        "20-way 1-shot, half width": accuracy.half_width,
    }


def draw(runs: list[dict[str, Any]]) -> plt.Figure:
    """Return the picture: accuracy, and what conditioning buys, over nats."""
    runs = sorted(runs, key=lambda run: float(run["discriminative weight"]))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, key, label in (
        (axes[0], "20-way 1-shot", "20-way 1-shot accuracy, %"),
        (axes[1], "nats gained by conditioning", "nats gained by conditioning on 19 images"),
    ):
        axis.plot([run["nll"] for run in runs], [run[key] for run in runs], "o-", color="C0")
        for run in runs:
            axis.annotate(
                f"{run['discriminative weight']:g}",
                (run["nll"], run[key]),
                xytext=(6, -10),
                textcoords="offset points",
                fontsize=8,
            )
        axis.set(xlabel="nats per image, sets of 20", ylabel=label)
        axis.margins(0.1)
        axis.grid(alpha=0.3)
    figure.suptitle("validation characters, by weight of the cross-entropy", fontsize=10)
    return figure


def main() -> None:
    """Train and measure what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--runs", type=Path, default=Path("runs/trade-off"))
    arguments = parser.parse_args()
    for weight in arguments.weights:
        run_missing(
            _RESULT,
            {"discriminative weight": weight, "steps": arguments.steps},
            experiment_for(weight, arguments.steps),
            arguments.runs / f"{weight:g}-{arguments.steps}",
            "val",
            measure,
        )
    runs = [row for row in rows(_RESULT) if row["steps"] == arguments.steps]
    draw(runs).savefig(_DOCS / "images" / "trade-off.png", dpi=150)


if __name__ == "__main__":
    main()
