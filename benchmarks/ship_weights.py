"""Put the model of a finished run into the package, with a card of what it was measured to do.

    python benchmarks/ship_weights.py RUN NAME --command "bruno train --config ..." [OPTIONS]

The weights are rounded to half precision first and measured as they will be loaded, on the test
classes with ``bruno evaluate``, which is given all further options. The card is the metadata of
the model's ``config.json``; the log of the run goes to ``docs/results/NAME.jsonl``, the full
evaluation beside it, and its pictures, if there are some, to ``docs/images``. Tables of the README
and the documentation that show the model are made anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bruno import Bruno
from bruno.cli import main as bruno
from bruno.pretrained import WEIGHTS_DIRECTORY, read_config
from bruno.provenance import provenance
from bruno.training.run_directory import HISTORY_FILE, MODEL_DIRECTORY
from results_tables import rewrite

_RESULTS = Path(__file__).parents[1] / "docs" / "results"
_PICTURES = Path(__file__).parents[1] / "docs" / "images"
_LARGEST = 18 * 2**20


def rounded(run: Path, directory: Path) -> dict[str, Any]:
    """Write the model of a run to a directory in half precision and return its metadata."""
    metadata: dict[str, Any] = read_config(run / MODEL_DIRECTORY)["metadata"]
    metadata["experiment"]["data"]["data_dir"] = None
    model = Bruno.from_pretrained(run / MODEL_DIRECTORY)
    model.save_pretrained(directory, metadata, half_precision=True)
    size = (directory / "model.safetensors").stat().st_size
    if size > _LARGEST:
        raise SystemExit(f"{directory}: {size} bytes, too large to come with a package")
    return metadata


def cost(run: Path) -> dict[str, Any]:
    """Return what the training took."""
    lines = (run / HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    return {name: last[name] for name in ("step", "images", "seconds")}


def before(name: str) -> dict[str, Any]:
    """Return what the trainings of a model took that the package has, as ``cost.json`` counts them.

    Args:
        name: The model.
    """
    counted = json.loads((_RESULTS / "cost.json").read_text(encoding="utf-8"))["ours"]
    of_model = next(one for one in counted if one["name"] == name)
    return {kind: of_model[kind] for kind in ("images", "seconds")}


def figures(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a card from a full evaluation."""
    measured = evaluation["likelihood"]
    return {
        "dataset": measured["dataset"],
        "set_size": measured["set_size"],
        **{name: measured[name] for name in ("nll", "bits_per_dim", "conditioning_gain")},
        "first": {"mean": measured["first"]["mean"], "std": measured["first_std"]},
        **(
            {
                "few_shot": [
                    {name: row[name] for name in ("way", "shot", "decisions", "accuracy")}
                    for row in evaluation["few_shot"]
                ]
            }
            if "few_shot" in evaluation
            else {}
        ),
        **({"views": evaluation["views"]["rows"]} if "views" in evaluation else {}),
        **({"generation": evaluation["generation"]} if "generation" in evaluation else {}),
        **({"pose": evaluation["pose"]} if "pose" in evaluation else {}),
    }


def main() -> None:
    """Round, measure, describe and install the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a finished run")
    parser.add_argument("name", help="name the weights will be loaded by")
    parser.add_argument("--command", required=True, help="command that trained them")
    parser.add_argument("--goes-on-from", help="model of the package that the training began with")
    parser.add_argument("--trained-on", help="the machine that trained them, if not this one")
    arguments, options = parser.parse_known_args()
    evaluation_file = _RESULTS / f"{arguments.name}.json"
    with tempfile.TemporaryDirectory() as scratch:
        metadata = rounded(arguments.run, Path(scratch))
        measured = Path(scratch) / "measured" / evaluation_file.name
        if bruno(["evaluate", "--run", scratch, "--out", str(measured), *options]):
            raise SystemExit("the evaluation failed")
        evaluation = json.loads(measured.read_text(encoding="utf-8"))
        for picture in measured.parent.iterdir():
            if "views" in evaluation and picture != measured:
                shutil.copy(picture, _PICTURES)
        metadata["card"] = {
            "command": arguments.command,
            "evaluated with": " ".join(["bruno evaluate --pretrained", arguments.name, *options]),
            "seed": metadata["experiment"]["seed"],
            **provenance(),
            **{f"training {name}": value for name, value in cost(arguments.run).items()},
            **({"training machine": arguments.trained_on} if arguments.trained_on else {}),
            **({"before": before(arguments.goes_on_from)} if arguments.goes_on_from else {}),
            "figures": figures(evaluation),
        }
        target = WEIGHTS_DIRECTORY / arguments.name
        Bruno.from_pretrained(scratch).save_pretrained(target, metadata, half_precision=True)
    evaluation["model"] = arguments.name
    evaluation_file.write_text(json.dumps(evaluation, indent=2) + "\n", encoding="utf-8")
    shutil.copy(arguments.run / HISTORY_FILE, _RESULTS / f"{arguments.name}.jsonl")
    rewrite()


if __name__ == "__main__":
    main()
