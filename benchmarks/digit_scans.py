"""Handwriting nobody prepared: scikit-learn's digits as scans, named from five examples each.

    OMP_NUM_THREADS=1 python benchmarks/digit_scans.py [--pretrained omniglot] [--repetitions 20]
    BRUNO_DATA_DIR=... python benchmarks/digit_scans.py --measure

Digits of 8 x 8 pixels become JPEG scans of 96 x 96, dark ink on white paper: clean, or blurred,
turned by up to 8 degrees and under uneven light. Five scans of each digit are given, 20 others of
each are named by the model, by nearest neighbours and by logistic regression, all on the same
pixels: prepared, prepared with stroke widths left alone, or only inverted and scaled. The
preparation was developed on the first 800 digits; the figures are of the other 997. Prints tables
with 95 % intervals over repetitions (random draws of examples and queries) and writes
``docs/results/digit-scans.json``.

``--measure`` prints the sizes of characters and strokes of Omniglot that the preparation aims at.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from scipy.stats import norm, t
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from bruno import Bruno
from bruno.data import load_dataset
from bruno.data.locations import data_directory
from bruno.data.omniglot import FOLDER, IMAGE_SIZE, PARTS, read_characters
from bruno.data.scans import ScanOptions, prepare_scan, stroke_width
from bruno.evaluation.interval import Estimate, estimate
from bruno.few_shot import classify
from bruno.provenance import provenance
from bruno.serialization import write_atomically

_RESULT = Path(__file__).parents[1] / "docs" / "results" / "digit-scans.json"
_SIDE = 96
_PAPER, _INK = 250.0, 200.0  # grey level of paper, and how much darker full ink is
_DEVELOPED_ON = 800
_SHOT, _QUERIES = 5, 20
_FULL_SIZE = 105  # pixels of a drawing of Omniglot
_MEASURED_DRAWINGS = 4000


def scan(digit: np.ndarray, rng: np.random.Generator, *, uneven: bool) -> bytes:
    """Return a JPEG scan of a digit.

    Args:
        digit: Ink level from 0 to 1, ``(8, 8)``.
        rng: Source of randomness.
        uneven: Whether it is turned, blurred and under uneven light.
    """
    framed = np.pad(digit, 2)
    ink = ndimage.zoom(framed, _SIDE / len(framed), order=3, grid_mode=True, mode="nearest")
    ink = ink.clip(0, 1)
    light = np.ones_like(ink)
    if uneven:
        ink = ndimage.rotate(ink, rng.uniform(-8, 8), reshape=False, order=1)
        ink = ndimage.gaussian_filter(ink, 1.0)
        y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
        angle, slope, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.4), rng.uniform(0, 0.2)
        middle_x, middle_y = rng.uniform(-0.5, 0.5, 2)
        light -= slope * (np.cos(angle) * x + np.sin(angle) * y + 1) / 2
        light -= fall * ((x - middle_x) ** 2 + (y - middle_y) ** 2) / 2
    page = (_PAPER - _INK * ink) * light.clip(0.2, 1) + rng.normal(0, 3, ink.shape)
    file = io.BytesIO()
    Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(file, format="JPEG", quality=75)
    return file.getvalue()


def scans(*, uneven: bool, seed: int) -> tuple[list[Image.Image], np.ndarray]:
    """Return scans of the digits that nothing was developed on, and their classes."""
    pixels, target = load_digits(return_X_y=True)
    rng = np.random.default_rng([seed, uneven])
    digits = pixels.reshape(-1, 8, 8)[_DEVELOPED_ON:] / 16
    files = [scan(digit, rng, uneven=uneven) for digit in digits]
    return [Image.open(io.BytesIO(file)) for file in files], target[_DEVELOPED_ON:]


def only_scaled(page: Image.Image) -> Tensor:
    """Return a scan inverted and scaled, as ``load_image(..., invert=True)`` does."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    fitted = ImageOps.fit(ImageOps.invert(page), size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(fitted))[None]


def accuracies(
    model: Bruno, images: Tensor, labels: np.ndarray, repetitions: int, seed: int
) -> dict[str, list[float]]:
    """Return accuracies in per cent of every method, one for each repetition.

    Args:
        model: The model.
        images: uint8 ``(N, 1, H, W)``.
        labels: Class of every image, ``(N,)``.
        repetitions: How many draws of examples and queries.
        seed: Seed of the draws; the same for all kinds of images.
    """
    features = images.flatten(1).numpy() / 255
    found: dict[str, list[float]] = {"model": [], "nearest neighbour": [], "logistic": []}
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        drawn = np.stack(
            [
                rng.permutation(np.flatnonzero(labels == digit))[: _SHOT + _QUERIES]
                for digit in range(10)
            ]
        )
        support, query = drawn[:, :_SHOT].ravel(), drawn[:, _SHOT:].ravel()
        log_p, classes = classify(model, images[support], labels[support], images[query])
        named = {"model": np.array(classes)[log_p.argmax(1).numpy()]}
        for name, method in (
            ("nearest neighbour", KNeighborsClassifier(1)),
            ("logistic", LogisticRegression(max_iter=1000)),
        ):
            named[name] = method.fit(features[support], labels[support]).predict(features[query])
        for name, answers in named.items():
            found[name].append(100 * float((answers == labels[query]).mean()))
    return found


def interval(values: Sequence[float]) -> Estimate:
    """Return the mean over repetitions with an interval of Student's t."""
    normal = estimate(torch.tensor(values))
    wider = float(t.ppf(0.975, len(values) - 1) / norm.ppf(0.975))
    return Estimate(normal.mean, normal.half_width * wider, normal.count)


def measure_omniglot() -> None:
    """Print sizes of characters, strokes and centres of the training split of Omniglot."""
    images = load_dataset("omniglot", "train").images[:, 0].numpy()
    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {
        name: [] for name in ("larger side", "box row", "box column", "mass row", "mass column")
    }
    for image in images[rng.permutation(len(images))[:_MEASURED_DRAWINGS]]:
        places = np.nonzero(image > 255 / 4)
        rows["larger side"].append(max(np.ptp(side) for side in places) + 1)
        middles = [(side.min() + side.max()) / 2 for side in places]
        centre = ndimage.center_of_mass(image)
        for name, value in zip(list(rows)[1:], (*middles, *centre), strict=True):
            rows[name].append(float(value))
    rows["stroke width"] = _stroke_widths(rng)
    for name, values in rows.items():
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        print(
            f"{name:12} median {median:5.2f}  mean {np.mean(values):5.2f}  "
            f"5 to 95 %: {low:.2f} to {high:.2f}"
        )


def _stroke_widths(rng: np.random.Generator) -> list[float]:
    """Return stroke widths of drawings at full size, in pixels of the small images."""
    root = data_directory(None) / FOLDER
    characters = set(read_characters(root / "vinyals" / "train.txt"))
    widths = []
    for part in PARTS:
        with zipfile.ZipFile(root / f"{part}.zip") as archive:
            names = [
                name
                for name in archive.namelist()
                if name.endswith(".png") and "/".join(name.split("/")[1:3]) in characters
            ]
            for index in rng.permutation(len(names))[: _MEASURED_DRAWINGS // 10]:
                drawing = Image.open(io.BytesIO(archive.read(names[index]))).convert("L")
                ink = 1 - np.asarray(drawing, dtype=np.float64) / 255
                widths.append(stroke_width(ink) * IMAGE_SIZE / _FULL_SIZE)
    return widths


def main() -> None:
    """Measure, print tables, write figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained", default="omniglot-classify")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=_RESULT)
    parser.add_argument("--measure", action="store_true", help="measure Omniglot instead")
    arguments = parser.parse_args()
    if arguments.measure:
        measure_omniglot()
        return
    torch.set_num_threads(1)
    model = Bruno.from_pretrained(arguments.pretrained)
    options, plain = ScanOptions(), ScanOptions(stroke_width=None)
    figures: dict[str, dict[str, Any]] = {}
    print("| scans | pixels | model | nearest neighbour | logistic regression |")
    print("|---|---|---|---|---|")
    for kind in ("clean", "uneven"):
        pages, labels = scans(uneven=kind == "uneven", seed=arguments.seed)
        for pixels, images in (
            ("prepared", [prepare_scan(np.asarray(page), options) for page in pages]),
            (
                "prepared, strokes as they are",
                [prepare_scan(np.asarray(page), plain) for page in pages],
            ),
            ("unprepared", [only_scaled(page) for page in pages]),
        ):
            found = accuracies(
                model, torch.stack(images), labels, arguments.repetitions, arguments.seed
            )
            cells = {name: interval(values) for name, values in found.items()}
            print(f"| {kind} | {pixels} | {' | '.join(map(str, cells.values()))} |", flush=True)
            figures[f"{kind}, {pixels}"] = {name: cell.to_dict() for name, cell in cells.items()}
            for name in list(found)[1:]:
                more = np.subtract(found["model"], found[name]).tolist()
                figures[f"{kind}, {pixels}"][f"model minus {name}"] = interval(more).to_dict()
    content = {
        "command": f"python benchmarks/digit_scans.py --pretrained {arguments.pretrained}",
        "seed": arguments.seed,
        "repetitions": arguments.repetitions,
        "shot": _SHOT,
        "queries per class": _QUERIES,
        "options": asdict(options),
        **provenance(),
        "accuracy in per cent": figures,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out, json.dumps(content, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main()
