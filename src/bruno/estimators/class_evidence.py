"""The evidence of the classes of a classifier, in a table that readers always see whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bruno.estimators.labels import as_array, common_type, kind_of
from bruno.evidence import Evidence


@dataclass(frozen=True)
class KnownClasses:
    """The classes of a classifier at one time.

    Attributes:
        labels: Their labels, sorted, ``(K,)``.
        evidence: Their evidence in this order, of batch shape ``(K,)``.
    """

    labels: np.ndarray
    evidence: Evidence


class ClassEvidence:
    """The evidence of every class, by label.

    Every update is one assignment to a dictionary, so that threads that read meanwhile, and an
    interrupt, find all of an update or nothing of it. Objects that were read never change. To
    replace, add or drop a class takes O(D), however many classes there are. Of threads that
    update, one must exclude the other.

    Args:
        labels: The classes, sorted, all numbers or all strings.
        evidence: Their evidence, of batch shape ``(K,)``; not to be changed in place any more.
    """

    def __init__(self, labels: np.ndarray, evidence: Evidence) -> None:
        # A class that was dropped is None until its label is removed.
        self._evidence: dict[Any, Evidence | None] = {
            label: Evidence(*statistics)
            for label, *statistics in zip(
                labels.tolist(), evidence.count, evidence.mean, evidence.scatter, strict=True
            )
        }
        self._dtype = labels.dtype
        self._last_read = self._evidence.copy(), KnownClasses(labels.copy(), evidence)
        self.kind = kind_of(labels)

    def __reduce__(self) -> tuple[Any, ...]:
        known = self.now()
        return ClassEvidence, (known.labels, known.evidence)

    def __len__(self) -> int:
        return sum(evidence is not None for evidence in self._evidence.copy().values())

    def __contains__(self, label: object) -> bool:
        return self._evidence.get(label) is not None

    def __getitem__(self, label: Any) -> Evidence:
        """Return the evidence of one class.

        Raises:
            KeyError: If the class is not known.
        """
        evidence = self._evidence[label]
        if evidence is None:
            raise KeyError(label)
        return evidence

    def now(self) -> KnownClasses:
        """Return all classes as they are, in O(K) if none has changed since, else in O(KD)."""
        table = self._evidence.copy()
        last_table, last = self._last_read
        if table == last_table:
            return last
        known = {label: evidence for label, evidence in table.items() if evidence is not None}
        labels = sorted(known)
        some: Evidence | None = None
        if labels == last.labels.tolist() and None not in last_table.values():
            rows = [row for row, k in enumerate(labels) if known[k] is not last_table[k]]
            some = Evidence.stack([known[labels[row]] for row in rows])
        if some is not None and _fits(some, last.evidence):
            now = KnownClasses(last.labels, _with_rows(last.evidence, rows, some))
        else:
            evidence = Evidence.stack([known[label] for label in labels])
            now = KnownClasses(as_array(labels, self._dtype), evidence)
        self._last_read = table, now
        return now

    def update(self, changed: Mapping[Any, Evidence | None], dtype: np.dtype | None = None) -> None:
        """Take the evidence of classes in the place of earlier evidence; None drops a class.

        Args:
            changed: The evidence, of batch shape ``()``.
            dtype: Type of the labels of new classes, if there are any.
        """
        if dtype is not None:
            self._dtype = common_type(self._dtype, dtype)
        # Freeing a tensor lets other threads run: what is replaced must live until all is replaced.
        replaced = [self._evidence.get(label) for label in changed]
        self._evidence.update(changed)
        del replaced
        for label, evidence in changed.items():
            if evidence is None:
                self._evidence.pop(label, None)

    def observe(self, label: Any, element: torch.Tensor) -> None:
        """Take one more element of a known class, in O(D).

        Args:
            label: The class.
            element: Finite, float64 ``(D,)``.
        """
        known = self[label]
        if known.counts_differ:
            self._evidence[label] = known.observe(element)
            return
        # Welford's update, as Evidence.observe makes it of any batch, in half the time.
        mean = torch.lerp(known.mean, element, 1 / (known.count.item() + 1))
        scatter = torch.addcmul(known.scatter, element - known.mean, element - mean)
        self._evidence[label] = Evidence(known.count + 1, mean, scatter)


def _fits(some: Evidence, evidence: Evidence) -> bool:
    """Whether counts are of the same kind: whole numbers or weights, by dimension or not."""
    same_type = some.count.dtype == evidence.count.dtype
    return same_type and some.counts_differ == evidence.counts_differ


def _with_rows(evidence: Evidence, rows: list[int], some: Evidence) -> Evidence:
    """Return evidence with other sets at some rows, a fraction of the time to stack all."""
    index = torch.tensor(rows, dtype=torch.int64, device=evidence.count.device)
    return Evidence(
        evidence.count.index_copy(0, index, some.count),
        evidence.mean.index_copy(0, index, some.mean),
        evidence.scatter.index_copy(0, index, some.scatter),
    )
