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
from bruno.estimators.weights import evidence_of_one, number_of
from bruno.evidence import Evidence

# Latent vectors of one element, encoded twice, differ by less than this, relatively.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class RecentElements:
    """The latest labelled elements, oldest first; immutable.

    Attributes:
        labels: Their classes.
        z: Their latent vectors, ``(n, D)``; NaN where an entry is missing.
        weight: How often each counts, ``(n,)``; None if each counts once.
    """

    labels: tuple[Any, ...]
    z: Tensor
    weight: Tensor | None = None

    def followed_by(
        self, labels: np.ndarray, z: Tensor, weight: Tensor | None, window: int
    ) -> RecentElements:
        """Return the latest of these and of newer elements.

        Args:
            labels: Classes of the newer ones, oldest first.
            z: Their latent vectors.
            weight: How often each of them counts; by default once.
            window: How many to keep.
        """
        kept = (self.labels + tuple(labels.tolist()))[-window:]
        weights = None
        if self.weight is not None or weight is not None:
            weights = torch.cat([_each(self.weight, self.z), _each(weight, z)])[-window:].clone()
        return RecentElements(kept, torch.cat([self.z, z])[-window:].clone(), weights)

    def without(self, labels: np.ndarray, z: Tensor, weight: Tensor | None) -> RecentElements:
        """Return the others.

        Args:
            labels: Classes of the elements to leave out.
            z: Their latent vectors.
            weight: How often each of them counted; by default once.

        Raises:
            UserError: If one is not among these.
        """
        left = list(range(len(self.labels)))
        weights, gone = _each(self.weight, self.z), _each(weight, z)
        for label, element, once in zip(labels.tolist(), z, gone, strict=True):
            for row in left:
                if (
                    self.labels[row] == label
                    and _is_same(self.z[row], element)
                    and _is_same(weights[row], once)
                ):
                    left.remove(row)
                    break
            else:
                raise UserError(
                    f"forget: expected elements of the last {len(self.labels)}, which the window "
                    f"holds, got one of class {label!r} that is not among them"
                )
        kept = tuple(self.labels[row] for row in left)
        return RecentElements(
            kept, self.z[left], None if self.weight is None else self.weight[left]
        )

    def evidence(self) -> Iterator[tuple[Any, Evidence]]:
        """Yield every class with the evidence of its elements."""
        rows: dict[Any, list[int]] = {}
        for row, label in enumerate(self.labels):
            rows.setdefault(label, []).append(row)
        for label, of_class in rows.items():
            weight = None if self.weight is None else self.weight[of_class]
            yield label, evidence_of_one(self.z[of_class], weight)


def _each(weight: Tensor | None, z: Tensor) -> Tensor:
    return z.new_ones(len(z)) if weight is None else weight


def _is_same(known: Tensor, given: Tensor) -> bool:
    """Whether numbers are equal up to rounding, missing ones too."""
    near = (known - given).abs() <= _ROUNDING * (1 + given.abs())
    return bool((near | (known.isnan() & given.isnan())).all())


def faded(evidence: Evidence, elements: float, half_life: float) -> Evidence:
    """Return evidence in which everything counts less, as if it were longer ago.

    Args:
        evidence: The evidence.
        elements: How many elements have come since.
        half_life: Number of elements after which everything counts half.
    """
    factor = 0.5 ** (elements / half_life)
    return Evidence(evidence.count.double() * factor, evidence.mean, evidence.scatter * factor)


def of_window(known: KnownClasses, recent: RecentElements) -> dict[Any, Evidence | None]:
    """Return the evidence of the latest elements by class; None of a class of which none is left.

    Args:
        known: The classes before.
        recent: The latest elements.
    """
    seen = dict(recent.evidence())
    before = zip(known.labels.tolist(), number_of(known.evidence).tolist(), strict=True)
    gone: dict[Any, Evidence | None] = {
        label: None for label, number in before if number and label not in seen
    }
    return gone | seen


def with_fading(
    known: KnownClasses,
    labels: np.ndarray,
    z: Tensor,
    weight: Tensor | None,
    half_life: float,
) -> dict[Any, Evidence | None]:
    """Return the evidence of all classes after newer elements, by which the older ones fade.

    Args:
        known: The classes before.
        labels: Classes of the newer ones, oldest first.
        z: Their latent vectors.
        weight: How often each of them counts; by default once.
        half_life: Number of elements after which everything counts half.
    """
    changed: dict[Any, Evidence | None] = {
        label: faded(known.evidence[k], len(z), half_life)
        for k, label in enumerate(known.labels.tolist())
    }
    fading = _each(weight, z) * weights_by_age(len(z), half_life, z.device)
    for label, rows in rows_by_label(labels):
        more = evidence_of_one(z[rows], fading[rows])
        before = changed.get(label)
        changed[label] = more if before is None else before + more
    return changed


def weights_by_age(number: int, half_life: float, device: torch.device) -> Tensor:
    """Return the weights of so many elements in order of time, the latest of which weighs 1.

    Args:
        number: How many.
        half_life: Number of elements after which one counts half.
        device: Where the weights are to be.
    """
    ages = torch.arange(number - 1, -1, -1, dtype=torch.float64, device=device)
    return 0.5 ** (ages / half_life)
