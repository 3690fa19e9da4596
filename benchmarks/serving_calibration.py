"""Calibrate the class probabilities that ``bruno serve`` shows, on characters of validation.

Episodes of few classes with few examples each are drawn from Omniglot's validation alphabets. The
temperature is the one with the least log-loss of the known classes; then slope and intercept of the
log-odds of "none of these" are fitted with as many images of other classes. Test characters are
never looked at. A model that was trained on the validation alphabets cannot be calibrated there
and keeps its densities as they are.

    BRUNO_DATA_DIR=... python benchmarks/serving_calibration.py omniglot --write
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from bruno.data import DataConfig, load_dataset
from bruno.estimators.calibration import fit_platt_scaling
from bruno.evidence import Evidence
from bruno.pixels import in_bins
from bruno.serving import calibration
from bruno.training.locate import locate_model

FILE = Path(calibration.__file__).with_name("calibration.json")
EPISODES, CLASSES, SHOTS, QUERIES = 400, (2, 10), (1, 5), 10
CANDIDATES = np.geomspace(0.5, 20, 40)
SEED = 0


@torch.no_grad()
def encode_all(model, images):
    return torch.cat([model.flow(in_bins(part))[0].double() for part in images.split(64)])


def episode(rng, by_class):
    """Return evidence of some classes, and latent vectors of queries of these and of others."""
    ways, shots = rng.integers(*CLASSES, endpoint=True), rng.integers(*SHOTS, endpoint=True)
    chosen = rng.choice(len(by_class), 2 * ways, replace=False)
    known, others = chosen[:ways], chosen[ways:]
    sets, queries, truth = [], [], []
    for position, label in enumerate(known):
        order = rng.permutation(len(by_class[label]))
        sets.append(Evidence.of(by_class[label][order[:shots]]))
        queries.append(by_class[label][order[shots : shots + max(1, QUERIES // ways)]])
        truth += [position] * len(queries[-1])
    unknown = [by_class[label][rng.permutation(len(by_class[label]))[:1]] for label in others]
    return Evidence.stack(sets), torch.cat(queries), truth, torch.cat(unknown)


@torch.no_grad()
def calibrate(name):
    located = locate_model(None, name)
    row = {"name": name, "weights_sha256": located.config["weights_sha256"]}
    if located.experiment.get("data", {}).get("train_on_val"):
        return row | {"temperature": 1.0, "slope": 1.0, "intercept": 0.0, "episodes": 0}
    model = located.load()
    data = load_dataset(DataConfig(name="omniglot"), "val")
    z = encode_all(model, data.images)
    by_class = [z[data.indices_of(label)] for label in range(data.num_classes)]
    rng = np.random.default_rng(SEED)
    process, found = model.process, []
    for _ in range(EPISODES):
        evidence, queries, truth, unknown = episode(rng, by_class)
        new = torch.cat([queries, unknown])
        found.append(
            (process.log_prob_given(new, evidence), process.log_prob(new.unsqueeze(1)), truth)
        )

    def loss(temperature):
        parts = [
            torch.nn.functional.cross_entropy(
                given[: len(truth)] / temperature, torch.tensor(truth), reduction="sum"
            )
            for given, _, truth in found
        ]
        return float(sum(parts)) / sum(len(truth) for _, _, truth in found)

    temperature = float(min(CANDIDATES, key=loss))
    of_known, of_new = [], []
    for given, prior, truth in found:
        mean = (given / temperature).logsumexp(1) - np.log(given.shape[1])
        ratio = prior / temperature - mean
        of_known.append(ratio[: len(truth)])
        of_new.append(ratio[len(truth) :])
    of_known, of_new = torch.cat(of_known), torch.cat(of_new)
    slope, intercept = fit_platt_scaling(of_known, of_new)
    right = [
        float(((slope * ratio + intercept > 0) == is_new).double().mean())
        for ratio, is_new in ((of_known, False), (of_new, True))
    ]
    print(
        f"{name}: temperature {temperature:.2f}, log-loss {loss(temperature):.4f} nats "
        f"(untempered {loss(1.0):.4f}); slope {slope:.3f}, intercept {intercept:.2f}; "
        f"at even odds {right[0]:.1%} of known and {right[1]:.1%} of unknown are told right"
    )
    return row | {
        "temperature": round(temperature, 4),
        "slope": round(slope, 4),
        "intercept": round(intercept, 4),
        "episodes": EPISODES,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--write", action="store_true", help=f"replace rows in {FILE}")
    arguments = parser.parse_args()
    rows = [calibrate(name) for name in arguments.names]
    if arguments.write:
        kept = [
            row
            for row in json.loads(FILE.read_text(encoding="utf-8"))["models"]
            if row["name"] not in arguments.names
        ]
        FILE.write_text(json.dumps({"models": kept + rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
