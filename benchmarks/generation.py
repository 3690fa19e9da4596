"""Judge what every shipped model of handwriting draws given a few examples of unseen classes.

    python benchmarks/generation.py [NAME ...]

Writes ``docs/results/generation-NAME.json`` (judged by the prototypical network that comes with the
package) and ``docs/results/generation-NAME-second.json`` (judged by the model ``omniglot``, as a
second opinion), and the first one's figures into the card of the model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bruno import Bruno
from bruno.cli import main as bruno
from bruno.pretrained import WEIGHTS_DIRECTORY, describe, read_config
from bruno.serialization import CONFIG_FILE, write_atomically
from bruno.training.locate import locate_model

_RESULTS = Path(__file__).parents[1] / "docs" / "results"
_SECOND_OPINION = "omniglot"


def judged(name: str, judge: str | None) -> list[dict[str, object]]:
    """Return the results of one model and judge, which are also written."""
    out = _RESULTS / f"generation-{name}{'-second' if judge else ''}.json"
    command = ["evaluate", "--pretrained", name, "--protocols", "generation", "--overwrite"]
    if bruno([*command, "--out", str(out), *(["--judge", judge] if judge else [])]):
        raise SystemExit(f"the evaluation of {name} failed")
    results: list[dict[str, object]] = json.loads(out.read_text(encoding="utf-8"))["generation"]
    return results


def main() -> None:
    """Measure models and complete their cards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models; by default all of 28 x 28 grey pixels")
    names = parser.parse_args().names or [
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
