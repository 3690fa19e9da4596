"""Gaussian against Student-t process: the same recipe, seeds and number of steps for both.

    python benchmarks/processes.py [--steps 300] [--seeds 3] [--only gaussian]

Trains the recipe ``omniglot-compact`` for so many steps with each process and seed, and measures
each model on the test characters: likelihood, few-shot accuracy, the same with contaminants among
the support images, and set anomaly detection. Adds a row a run to ``docs/results/processes.jsonl``;
runs that are there are not repeated, and two calls with different ``--only`` may work side by side.
Prints means over the seeds that both processes have.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from bruno import Bruno
from bruno.data import LabelledImages
from bruno.evaluation import encode_rotations, few_shot_accuracy, likelihood, set_anomalies
from bruno.recipes import recipe_path
from bruno.training import Experiment
from bruno.training.config import experiment_from_yaml
from experiments import rows, run_missing

_RESULT = Path(__file__).parents[1] / "docs" / "results" / "processes.jsonl"
# Way, shot, and how many of the support images are of other classes.
_EPISODES = [(5, 1, 0), (20, 1, 0), (5, 5, 0), (20, 5, 0), (20, 5, 1), (20, 5, 2)]
_TRIALS = 4
_PROCESSES = ("gaussian", "student_t")


def experiment_for(process: str, seed: int, steps: int) -> Experiment:
    """Return the compact recipe with another process, seed and length."""
    recipe = experiment_from_yaml(recipe_path("omniglot-compact"))
    return dataclasses.replace(
        recipe,
        seed=seed,
        model=dataclasses.replace(recipe.model, process=process),
        # One support of each set in a step, not one from every image: the Student-t process has no
        # matrix product to score them with, and both are to be trained alike.
        objective=dataclasses.replace(recipe.objective, supports=1),
        training=dataclasses.replace(
            recipe.training, steps=steps, max_minutes=None, validate_every=max(1, steps // 2)
        ),
    )


def measure(model: Bruno, dataset: LabelledImages) -> dict[str, Any]:
    """Return the figures of a model."""
    measured = likelihood(model, dataset)
    encoded = encode_rotations(model, dataset, rotations=True)
    accuracy = {
        f"{way}-way {shot}-shot, {contaminants} contaminants": few_shot_accuracy(
            model,
            dataset,
            way=way,
            shot=shot,
            rotations=True,
            trials=_TRIALS,
            contaminants=contaminants,
            encoded=encoded,
        ).accuracy.mean
        for way, shot, contaminants in _EPISODES
    }
    anomalies = set_anomalies(model, dataset)
    return {
        "nll": measured.nll.mean,
        "nats gained by conditioning": measured.conditioning_gain.mean,
        **accuracy,
        "anomaly area under curve": anomalies.auroc.mean,
        "anomaly average precision": anomalies.average_precision.mean,
    }


def main() -> None:
    """Train and measure what is missing, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/processes"))
    parser.add_argument("--only", choices=_PROCESSES, help="leave the other process out")
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        for process in (arguments.only,) if arguments.only else _PROCESSES:
            run_missing(
                _RESULT,
                {"process": process, "seed": seed, "steps": arguments.steps},
                experiment_for(process, seed, arguments.steps),
                arguments.runs / f"{process}-{seed}-{arguments.steps}",
                "test",
                measure,
            )
    compare([row for row in rows(_RESULT) if row["steps"] == arguments.steps])


def compare(runs: list[dict[str, Any]]) -> None:
    """Print mean and deviation over seeds of both processes, and of their paired difference."""
    by_process = {
        process: {row["seed"]: row for row in runs if row["process"] == process}
        for process in _PROCESSES
    }
    seeds = sorted(set.intersection(*(set(found) for found in by_process.values())))
    if not seeds:
        return
    skipped = {"process", "seed", "steps", "date", "machine", "torch"}
    for name in (name for name in runs[0] if name not in skipped):
        values = {
            process: torch.tensor([found[seed][name] for seed in seeds])
            for process, found in by_process.items()
        }
        pairs = {**values, "difference": values["student_t"] - values["gaussian"]}
        cells = [f"{key} {value.mean():.3f} ± {value.std():.3f}" for key, value in pairs.items()]
        print(f"{name}: {'; '.join(cells)}")


if __name__ == "__main__":
    main()
