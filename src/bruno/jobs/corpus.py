"""Jobs over Parquet files: embed, gather evidence, classify, find the best; they can be resumed.

:mod:`bruno.jobs.work` says how work is spread and resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from bruno.errors import UserError
from bruno.jobs.embedder import Embedder
from bruno.jobs.files import check_same_identity, parquet_files, read_evidence, write_table
from bruno.jobs.tables import (
    check_columns,
    check_elements,
    classify_table,
    evidence_of_table,
    matrix_of,
    merge_evidence,
)
from bruno.jobs.work import Engine, Work, made_by, run_work
from bruno.paths import user_path
from bruno.progress import ProgressCallback
from bruno.validation import check_whole

_BYTES, _ROWS = 2**24, 2**16  # of a file at once, at most
_MERGED = "evidence.parquet"
_FILES = 64  # of evidence merged at once


def embed_corpus(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    model: str | Path,
    *,
    column: str = "image",
    engine: Engine = "local",
    workers: int = 1,
    on_progress: ProgressCallback | None = None,
) -> list[Path]:
    """Replace elements by latent vectors, in a column ``vector``.

    Args:
        inputs: A Parquet file, a folder of them, or several.
        out: Folder of the results, one file for every input.
        model: Directory of a saved model, or the name of one that comes with the package.
        column: The elements: images as flat lists of grey levels, or vectors.
        engine: ``local``, in this process, or ``ray``, on the cluster that Ray finds.
        workers: Files at once, with Ray.
        on_progress: Called with the stage, and how many of all files are done.

    Returns:
        The files, in the order of the inputs.

    Raises:
        UserError: If an argument or a file is not as expected; results that are done stay.
    """
    embedder = Embedder.of(model)
    work = Work(_embedded, {"embedder": embedder, "column": column})
    groups, folder = _each(parquet_files(inputs)), user_path(out, "out")
    return run_work(work, groups, folder, "embedding", engine, workers, on_progress)


def evidence_of_corpus(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    key: str = "key",
    column: str = "vector",
    model: str | Path | None = None,
    engine: Engine = "local",
    workers: int = 1,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """Gather the evidence of every key of a corpus.

    Args:
        inputs: A Parquet file, a folder of them, or several.
        out: Folder of the results: the evidence of every input, and of all in
            ``evidence.parquet``, which is written last.
        key: Column of keys.
        column: Column of latent vectors, or with a model of elements.
        model: A model whose latent vectors are wanted, as for :func:`embed_corpus`.
        engine: ``local``, in this process, or ``ray``, on the cluster that Ray finds.
        workers: Files at once, with Ray.
        on_progress: Called with the stage, and how many of all files are done.

    Returns:
        The file of all evidence, to read with :func:`~bruno.jobs.files.read_evidence`.

    Raises:
        UserError: If an argument or a file is not as expected, with the keys; then nothing is
            merged, and parts that are done stay.
    """
    embedder = None if model is None else Embedder.of(model)
    work = Work(_evidence, {"embedder": embedder, "key": key, "column": column})
    groups, folder = _each(parquet_files(inputs)), user_path(out, "out")
    parts = run_work(work, groups, folder / "parts", "evidence", engine, workers, on_progress)
    sources = {made_by(part): part for part in parts}
    if len(sources) > 1:
        one, other, *_ = sources.values()
        raise UserError(
            f"inputs: expected vectors of one model, got {one.name} and {other.name} of two; embed "
            "them with the same weights and the same version of bruno"
        )
    level = 0
    while len(parts) > _FILES:
        level += 1
        groups = [parts[index : index + _FILES] for index in range(0, len(parts), _FILES)]
        merged = folder / f"merged-{level}"
        parts = run_work(Work(_merged), groups, merged, "merging", engine, workers, on_progress)
    path = folder / _MERGED
    write_table(_merged(*parts), path, next(iter(sources)))
    return path


def classify_corpus(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    evidence: str | Path,
    model: str | Path,
    *,
    column: str = "vector",
    engine: Engine = "local",
    workers: int = 1,
    on_progress: ProgressCallback | None = None,
) -> list[Path]:
    """Give every element of a corpus its most probable key, and score how well it fits.

    Args:
        inputs: A Parquet file, a folder of them, or several.
        out: Folder of the results, one file for every input, as
            :func:`~bruno.jobs.tables.classify_table` returns them.
        evidence: The evidence of the keys, a file.
        model: The model, whose process is needed.
        column: Column of latent vectors.
        engine: ``local``, in this process, or ``ray``, on the cluster that Ray finds.
        workers: Files at once, with Ray.
        on_progress: Called with the stage, and how many of all files are done.

    Returns:
        The files, in the order of the inputs.

    Raises:
        UserError: If an argument or a file is not as expected; results that are done stay.
    """
    file = user_path(evidence, "evidence")
    check_same_identity([file])
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    work = Work(
        _classified,
        {
            "embedder": Embedder.of(model),
            "column": column,
            "evidence": str(file),
            "content": content,
        },
    )
    groups, folder = _each(parquet_files(inputs)), user_path(out, "out")
    return run_work(work, groups, folder, "classifying", engine, workers, on_progress)


def top_of_corpus(files: Sequence[Path], count: int, by: str = "log_ratio") -> pd.DataFrame:
    """Return the elements of every predicted key that fit it best, best first.

    Args:
        files: Results of :func:`classify_corpus`.
        count: How many of a key.
        by: Column to rank by.

    Raises:
        UserError: If the count is not positive.
    """
    check_whole("count", count, 1)
    best = pd.DataFrame()
    for file in files:
        both = pd.concat([best, pd.read_parquet(file)], ignore_index=True)
        ranked = both.sort_values(["predicted", by], ascending=[True, False], kind="stable")
        best = ranked.groupby("predicted", sort=False).head(count)
    return best.reset_index(drop=True)


def _each(files: Sequence[Path]) -> list[list[Path]]:
    """Return every file as a group of its own."""
    return [[file] for file in files]


def _tables(file: Path, column: str, others: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """Yield a file in parts that fit into memory, without copying its column of vectors.

    Args:
        file: The file.
        column: Its column of vectors, or of images as flat lists.
        others: The other columns to read; by default all.
    """
    with pq.ParquetFile(file) as content:
        check_columns(content.schema_arrow.names, column, *(others or ()))
        columns = None if others is None else [column, *others]
        groups = [content.metadata.row_group(i) for i in range(content.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        rows = max(1, min(_ROWS, _BYTES * content.metadata.num_rows // max(1, size)))
        if not content.metadata.num_rows:
            yield content.schema_arrow.empty_table().to_pandas()
        for batch in content.iter_batches(rows, columns=columns):
            table = batch.drop_columns([column]).to_pandas()
            yield table.assign(**{column: pd.arrays.ArrowExtensionArray(batch[column])})


def _embedded(file: Path, embedder: Embedder, column: str) -> pd.DataFrame:
    parts = [_with_vectors(table, embedder, column) for table in _tables(file, column)]
    return pd.concat(parts, ignore_index=True)


def _with_vectors(table: pd.DataFrame, embedder: Embedder, column: str) -> pd.DataFrame:
    rest = table.drop(columns=[column])
    if not len(table):
        return rest.assign(vector=[])
    return rest.assign(vector=[*embedder.embed(matrix_of(table[column]))])


def _evidence(file: Path, embedder: Embedder | None, key: str, column: str) -> pd.DataFrame:
    whole = pd.DataFrame()
    for table in _tables(file, column, [key]):
        if embedder is not None:
            check_elements(table, key, column)
            table = _with_vectors(table, embedder, column).rename(columns={"vector": column})
        whole = merge_evidence(whole, evidence_of_table(table, key, column))
    return whole


def _merged(*files: Path) -> pd.DataFrame:
    return merge_evidence(*map(pd.read_parquet, files))


def _classified(
    file: Path, embedder: Embedder, column: str, evidence: str, content: str
) -> pd.DataFrame:
    path = Path(evidence)
    if hashlib.sha256(path.read_bytes()).hexdigest() != content:
        raise UserError(f"evidence: {path} is not the file that the job was started with")
    process, keys = embedder.load().process, read_evidence(path)
    parts = [classify_table(table, keys, process, column) for table in _tables(file, column)]
    return pd.concat(parts, ignore_index=True)
