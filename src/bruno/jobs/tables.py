"""Evidence by key as tables: plain functions of pandas data frames, for any engine that has them.

A table of elements has a column of keys and one of latent vectors: lists, arrays or Arrow lists. A
table of evidence has one row a key: ``key``, ``count``, ``mean`` and ``scatter``.
:func:`merge_evidence` is associative and commutative up to rounding, so it is a combiner: Spark's
``applyInPandas``, Dask's ``groupby.apply`` and Ray's ``map_batches`` run these functions as they
are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess

EVIDENCE_COLUMNS = ("key", "count", "mean", "scatter")
# Rows at once: a block of 64 dimensions in float64 is 4 MiB.
_ROWS = 8192
_NAMED = 5  # keys that an error lists


def evidence_of_table(
    table: pd.DataFrame, key: str = "key", vector: str = "vector"
) -> pd.DataFrame:
    """Return the evidence of every key of a table of elements.

    Args:
        table: Elements, a row each.
        key: Column of keys.
        vector: Column of latent vectors of one dimension.

    Returns:
        A table of evidence, sorted by key.

    Raises:
        UserError: If a column is missing, a key is null, or vectors differ in dimension or are not
            finite; the message names the keys. Nothing is counted then.

    Example:
        >>> elements = pd.DataFrame({"key": ["b", "a", "b"], "vector": [[0.0], [1.0], [4.0]]})
        >>> evidence_of_table(elements)[["key", "count", "mean"]]
          key  count   mean
        0   a      1  [1.0]
        1   b      2  [2.0]
    """
    keys, z = _elements(table, key, vector)
    if not len(keys):
        return empty_evidence()
    codes, names = pd.factorize(keys, sort=True)
    evidence = Evidence.by_class(torch.from_numpy(z), torch.from_numpy(codes.astype(np.int64)))
    return _as_table(pd.Index(names), evidence)


def merge_evidence(*tables: pd.DataFrame) -> pd.DataFrame:
    """Return the evidence of every key of the union of several corpora, merged pairwise.

    Args:
        tables: Tables of evidence of disjoint parts, in any order.

    Returns:
        One table of evidence, sorted by key.

    Raises:
        UserError: If a table is none of evidence, or their dimensions differ.

    Example:
        >>> part = pd.DataFrame({"key": ["a"], "count": [1], "mean": [[1.0]], "scatter": [[0.0]]})
        >>> other = part.assign(mean=[[3.0]])
        >>> merge_evidence(part, other)["scatter"].tolist()
        [array([2.])]
    """
    parts = [table for table in tables if len(table)]
    if not parts:
        return empty_evidence()
    whole = _checked_evidence(pd.concat(parts, ignore_index=True))
    evidence = evidence_in(whole)
    codes, names = pd.factorize(whole["key"], sort=True)
    # Pairs of a key are added at once, the pairs of pairs next: rounding grows with the logarithm
    # of the number of parts, and so does the number of passes.
    while len(codes) > len(names):
        order = np.argsort(codes, kind="stable")
        codes, evidence = codes[order], evidence[torch.from_numpy(order)]
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
        rank = np.arange(len(codes)) - np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
        left = np.flatnonzero(rank % 2 == 0)
        has_right = np.flatnonzero(np.r_[rank[1:] % 2 == 1, False][left])
        added = (
            evidence[torch.from_numpy(left[has_right])]
            + evidence[torch.from_numpy(left[has_right] + 1)]
        )
        at = torch.from_numpy(has_right)
        kept = evidence[torch.from_numpy(left)]
        evidence = Evidence(
            kept.count.index_copy(0, at, added.count),
            kept.mean.index_copy(0, at, added.mean),
            kept.scatter.index_copy(0, at, added.scatter),
        )
        codes = codes[left]
    order = np.argsort(codes, kind="stable")
    return _as_table(pd.Index(names), evidence[torch.from_numpy(order)])


def forget_evidence(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return a table of evidence without elements that were part of it; empty keys are left out.

    A window that slides forgets its oldest part.

    Args:
        table: The evidence.
        other: Evidence of some of its elements.

    Raises:
        UserError: If elements cannot have been part of it; the message names the key.
    """
    if not len(other):
        return _checked_evidence(table)
    table, other = _checked_evidence(table), _checked_evidence(other)
    position = pd.Index(table["key"]).get_indexer(pd.Index(other["key"]))
    if (position < 0).any():
        raise UserError(f"forget: expected keys of the evidence, got {_some(other, position < 0)}")
    evidence, seen = evidence_in(table), evidence_in(other)
    rows = torch.from_numpy(position)
    try:
        rest = evidence[rows] - seen
    except UserError:
        for index, name in enumerate(other["key"]):
            try:
                _ = evidence[rows[index]] - seen[index]
            except UserError as error:
                raise UserError(f"{error} (key {name!r})") from None
        raise
    left = Evidence(
        evidence.count.index_copy(0, rows, rest.count),
        evidence.mean.index_copy(0, rows, rest.mean),
        evidence.scatter.index_copy(0, rows, rest.scatter),
    )
    some = torch.nonzero(left.count > 0).flatten()
    return _as_table(pd.Index(table["key"])[some.numpy()], left[some])


def classify_table(
    table: pd.DataFrame,
    evidence: pd.DataFrame,
    process: ExchangeableProcess,
    vector: str = "vector",
) -> pd.DataFrame:
    """Return the most probable key of every element, under a uniform prior over the keys.

    Args:
        table: Elements, a row each; a column of keys is not needed.
        evidence: Evidence of the keys to choose from.
        process: The process of the latent vectors.
        vector: Column of latent vectors.

    Returns:
        The columns of the table without the vectors, and ``predicted``, its ``probability``, and
        ``log_ratio``: log p(z | set of the key) − log p(z), in nats, below 0 for an element that
        fits no key.

    Raises:
        UserError: If a column is missing, there are no keys, or vectors do not fit.
    """
    evidence = _checked_evidence(evidence)
    if not len(evidence):
        raise UserError("evidence: expected at least one key, got none")
    _, z = _elements(table, None, vector)
    rest = table.drop(columns=[vector]).reset_index(drop=True)
    sets, names = evidence_in(evidence), evidence["key"].to_numpy()
    if len(z) and {z.shape[1], sets.dim} != {process.dim}:
        raise UserError(
            f"{vector}: expected elements and evidence of {process.dim} dimensions, got "
            f"{z.shape[1]} and {sets.dim}"
        )
    if not len(z):
        return rest.assign(predicted=names[:0], probability=np.empty(0), log_ratio=np.empty(0))
    prior = Evidence.empty(process.dim, (1,))
    best, probability, ratio = [], [], []
    with torch.no_grad():
        for rows in torch.from_numpy(z).split(_ROWS):
            log_prob = process.log_prob_given(rows, sets)
            most, at = log_prob.max(1)
            best.append(at)
            probability.append((most - log_prob.logsumexp(1)).exp())
            ratio.append(most - process.log_prob_given(rows, prior).squeeze(1))
    return rest.assign(
        predicted=names[torch.cat(best).numpy()],
        probability=torch.cat(probability).numpy(),
        log_ratio=torch.cat(ratio).numpy(),
    )


def check_elements(table: pd.DataFrame, key: str, vector: str) -> None:
    """Raise as :func:`evidence_of_table` does for a table of elements.

    Args:
        table: Elements, a row each.
        key: Column of keys.
        vector: Column of vectors, or of images as flat lists.

    Raises:
        UserError: With the keys.
    """
    _elements(table, key, vector)


def evidence_in(table: pd.DataFrame) -> Evidence:
    """Return the evidence of a table, of batch shape ``(keys,)``, in the order of its rows.

    Args:
        table: A table of evidence with at least one row.
    """
    mean, scatter = (_in_double(table[name]) for name in ("mean", "scatter"))
    count = torch.from_numpy(table["count"].to_numpy(dtype=np.int64, copy=True))
    return Evidence(count, torch.from_numpy(mean), torch.from_numpy(scatter))


def empty_evidence() -> pd.DataFrame:
    """Return a table of evidence of no key."""
    return pd.DataFrame({name: [] for name in EVIDENCE_COLUMNS}).astype({"count": np.int64})


def matrix_of(column: pd.Series) -> np.ndarray:
    """Return a column of vectors of one dimension as a matrix.

    Args:
        column: Lists, arrays or Arrow lists, at least one.
    """
    values: np.ndarray
    if isinstance(column.dtype, pd.ArrowDtype):
        values = _lists(column).flatten().to_numpy(zero_copy_only=False)
    else:
        # A third of the time of numpy's stack.
        values = np.concatenate([*column])
    return values.reshape(len(column), -1)


def check_columns(names: Iterable[str], *wanted: str) -> None:
    """Raise unless a table has some columns.

    Args:
        names: The columns that it has.
        wanted: The columns to have.

    Raises:
        UserError: With the column that is missing.
    """
    for name in wanted:
        if name not in names:
            raise UserError(f"column: expected one called {name}, got {', '.join(map(str, names))}")


def _as_table(names: pd.Index, evidence: Evidence) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "key": names,
            "count": evidence.count.numpy(),
            "mean": [*evidence.mean.numpy()],
            "scatter": [*evidence.scatter.numpy()],
        }
    )


def _in_double(column: pd.Series) -> np.ndarray:
    values = matrix_of(column)
    # Arrow's memory cannot be written to, and torch takes none of that kind.
    return values.astype(np.float64, copy=not values.flags.writeable)


def _lists(column: pd.Series) -> pa.Array:
    """Return a column of Arrow lists as one array."""
    lists = pa.array(column)
    return lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists


def _lengths(column: pd.Series) -> np.ndarray:
    """Return the dimensions of vectors; −1 for none."""
    if isinstance(column.dtype, pd.ArrowDtype):
        return np.asarray(pc.list_value_length(_lists(column)).fill_null(-1))
    return np.fromiter((len(x) if hasattr(x, "__len__") else -1 for x in column), int, len(column))


def _checked_evidence(table: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in EVIDENCE_COLUMNS if name not in table.columns]
    if missing:
        raise UserError(
            f"evidence: expected columns {', '.join(EVIDENCE_COLUMNS)}, got no {missing[0]}"
        )
    sizes = np.unique([_lengths(table[name]) for name in ("mean", "scatter")])
    if len(sizes) > 1:
        raise UserError(f"evidence: expected one dimension, got {', '.join(map(str, sizes))}")
    return table


def _elements(table: pd.DataFrame, key: str | None, vector: str) -> tuple[Any, np.ndarray]:
    """Return the keys and the checked vectors, ``(N, D)`` in float64, of a table of elements."""
    check_columns(table.columns, *filter(None, (key, vector)))
    keys = table[key] if key else pd.Series(range(len(table)))
    if keys.isna().any():
        raise UserError(
            f"{key}: expected a key in every row, got none in {int(keys.isna().sum())} of "
            f"{len(keys)}"
        )
    if not len(table):
        return keys, np.empty((0, 1))
    sizes = _lengths(table[vector])
    usual = np.bincount(sizes[sizes >= 0], minlength=1).argmax()
    if (sizes != usual).any():
        raise UserError(
            f"{vector}: expected vectors of one dimension ({usual}), got others for "
            f"{_some(table, sizes != usual, keys)}"
        )
    z = _in_double(table[vector])
    broken = ~np.isfinite(z).all(1)
    if broken.any():
        raise UserError(
            f"{vector}: expected finite numbers, got NaN or infinity for "
            f"{_some(table, broken, keys)}"
        )
    return keys, z


def _some(table: pd.DataFrame, chosen: np.ndarray, keys: pd.Series | None = None) -> str:
    """Return a few of the keys of chosen rows, as text."""
    found = pd.unique((table["key"] if keys is None else keys)[chosen])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"key {', '.join(map(repr, found[:_NAMED].tolist()))}{more}"
