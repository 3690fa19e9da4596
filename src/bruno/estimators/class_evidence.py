"""What is known of the classes of a classifier: one table that grows and shrinks in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bruno.estimators.labels import joined
from bruno.evidence import Evidence


class ClassEvidence:
    """The evidence of every class, stacked, with an index from labels to rows.

    To replace, add or drop a class moves O(D) numbers (amortised, where it is added), however many
    classes there are: rows are in order of arrival, there is room for more, and the last row takes
    the place of one that is dropped.

    Args:
        labels: The classes, sorted, all numbers or all strings.
        evidence: What is known of them, of batch shape ``(K,)``; copied.
    """

    def __init__(self, labels: np.ndarray, evidence: Evidence) -> None:
        # Labels in order, and those that arrived or left since: to sort them takes longer than an
        # update where there are many.
        self._sorted = labels
        self._arrived: list[np.ndarray] = []
        self._some_left = False
        self._labels: list[Any] = labels.tolist()
        self._rows = {label: row for row, label in enumerate(self._labels)}
        self._count = evidence.count.clone()
        self._mean = evidence.mean.clone()
        self._scatter = evidence.scatter.clone()

    def __len__(self) -> int:
        return len(self._labels)

    def __contains__(self, label: object) -> bool:
        return label in self._rows

    def __getitem__(self, label: Any) -> Evidence:
        """Return the evidence of one class, until the next :meth:`update`."""
        row = self._rows[label]
        return Evidence(self._count[row], self._mean[row], self._scatter[row])

    @property
    def labels(self) -> np.ndarray:
        """The classes, sorted, ``(K,)``."""
        labels = self._sorted
        if self._arrived:
            labels = np.unique(joined(labels, *self._arrived))
        if self._some_left:
            labels = labels[[label in self._rows for label in labels.tolist()]]
        # Several threads that ask may each find this out; they find the same.
        self._sorted, self._arrived, self._some_left = labels, [], False
        return labels

    @property
    def some_labels(self) -> np.ndarray:
        """Labels of the kind of all, at least one; not sorted again."""
        return self._sorted

    @property
    def in_order_of_arrival(self) -> Evidence:
        """The evidence of all classes, ``(K,)``, not copied: until the next :meth:`update`."""
        used = len(self._labels)
        return Evidence(self._count[:used], self._mean[:used], self._scatter[:used])

    def positions(self, labels: Sequence[Any]) -> torch.Tensor:
        """Return where classes are in :attr:`in_order_of_arrival`, int64."""
        return torch.tensor([self._rows[label] for label in labels], device=self._count.device)

    def copied(self, labels: Sequence[Any]) -> Evidence:
        """Return the evidence of classes in the order given, independent of later updates."""
        return self.in_order_of_arrival[self.positions(labels)]

    def update(self, changed: Mapping[Any, Evidence | None], *names: np.ndarray) -> None:
        """Take the evidence of classes in the place of what was known; None drops a class.

        Args:
            changed: The evidence.
            names: Arrays with the labels of all new classes, perhaps beside known ones.
        """
        self._arrived.extend(names)
        for label, evidence in changed.items():
            if evidence is None:
                self._drop(label)
            else:
                self._write(self._row_for(label), evidence)

    def observe(self, label: Any, element: torch.Tensor) -> None:
        """Take one more element of a known class, in place and in O(D).

        Args:
            label: The class.
            element: Finite, float64 ``(D,)``.
        """
        row = self._rows[label]
        count, mean, scatter = self._count[row], self._mean[row], self._scatter[row]
        # Welford's update, as Evidence.observe makes it, without a copy of what is known.
        count.add_(1)
        shift = element - mean
        mean.add_(shift / count)
        scatter.addcmul_(shift, element - mean)

    def _write(self, row: int, evidence: Evidence) -> None:
        self._count[row] = evidence.count
        self._mean[row] = evidence.mean
        self._scatter[row] = evidence.scatter

    def _row_for(self, label: Any) -> int:
        """Return the row of a class, a new one if it has none."""
        if label not in self._rows:
            self._reserve(len(self._labels) + 1)
            self._rows[label] = len(self._labels)
            self._labels.append(label)
        return self._rows[label]

    def _drop(self, label: Any) -> None:
        row, last = self._rows[label], self._labels[-1]
        self._write(row, self[last])
        self._labels[row], self._rows[last] = last, row
        self._labels.pop()
        del self._rows[label]
        self._some_left = True

    def _reserve(self, rows: int) -> None:
        """Make room for so many rows, twice as much as there is if it is too little."""
        if rows <= len(self._count):
            return
        more = max(rows, 2 * len(self._count)) - len(self._count)
        self._count = torch.cat([self._count, self._count.new_zeros(more)])
        room = self._mean.new_zeros(more, self._mean.shape[1])
        self._mean = torch.cat([self._mean, room])
        self._scatter = torch.cat([self._scatter, room])
