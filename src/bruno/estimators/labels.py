"""Labels of classes: all numbers or all strings, and one for elements of none of them."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from bruno.errors import UserError


def checked_labels(y: Any) -> np.ndarray:
    """Return one label for each element, as an array of one dimension.

    Raises:
        ValueError: If these are no labels of classes, or of different kinds.
    """
    if type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biuUS":
        return y
    try:
        check_classification_targets(y)
    except TypeError as error:  # labels that cannot be sorted
        raise UserError(f"y: expected all numbers or all strings: {error}") from None
    labels: np.ndarray = column_or_1d(y, warn=True)
    _check_one_kind(labels)
    return labels


def checked_classes(classes: Any) -> np.ndarray:
    """Return labels that are announced, as an array of one dimension.

    Raises:
        UserError: If these are no labels of classes.
    """
    try:
        labels: np.ndarray = column_or_1d(classes)
        check_classification_targets(labels)
    except ValueError as error:
        raise UserError(f"classes: expected the labels of classes: {error}") from None
    return labels


def rows_by_label(labels: np.ndarray) -> list[tuple[Any, Any]]:
    """Return every label with the rows it is at."""
    if len(labels) == 1:
        return [(labels.tolist()[0], slice(None))]
    names, inverse = np.unique(labels, return_inverse=True)
    return [(name, np.flatnonzero(inverse == k)) for k, name in enumerate(names.tolist())]


def kind_of(labels: np.ndarray) -> str:
    """Return what labels are; of different kinds none are equal."""
    if labels.dtype.kind == "O":
        return "strings" if isinstance(labels[0], str) else "numbers"
    return {"U": "strings", "S": "bytes"}.get(labels.dtype.kind, "numbers")


def unknown_label(classes: np.ndarray) -> Any:
    """Return the label of what is of none of these classes."""
    return {"strings": "unknown", "bytes": b"unknown", "numbers": -1}[kind_of(classes)]


def joined(*parts: np.ndarray) -> np.ndarray:
    """Return labels of one kind together, without loss whatever their types."""
    if {"i", "u"} <= {part.dtype.kind for part in parts}:
        # Large unsigned numbers and negative ones have no common type.
        return np.concatenate([part.astype(object) for part in parts])
    return np.concatenate(parts)


def _check_one_kind(labels: np.ndarray) -> None:
    """Raise if labels are not all numbers or all strings."""
    values = labels.tolist()
    if not any(
        all(isinstance(value, kind) for value in values)
        for kind in (str, bytes, (Real, bool, np.bool_))
    ):
        kinds = sorted({type(value).__name__ for value in values})
        raise UserError(f"y: expected all numbers or all strings, got {', '.join(kinds)}")
