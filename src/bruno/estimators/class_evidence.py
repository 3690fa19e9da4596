"""The evidence of the classes of a classifier, in a table that readers always see whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bruno.estimators.labels import as_array, common_type, kind_of
from bruno.estimators.light import LightClasses, LightEvidence, LightModel, LightOwnClasses
from bruno.evidence import Evidence

# Beyond so many numbers, classes times dimensions, a matrix product of torch is faster.
_MOST_NUMBERS = 65_536


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
        self._evidence: dict[Any, Evidence | LightEvidence | None] = {
            label: Evidence(*statistics)
            for label, *statistics in zip(
                labels.tolist(), evidence.count, evidence.mean, evidence.scatter, strict=True
            )
        }
        self._dtype = labels.dtype
        self._last_read: tuple[dict[Any, Any], KnownClasses] = (
            self._evidence.copy(),
            KnownClasses(labels.copy(), evidence),
        )
        self._last_light: (
            tuple[dict[Any, Any], LightModel, LightClasses | LightOwnClasses] | None
        ) = None
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
        return _as_evidence(evidence)

    def now(self) -> KnownClasses:
        """Return all classes as they are, in O(K) if none has changed since, else in O(KD)."""
        everything = self._evidence.copy()
        last_table, last = self._last_read
        if everything == last_table:
            return last
        # Classes that another thread is dropping may be the only difference.
        table = {label: known for label, known in everything.items() if known is not None}
        if table == last_table:
            return last
        known = {label: _as_evidence(evidence) for label, evidence in table.items()}
        labels = sorted(known)
        some: Evidence | None = None
        if labels == last.labels.tolist():
            rows = [row for row, k in enumerate(labels) if table[k] is not last_table[k]]
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

    def observe(self, label: Any, element: np.ndarray) -> bool:
        """Take one more element of a class, in O(D), if the class is known.

        Args:
            label: The class.
            element: Finite, float64, of the dimension of the evidence.

        Returns:
            Whether it was taken: not where the class is unknown, or entries of it are missing.
        """
        known = self._evidence.get(label)
        if known is None:
            return False
        if isinstance(known, Evidence):
            if known.counts_differ or known.mean.device.type != "cpu":
                return False
            known = LightEvidence.of(known)
        self._evidence[label] = known.observe(element)
        return True

    def light(self, model: LightModel) -> LightClasses | LightOwnClasses | None:
        """Return the densities of all classes in numpy; None where that would take longer.

        Args:
            model: The model whose latent vectors are in the evidence.
        """
        table, last = self._evidence.copy(), self._last_light
        if last is not None and last[1] is model and last[0] == table:
            return last[2]
        if len(table) * model.dim > _MOST_NUMBERS or None in table.values():
            return None
        evidence = {}
        for label, known in table.items():
            if isinstance(known, Evidence):
                if known.counts_differ:
                    return None
                evidence[label] = LightEvidence.of(known)
            elif known is not None:
                evidence[label] = known
        if last is not None and last[1] is model and last[0].keys() == table.keys():
            place = {label: row for row, label in enumerate(sorted(table))}
            changed = [label for label in table if table[label] is not last[0][label]]
            rows = [place[label] for label in changed]
            some = model.classes(last[2].labels[rows], [evidence[label] for label in changed])
            now = last[2].with_rows(rows, some)  # type: ignore[arg-type]  # of one model
        else:
            labels = sorted(table)
            ordered = [evidence[label] for label in labels]
            now = model.classes(as_array(labels, self._dtype), ordered)
        self._last_light = table, model, now
        return now


def _as_evidence(known: Evidence | LightEvidence) -> Evidence:
    return known if isinstance(known, Evidence) else known.evidence()


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
