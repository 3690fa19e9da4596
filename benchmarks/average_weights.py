"""Average the weights of two runs of which one went on from the other.

    python benchmarks/average_weights.py RUN_A RUN_B SHARE_OF_B OUT

Weights between those of a run and of one that went on from it with another objective often do
better by both objectives than either (Wortsman et al., *Model soups*, ICML 2022). OUT gets the
configuration and the log of RUN_B.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from bruno import Bruno
from bruno.pretrained import read_config
from bruno.training.run_directory import CONFIG_FILE, HISTORY_FILE, MODEL_DIRECTORY


def main() -> None:
    """Average and write the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path, help="directory of a finished run")
    parser.add_argument("second", type=Path, help="one that went on from it")
    parser.add_argument("share", type=float, help="share of the second, from 0 to 1")
    parser.add_argument("out", type=Path, help="directory of the averaged run")
    arguments = parser.parse_args()
    if not 0 <= arguments.share <= 1:
        parser.error(f"share: expected a number from 0 to 1, got {arguments.share:g}")
    first, model = (
        Bruno.from_pretrained(run / MODEL_DIRECTORY) for run in (arguments.first, arguments.second)
    )
    begun, ended = first.state_dict(), model.state_dict()
    model.load_state_dict(
        {
            name: torch.lerp(begun[name].double(), value.double(), arguments.share).to(value)
            if value.is_floating_point()
            else value
            for name, value in ended.items()
        }
    )
    metadata = read_config(arguments.second / MODEL_DIRECTORY)["metadata"]
    model.save_pretrained(arguments.out / MODEL_DIRECTORY, metadata)
    for file in (CONFIG_FILE, HISTORY_FILE):
        shutil.copy(arguments.second / file, arguments.out)


if __name__ == "__main__":
    main()
