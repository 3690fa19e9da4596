"""Train the judge of samples that comes with the package, a prototypical network.

    python benchmarks/judge.py

It learns from the training classes of Omniglot (Vinyals split) and is chosen on the validation
classes; no model of the package has a part in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bruno.baselines.interface import EpisodePlan
from bruno.baselines.meta_training import MetaTrainingConfig, build_system, meta_train
from bruno.baselines.prototypical import PrototypicalNetwork
from bruno.data import DataConfig, load_dataset

FILE = Path("src/bruno/evaluation/judges/omniglot.safetensors")


class Judge(PrototypicalNetwork):
    """A prototypical network that learns from five examples a class, as many as judges get."""

    plan = EpisodePlan(ways=(60,), shots=(5,), queries=5)


def main() -> None:
    """Train and write the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="of CPU time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    data = DataConfig(name="omniglot", offline_augmentations=8)
    training_set, validation_set = load_dataset(data, "train"), load_dataset(data, "val")
    rows = []

    def show(row: dict[str, float], _share: float) -> None:
        rows.append(row)
        print(
            f"{row['cpu_seconds']:6.0f} s  episode {row['step']:5.0f}  loss {row['loss']:.4f}  "
            f"accuracy {100 * row['accuracy']:.2f} %",
            flush=True,
        )

    network = build_system(Judge, training_set, arguments.seed)
    config = MetaTrainingConfig(
        cpu_minutes=arguments.minutes,
        validation_way=60,
        validation_shot=5,
        validation_episodes=20,
        seed=arguments.seed,
    )
    meta_train(network, training_set, validation_set, config, on_row=show)
    best = max(rows, key=lambda row: row["accuracy"])
    about = {
        "command": f"python benchmarks/judge.py --minutes {arguments.minutes:g} --seed "
        f"{arguments.seed}",
        "validation": f"60-way 5-shot accuracy {100 * best['accuracy']:.2f} % (val, rotated)",
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    assert isinstance(network, PrototypicalNetwork)
    network.save(arguments.out, about)
    print(f"written to {arguments.out}: {about['validation']}")


if __name__ == "__main__":
    main()
