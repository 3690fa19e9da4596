"""Train the judge of samples that comes with the package, a prototypical network.

    python benchmarks/judge.py

It learns from the training classes of Omniglot (Vinyals split) and is chosen on the validation
classes; no model of the package has a part in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bruno.baselines.prototypical import PrototypicalConfig, train_prototypical
from bruno.data import DataConfig, load_dataset

FILE = Path("src/bruno/evaluation/judges/omniglot.safetensors")


def main() -> None:
    """Train and write the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    config = DataConfig(name="omniglot", offline_augmentations=8)
    rows = []

    def show(row: dict[str, float]) -> None:
        rows.append(row)
        print(
            f"{row['seconds']:6.0f} s  episode {row['episode']:5d}  loss {row['loss']:.4f}  "
            f"accuracy {100 * row['accuracy']:.2f} %",
            flush=True,
        )

    network = train_prototypical(
        load_dataset(config, "train"),
        load_dataset(config, "val"),
        PrototypicalConfig(minutes=arguments.minutes, seed=arguments.seed),
        show,
    )
    best = max(rows, key=lambda row: row["accuracy"])
    about = {
        "command": f"python benchmarks/judge.py --minutes {arguments.minutes:g} --seed "
        f"{arguments.seed}",
        "validation": f"60-way 5-shot accuracy {100 * best['accuracy']:.2f} % (val, rotated)",
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    network.save(arguments.out, about)
    print(f"written to {arguments.out}: {about['validation']}")


if __name__ == "__main__":
    main()
