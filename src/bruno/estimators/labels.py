"""Class labels: all numbers or all strings, and one for elements of none of the classes."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from bruno.errors import UserError


def checked_labels(y: Any, name: str = "y") -> np.ndarray:
    """Return one label for each element, as an array of one dimension.

    Args:
        y: The labels. Integers stay exact, whatever they come in.
        name: Name of the argument, for errors.

    Raises:
        ValueError: If these are no class labels, or labels of different kinds.
    """
    if type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biuUS":
        return y
    integers = _integers(y, name)
    if integers is not None:
        column: np.ndarray = column_or_1d(integers, warn=True)
        return column
    try:
        check_classification_targets(y)
    except TypeError as error:  # labels that cannot be sorted
        raise UserError(f"{name}: expected all numbers or all strings: {error}") from None
    labels: np.ndarray = column_or_1d(y, warn=True)
    _check_one_kind(labels, name)
    _check_exact(labels, name)
    return labels


def checked_classes(classes: Any) -> np.ndarray:
    """Return labels that are announced, as an array of one dimension.

    Raises:
        UserError: If these are no class labels.
    """
    try:
        integers = _integers(classes, "classes")
        return checked_labels(column_or_1d(classes if integers is None else integers), "classes")
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"classes: expected the labels of classes: {error}") from None


def rows_by_label(labels: np.ndarray) -> list[tuple[Any, Any]]:
    """Return every label with the rows it is at."""
    if len(labels) == 1:
        return [(labels.tolist()[0], slice(None))]
    names, inverse = np.unique(labels, return_inverse=True)
    return [(name, np.flatnonzero(inverse == k)) for k, name in enumerate(names.tolist())]


def kind_of(labels: np.ndarray) -> str:
    """Return the kind of labels; labels of different kinds are never equal."""
    if labels.dtype.kind == "O":
        return "strings" if isinstance(labels[0], str) else "numbers"
    return {"U": "strings", "S": "bytes"}.get(labels.dtype.kind, "numbers")


def unknown_label(kind: str) -> Any:
    """Return the label of elements of none of the classes, whose labels are of this kind."""
    return {"strings": "unknown", "bytes": b"unknown", "numbers": -1}[kind]


def with_unknown(classes: np.ndarray) -> np.ndarray:
    """Return the labels of classes, and behind them that of elements of none of them."""
    kind = kind_of(classes)
    label = np.asarray([unknown_label(kind)])
    dtype = classes.dtype if classes.dtype.kind == "f" else common_type(classes.dtype, label.dtype)
    return as_array([*classes.tolist(), *label.tolist()], dtype)


def common_type(first: np.dtype, second: np.dtype) -> np.dtype:
    """Return the type of an array of labels that come in two types, of one kind.

    Whole numbers of different types become int64, floats among them too: a float that is a label
    is a whole number, and not every int64 is a float.

    Args:
        first: One type.
        second: The other.
    """
    numbers = first.kind in "biuf" and second.kind in "biuf"
    if first != second and numbers and not first.kind == second.kind == "f":
        return np.dtype(np.int64)
    return np.promote_types(first, second)


def as_array(labels: list[Any], dtype: np.dtype) -> np.ndarray:
    """Return labels of one kind as an array.

    Args:
        labels: The labels, at least one.
        dtype: Type of the array. Whole numbers that it does not hold come as uint64, or as Python
            integers where there are both negative ones and some of 2**63 or more.
    """
    if dtype.kind not in "iuO" or isinstance(labels[0], (str, bytes)):
        return np.array(labels, dtype=dtype)
    whole = [int(label) for label in labels]
    for candidate in (np.int64 if dtype.kind == "O" else dtype, np.uint64):
        with suppress(OverflowError):
            return np.array(whole, dtype=candidate)
    return np.array(whole, dtype=object)


def _integers(y: Any, name: str) -> np.ndarray | None:
    """Return integers in an array where a usual conversion would lose some, or else None.

    Scikit-learn converts nullable columns of pandas through float64, and numpy lists with numbers
    of 2**63 or more beside smaller ones.

    Raises:
        UserError: If a label is missing.
    """
    if isinstance(y, (list, tuple)) or (isinstance(y, np.ndarray) and y.dtype.kind == "O"):
        values = np.asarray(y, dtype=object)
        is_whole = values.ndim == 1 and all(isinstance(value, Integral) for value in values)
        if not is_whole or np.asarray(y).dtype.kind not in "fO" or not len(values):
            return None
        return as_array(values.tolist(), np.dtype(object))
    is_table = hasattr(y, "iloc") and getattr(y, "ndim", 1) == 2 and y.shape[1] == 1
    column = y.iloc[:, 0] if is_table else y
    dtype: Any = getattr(column, "dtype", None)
    if isinstance(dtype, np.dtype) or getattr(dtype, "kind", "") not in {"b", "i", "u"}:
        return None
    try:
        integers: np.ndarray = column.to_numpy(dtype=dtype.numpy_dtype).reshape(y.shape)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected a label for each element: {error}") from None
    return integers


def _check_one_kind(labels: np.ndarray, name: str) -> None:
    """Raise if labels are not all numbers or all strings."""
    values = labels.tolist()
    if not any(
        all(isinstance(value, kind) for value in values)
        for kind in (str, bytes, (Real, bool, np.bool_))
    ):
        kinds = sorted({type(value).__name__ for value in values})
        raise UserError(f"{name}: expected all numbers or all strings, got {', '.join(kinds)}")


def _check_exact(labels: np.ndarray, name: str) -> None:
    """Raise if labels are floats so large that they may stand for another whole number."""
    if labels.dtype.kind != "f" or not labels.size:
        return
    limit, largest = 2 / float(np.finfo(labels.dtype).eps), np.abs(labels).max()
    if limit <= largest < np.inf:
        raise UserError(
            f"{name}: expected labels below {limit:.0f} in {labels.dtype}, which does not hold all "
            f"whole numbers beyond, got {largest:.0f}; pass integers of one type"
        )
