"""The latest elements of a stream, and evidence that fades with time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.estimators.class_evidence import KnownClasses
from bruno.estimators.labels import rows_by_label
from bruno.evidence import Evidence

# Latent vectors of one element, encoded twice, differ by less than this, relatively.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class RecentElements:
    """The latest labelled elements, oldest first; immutable.

    Attributes:
        labels: Their classes.
        z: Their latent vectors, ``(n, D)``.
    """

    labels: tuple[Any, ...]
    z: Tensor

    def followed_by(self, labels: np.ndarray, z: Tensor, window: int) -> RecentElements:
        """Return the latest of these and of newer elements.

        Args:
            labels: Classes of the newer ones, oldest first.
            z: Their latent vectors.
            window: How many to keep.
        """
        kept = (self.labels + tuple(labels.tolist()))[-window:]
        return RecentElements(kept, torch.cat([self.z, z])[-window:].clone())

    def without(self, labels: np.ndarray, z: Tensor) -> RecentElements:
        """Return the others.

        Args:
            labels: Classes of the elements to leave out.
            z: Their latent vectors.

        Raises:
            UserError: If one is not among these.
        """
        left = list(range(len(self.labels)))
        for label, element in zip(labels.tolist(), z, strict=True):
            tolerance = _ROUNDING * (1 + element.abs())
            for row in left:
                if self.labels[row] == label and bool(
                    ((self.z[row] - element).abs() <= tolerance).all()
                ):
                    left.remove(row)
                    break
            else:
                raise UserError(
                    f"forget: expected elements of the last {len(self.labels)}, which the window "
                    f"holds, got one of class {label!r} that is not among them"
                )
        return RecentElements(tuple(self.labels[row] for row in left), self.z[left])

    def evidence(self) -> Iterator[tuple[Any, Evidence]]:
        """Yield every class with the evidence of its elements."""
        rows: dict[Any, list[int]] = {}
        for row, label in enumerate(self.labels):
            rows.setdefault(label, []).append(row)
        for label, of_class in rows.items():
            yield label, Evidence.of(self.z[of_class])


def weighted_by_class(z: Tensor, classes: Tensor, weight: Tensor) -> Evidence:
    """Return the evidence of every class, ``(K,)``, in which elements count by their weights.

    Args:
        z: Latent vectors, ``(N, D)``.
        classes: Class of each, from 0 to K − 1, none of them empty.
        weight: Positive, ``(N,)``.
    """
    count = torch.bincount(classes, weight)
    each = weight.unsqueeze(1)
    zeros = z.new_zeros(len(count), z.shape[1])
    mean = zeros.index_add(0, classes, each * z) / count.unsqueeze(1)
    return Evidence(count, mean, zeros.index_add(0, classes, each * (z - mean[classes]).square()))


def faded(evidence: Evidence, elements: float, half_life: float) -> Evidence:
    """Return evidence in which everything counts less, as if it were longer ago.

    Args:
        evidence: The evidence.
        elements: How many elements have come since.
        half_life: Number of elements after which everything counts half.
    """
    factor = 0.5 ** (elements / half_life)
    return Evidence(evidence.count.double() * factor, evidence.mean, evidence.scatter * factor)


def of_window(
    known: KnownClasses, recent: RecentElements, labels: np.ndarray, z: Tensor, window: int
) -> tuple[RecentElements, dict[Any, Evidence | None]]:
    """Return the latest elements, and the evidence of the classes that change by newer ones.

    Args:
        known: The classes before.
        recent: The latest elements before.
        labels: Classes of the newer ones, oldest first.
        z: Their latent vectors.
        window: How many elements count.

    Returns:
        The elements, and evidence by class; None of a class of which none is left.
    """
    recent = recent.followed_by(labels, z, window)
    seen = dict(recent.evidence())
    before = zip(known.labels.tolist(), known.evidence.count.tolist(), strict=True)
    gone = {label: None for label, count in before if count and label not in seen}
    return recent, gone | seen


def with_fading(
    known: KnownClasses, labels: np.ndarray, z: Tensor, half_life: float
) -> dict[Any, Evidence | None]:
    """Return the evidence of all classes after newer elements, by which the older ones fade.

    Args:
        known: The classes before.
        labels: Classes of the newer ones, oldest first.
        z: Their latent vectors.
        half_life: Number of elements after which everything counts half.
    """
    changed: dict[Any, Evidence | None] = {
        label: faded(known.evidence[k], len(z), half_life)
        for k, label in enumerate(known.labels.tolist())
    }
    weight = weights_by_age(len(z), half_life, z.device)
    for label, rows in rows_by_label(labels):
        of_class = weight[rows]
        one_class = torch.zeros(len(of_class), dtype=torch.int64, device=z.device)
        more = weighted_by_class(z[rows], one_class, of_class)[0]
        before = changed.get(label)
        changed[label] = more if before is None else before + more
    return changed


def weights_by_age(number: int, half_life: float, device: torch.device) -> Tensor:
    """Return the weights of so many elements in order of time, the latest of which weighs 1."""
    ages = torch.arange(number - 1, -1, -1, dtype=torch.float64, device=device)
    return 0.5 ** (ages / half_life)
