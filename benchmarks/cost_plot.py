"""Accuracy and likelihood on Omniglot against the computation they took, beside the original's.

    python benchmarks/cost_plot.py

Reads the cards of the models that come with the package, counts the floating-point operations of a
training step of each recipe with torch's counter, and writes ``docs/results/cost.json``, where
those of models that do not come with it any more stay; those on Omniglot are drawn in
``docs/images/cost.png``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch.utils.flop_counter import FlopCounterMode

from bruno import Bruno
from bruno.seeding import generator_for
from bruno.training import ObjectiveConfig
from bruno.training.locate import LocatedModel, locate_model
from bruno.training.objectives import Objective

_DOCS = Path(__file__).parents[1] / "docs"

# Published by Korshunova et al. (NeurIPS 2018); operations estimated for 200,000 steps of 32 sets
# of 20 images, and for the fine-tuned model the same plus 50,000 steps of 8 episodes.
_ORIGINAL = [
    {"name": "BRUNO, generative", "flop": 1.7e18, "accuracy": 69.2, "nll": 537.1},
    {"name": "BRUNO, fine-tuned", "flop": 1.9e18, "accuracy": 91.3, "nll": None},
]
# The model that had the name before.
_NOT_DRAWN = {"omniglot-averaged"}
# Names of models whose accuracies lie on each other, moved apart; in points.
_LIFT = {"omniglot-classify": 5, "omniglot-compact": -20}


def training_flop_per_image(located: LocatedModel) -> float:
    """Return the operations of the matrix products and convolutions of a step, per image."""
    model, training = located.load(), located.experiment["training"]
    objective = dict(located.experiment["objective"])
    shots = objective["shots"] = tuple(objective["shots"])
    sets = (training["sets_per_batch"], training["images_per_set"])
    generator = generator_for(0)
    x = 256 * torch.rand(*sets, *model.event_shape, generator=generator)
    labels = model.flow.context_dim
    context = torch.randn(*sets, labels, generator=generator) if labels else None
    with FlopCounterMode(display=False) as counter:
        losses = Objective(model, ObjectiveConfig(**objective))(x, shots[0], context, generator)
        losses.loss.backward()
    return counter.get_total_flops() / (sets[0] * sets[1])


def point(name: str, retired: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what a model on Omniglot cost and reached, from its card or from an earlier count."""
    if name in retired:
        return retired[name]
    located = locate_model(None, name)
    card = located.card
    few_shot = {
        (row["way"], row["shot"]): row["accuracy"] for row in card["figures"].get("few_shot", [])
    }
    accuracy = few_shot.get((20, 1), {}).get("mean")
    per_image = training_flop_per_image(located)
    # A model that goes on from another one has cost that one, too.
    start, earlier = located.experiment["model"].get("pretrained"), card.get("before")
    before = {"images": 0, "seconds": 0.0, "flop": 0.0}
    if earlier:  # trained by the same flow, and not shipped any more
        before = {**earlier, "flop": per_image * earlier["images"]}
    elif start:
        before = point(start, retired)
    return {
        "name": name,
        "images": before["images"] + card["training images"],
        "seconds": before["seconds"] + card["training seconds"],
        "flop per image": per_image,
        "flop": before["flop"] + per_image * card["training images"],
        "accuracy": accuracy,
        "nll": card["figures"]["nll"]["mean"],
    }


def draw(points: list[dict[str, Any]]) -> plt.Figure:
    """Return the picture: accuracy and nats over operations."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, key, label in zip(
        axes,
        ("accuracy", "nll"),
        ("20-way 1-shot accuracy on test characters, %", "nats per image, sets of 20"),
        strict=True,
    ):
        for group, colour, marker in ((points, "C0", "o"), (_ORIGINAL, "0.45", "s")):
            shown = [one for one in group if one[key] is not None]
            axis.scatter(
                [one["flop"] for one in shown],
                [one[key] for one in shown],
                color=colour,
                marker=marker,
            )
            for one in shown:
                left = one["flop"] > 1e17
                lift = _LIFT.get(one["name"], -3) if key == "accuracy" else -3
                axis.annotate(
                    one["name"],
                    (one["flop"], one[key]),
                    xytext=(-7 if left else 7, lift),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    fontsize=8,
                )
        axis.set(xscale="log", xlabel="operations of training, FLOP", ylabel=label)
        axis.margins(0.08)
        axis.grid(alpha=0.3)
    return figure


def main() -> None:
    """Count, write the figures and draw."""
    file, names = _DOCS / "results" / "cost.json", Bruno.pretrained()
    counted = json.loads(file.read_text())["ours"]
    retired = {one["name"]: one for one in counted if one["name"] not in names}
    points = [*(point(name, retired) for name in names), *retired.values()]
    file.write_text(json.dumps({"ours": points, "published": _ORIGINAL}, indent=2) + "\n")
    on_omniglot = [
        one
        for one in points
        if one["name"].startswith("omniglot") and one["name"] not in _NOT_DRAWN
    ]
    draw(on_omniglot).savefig(_DOCS / "images" / "cost.png", dpi=150)


if __name__ == "__main__":
    main()
