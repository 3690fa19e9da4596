"""Average the weights of two runs of which one went on from the other.

    python benchmarks/average_weights.py RUN_A RUN_B --share 0.7 --out OUT
    python benchmarks/average_weights.py RUN_A RUN_B --try 0 0.5 0.7 1

Weights between those of a run and of one that went on from it with another objective often do
better by both objectives than either (Wortsman et al., *Model soups*, ICML 2022). ``--try`` prints
what averages with these shares of RUN_B reach on the validation classes, to choose one by. OUT gets
the configuration and the log of RUN_B.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from bruno import Bruno
from bruno.data import DataConfig, load_dataset
from bruno.evaluation import few_shot_accuracy, likelihood
from bruno.pretrained import read_config
from bruno.training.run_directory import CONFIG_FILE, HISTORY_FILE, MODEL_DIRECTORY


def averaged(first: Path, second: Path, share: float) -> Bruno:
    """Return the average of the models of two runs, in single precision as they are.

    Args:
        first: Directory of a run.
        second: Directory of a run that went on from it.
        share: Share of the second, from 0 to 1.
    """
    begun, model = (Bruno.from_pretrained(run / MODEL_DIRECTORY) for run in (first, second))
    weights = begun.state_dict()
    model.load_state_dict(
        {
            name: torch.lerp(weights[name].double(), value.double(), share).to(value)
            if value.is_floating_point()
            else value
            for name, value in model.state_dict().items()
        }
    )
    return model


def main() -> None:
    """Try averages, or write one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path, help="directory of a finished run")
    parser.add_argument("second", type=Path, help="one that went on from it")
    parser.add_argument("--try", type=float, nargs="+", default=[], dest="shares")
    parser.add_argument("--share", type=float, help="share of the second, from 0 to 1")
    parser.add_argument("--out", type=Path, help="directory of the averaged run")
    arguments = parser.parse_args()
    dataset = load_dataset(DataConfig(name="omniglot"), "val") if arguments.shares else None
    for share in arguments.shares:
        model = averaged(arguments.first, arguments.second, share)
        measured = likelihood(model, dataset)
        accuracy = few_shot_accuracy(model, dataset, way=20, shot=1, trials=5, rotations=True)
        print(
            f"{share:.2f}: 20-way 1-shot {accuracy.accuracy} %, {measured.nll} nats, gain "
            f"{measured.conditioning_gain}",
            flush=True,
        )
    if arguments.out:
        averaged(arguments.first, arguments.second, arguments.share).save_pretrained(
            arguments.out / MODEL_DIRECTORY,
            read_config(arguments.second / MODEL_DIRECTORY)["metadata"],
        )
        for file in (CONFIG_FILE, HISTORY_FILE):
            shutil.copy(arguments.second / file, arguments.out)


if __name__ == "__main__":
    main()
