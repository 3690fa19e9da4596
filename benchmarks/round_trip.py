"""Whether the models that come with the package recover every grey level of test images.

    python benchmarks/round_trip.py [--images 10000] [MODEL ...]

Encodes test images of the data set that a model was trained on, or all there are if they are fewer,
dequantised with seed 0, decodes them again, and counts grey levels that differ. Writes
``docs/results/round-trip.json``, where the rows of models that are not named stay.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from bruno.data import DataConfig, dequantise, load_dataset, quantise
from bruno.pretrained import names
from bruno.progress import track
from bruno.provenance import provenance
from bruno.seeding import generator_for
from bruno.training.locate import locate_model

_RESULTS = Path(__file__).parents[1] / "docs" / "results" / "round-trip.json"
_BATCH = 200


@torch.no_grad()
def wrong_levels(name: str, images: int) -> dict[str, float | str]:
    """Return how many grey levels of test images a model does not recover.

    Args:
        name: Name of the model.
        images: Number of images at most.
    """
    located = locate_model(None, name)
    model = located.load()
    fields = located.experiment["data"]
    dataset = load_dataset(DataConfig(**fields), "test")
    rows = torch.randperm(len(dataset.images), generator=generator_for(0))[:images]
    wrong, start = 0, time.perf_counter()
    for part in track(rows.split(_BATCH), f"{name}: images there and back"):
        levels = dataset.images[part]
        context = None if dataset.context is None else dataset.context[part]
        x = dequantise(levels, generator_for(0, int(part[0])))
        z, _ = model(x, context)
        wrong += int((quantise(model.decode(z, context)) != levels).sum())
    return {
        "dataset": f"{dataset.name}/{dataset.split}",
        "images": len(rows),
        "grey levels": len(rows) * model.process.dim,
        "wrong": wrong,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    """Measure models and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="all by default")
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    figures = {} if not arguments.models else json.loads(_RESULTS.read_text())["models"]
    for name in arguments.models or names():
        figures[name] = wrong_levels(name, arguments.images)
    _RESULTS.write_text(json.dumps({**provenance(), "models": figures}, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
