"""Calibration of class probabilities of served models, measured on classes held out for it.

Written by ``python benchmarks/serving_calibration.py``; see there for how.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True)
class Calibration:
    """How log-densities become probabilities; see :mod:`bruno.estimators.calibration`.

    Attributes:
        temperature: Divisor of log-densities.
        slope: Of the log-odds of none of the classes over their log-ratio.
        intercept: Of the same, in nats.
        label_noise: Probability that a label is drawn from the prior of the classes.
    """

    temperature: float = 1.0
    slope: float = 1.0
    intercept: float = 0.0
    label_noise: float = 0.0


def calibration_of(weights_sha256: str) -> Calibration:
    """Return the calibration of a model, or none at all if it was not measured.

    Args:
        weights_sha256: SHA-256 of its weights.
    """
    measured = json.loads(_FILE.read_text(encoding="utf-8"))
    for row in measured["models"]:
        if row["weights_sha256"] == weights_sha256:
            return Calibration(row["temperature"], row["slope"], row["intercept"])
    return Calibration()
