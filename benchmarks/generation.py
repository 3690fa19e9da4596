"""Judge what every shipped model of handwriting draws given a few examples of unseen classes.

    python benchmarks/generation.py [NAME ...] [--picture NAME]

Writes ``docs/results/generation-NAME.json`` (judged by the prototypical network that comes with the
package) and ``docs/results/generation-NAME-second.json`` (judged by ``omniglot-classify``, as a
second opinion), and the first one's figures into the card of the model. ``--picture`` only draws
``docs/images/NAME.png``: examples of ten test classes and samples given them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from bruno import Bruno
from bruno.cli import main as bruno
from bruno.data import dequantise, load_dataset, quantise
from bruno.data.sets import sample_sets
from bruno.pretrained import WEIGHTS_DIRECTORY, describe, read_config
from bruno.reporting.plots import image_grid
from bruno.seeding import generator_for
from bruno.serialization import CONFIG_FILE, write_atomically
from bruno.training.locate import locate_model

_RESULTS = Path(__file__).parents[1] / "docs" / "results"
_PICTURES = _RESULTS.parent / "images"
_SECOND_OPINION = "omniglot-classify"


def judged(name: str, judge: str | None) -> list[dict[str, object]]:
    """Return the results of one model and judge, which are also written."""
    out = _RESULTS / f"generation-{name}{'-second' if judge else ''}.json"
    command = ["evaluate", "--pretrained", name, "--protocols", "generation", "--overwrite"]
    if bruno([*command, "--out", str(out), *(["--judge", judge] if judge else [])]):
        raise SystemExit(f"the evaluation of {name} failed")
    evaluation = json.loads(out.read_text(encoding="utf-8"))
    results: list[dict[str, object]] = evaluation["generation"]
    return results


def draw(name: str, seed: int = 0) -> None:
    """Draw examples and samples given them of classes that the seed chooses."""
    located = locate_model(None, name)
    model, dataset = located.load(), load_dataset(located.data_config({}), "test")
    generator = generator_for(seed)
    given = sample_sets(dataset, 10, 5, generator).images
    predictive = model.condition(dequantise(given, generator))
    samples = [
        quantise(predictive.sample(5, generator=generator, latent_scale=scale)).transpose(0, 1)
        for scale in (1.0, 0.5)
    ]
    axes = image_grid(
        torch.cat([given, *samples], 1),
        column_groups=[("given", 5), ("exact samples", 5), ("latent scale 0.5", 5)],
    )
    axes.figure.savefig(_PICTURES / f"{name}.png", dpi=150, bbox_inches="tight")


def main() -> None:
    """Measure models and complete their cards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models; by default all of 28 x 28 grey pixels")
    parser.add_argument("--picture", help="draw this model's picture, and nothing else")
    arguments = parser.parse_args()
    if arguments.picture:
        draw(arguments.picture)
        return
    names = arguments.names or [
        name
        for name in Bruno.pretrained()
        if locate_model(None, name).config["flow"]["event_shape"] == [1, 28, 28]
    ]
    for name in names:
        results = judged(name, None)
        if name != _SECOND_OPINION:
            judged(name, _SECOND_OPINION)
        directory = WEIGHTS_DIRECTORY / name
        config = read_config(directory)
        config["metadata"]["card"]["figures"]["generation"] = results
        write_atomically(directory / CONFIG_FILE, describe(config))


if __name__ == "__main__":
    main()
