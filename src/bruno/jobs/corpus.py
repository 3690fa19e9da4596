"""Jobs over Parquet files: embed, gather evidence, classify, find the best; they can be resumed.

Every file of the input becomes one file of the output, written whole or not at all, so a job that
was stopped goes on with the files that are missing, wherever it stopped. What made a file (the
model's weights, the version of this package, the work, and the input's size and time) is its
identity: files of another identity are made again, and never merged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from bruno.errors import UserError
from bruno.jobs.files import (
    check_same_identity,
    identity_of,
    parquet_files,
    read_evidence,
    write_table,
)
from bruno.jobs.tables import check_elements, classify_table, evidence_of_table, merge_evidence
from bruno.model import Bruno
from bruno.paths import user_path
from bruno.pretrained import locate, read_config
from bruno.progress import ProgressCallback
from bruno.validation import check_choice, check_whole
from bruno.version import __version__

Engine = Literal["local", "ray"]
_ROWS = 16384  # of a file at once
_MERGED = "evidence.parquet"
_FILES = 64  # of evidence merged at once


@dataclass(frozen=True)
class Embedder:
    """A model by name, which every worker loads for itself.

    Attributes:
        model: Directory of a saved model, or the name of one that comes with the package.
        weights_sha256: SHA-256 of its weights where the job was started; a worker that finds
            others refuses.
    """

    model: str
    weights_sha256: str

    @classmethod
    def of(cls, model: str | Path) -> Embedder:
        """Return the embedder of a saved model.

        Args:
            model: Directory of the model, or the name of one that comes with the package.

        Raises:
            UserError: If there is no such model.
        """
        return cls(str(model), str(read_config(locate(model))["weights_sha256"]))

    def load(self) -> Bruno:
        """Return the model, which a process loads once.

        Raises:
            UserError: If its weights are not those that the job was started with.
        """
        found = str(read_config(locate(self.model))["weights_sha256"])
        if found != self.weights_sha256:
            raise UserError(
                f"model: expected weights {self.weights_sha256[:12]}, this worker has "
                f"{found[:12]} in {self.model}"
            )
        return _loaded(self.model, found)

    @torch.no_grad()
    def embed(self, images: np.ndarray) -> np.ndarray:
        """Return the latent vectors of elements, ``(N, *event)`` or flat, as ``(N, D)``.

        Args:
            images: Elements as :meth:`~bruno.model.Bruno.encode` takes them.
        """
        model = self.load()
        x = torch.from_numpy(np.ascontiguousarray(images)).reshape(-1, *model.event_shape)
        return model.encode(x if len(model.event_shape) == 3 else x.double()).double().numpy()


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
    work = _Work(_embedded, {"embedder": embedder, "column": column})
    return _run(work, inputs, out, "embedding", engine, workers, on_progress)


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
    work = _Work(_evidence, {"embedder": embedder, "key": key, "column": column})
    parts = _run(
        work, inputs, user_path(out, "out") / "parts", "evidence", engine, workers, on_progress
    )
    made_by = {_made_by(str(identity_of(part))): part for part in parts}
    if len(made_by) > 1:
        one, other, *_ = made_by.values()
        raise UserError(
            f"inputs: expected vectors of one model, got {one.name} and {other.name} of two; embed "
            "them with the same weights and the same version of bruno"
        )
    whole = pd.DataFrame()
    for index in range(0, len(parts), _FILES):
        some = [pd.read_parquet(part) for part in parts[index : index + _FILES]]
        whole = merge_evidence(whole, *some)
    path = user_path(out, "out") / _MERGED
    write_table(whole, path, next(iter(made_by)))
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
    work = _Work(
        _classified,
        {
            "embedder": Embedder.of(model),
            "column": column,
            "evidence": str(file),
            "content": content,
        },
    )
    return _run(work, inputs, out, "classifying", engine, workers, on_progress)


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


@dataclass(frozen=True)
class _Work:
    """What is done with a file: a function of its path, and arguments that identify it."""

    function: Callable[..., pd.DataFrame]
    arguments: dict[str, Any]

    @property
    def identity(self) -> str:
        """SHA-256 of the work, the model and the version."""
        content = [__version__, self.function.__name__, repr(sorted(self.arguments.items()))]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def identity_for(self, file: Path) -> str:
        """Return the identity of the result of a file."""
        status = file.stat()
        return json.dumps(
            {
                "work": self.identity,
                "source": _work_in(identity_of(file)),
                "input": [str(file), status.st_size, status.st_mtime_ns],
            }
        )

    def run(self, file: Path, target: Path) -> str:
        """Work a file through, unless that is done; return what is wrong with it, or nothing."""
        identity = self.identity_for(file)
        if identity_of(target) == identity:
            return ""
        try:
            write_table(self.function(file, **self.arguments), target, identity)
        except UserError as error:
            return f"{file}: {error}"
        return ""


def _work_in(identity: str | None) -> str | None:
    """Return what made a file, without the input it was made from."""
    try:
        return _made_by(identity or "")
    except ValueError:
        return identity


def _made_by(identity: str) -> str:
    content = json.loads(identity)
    return (
        json.dumps([content["work"], content["source"]]) if isinstance(content, dict) else identity
    )


def _run(
    work: _Work,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    stage: str,
    engine: str,
    workers: int,
    on_progress: ProgressCallback | None,
) -> list[Path]:
    check_choice("engine", engine, ("local", "ray"))
    check_whole("workers", workers, 1)
    files = parquet_files(inputs)
    directory = user_path(out, "out")
    directory.mkdir(parents=True, exist_ok=True)
    # Files of one name in different folders stay apart.
    targets = [
        directory / f"{file.stem}-{hashlib.sha256(str(file).encode()).hexdigest()[:8]}.parquet"
        for file in files
    ]
    execute = _with_ray if engine == "ray" else _here
    wrong = []
    for done, message in enumerate(execute(work, files, targets, workers)):
        if message:
            wrong.append(message)
        if on_progress:
            on_progress(stage, done + 1, len(files))
    if wrong:
        more = f" (and {len(wrong) - 1} more files)" if len(wrong) > 1 else ""
        raise UserError(f"{wrong[0]}{more}")
    return targets


def _here(work: _Work, files: Sequence[Path], targets: Sequence[Path], _: int) -> Iterator[str]:
    yield from map(work.run, files, targets)


def _with_ray(
    work: _Work, files: Sequence[Path], targets: Sequence[Path], workers: int
) -> Iterator[str]:
    import ray

    pairs = [
        {"file": str(file), "target": str(target)}
        for file, target in zip(files, targets, strict=True)
    ]

    def on_worker(row: dict[str, Any]) -> dict[str, Any]:
        torch.set_num_threads(1)
        return {"wrong": work.run(Path(row["file"]), Path(row["target"]))}

    corpus = ray.data.from_items(pairs, override_num_blocks=len(pairs))
    for row in corpus.map(on_worker, concurrency=workers).iter_rows():
        yield row["wrong"]


@lru_cache(maxsize=2)
def _loaded(model: str, _weights: str) -> Bruno:
    return Bruno.from_pretrained(model).requires_grad_(requires_grad=False)


def _tables(file: Path, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """Yield a file in parts that fit into memory."""
    with pq.ParquetFile(file) as content:
        missing = [name for name in columns or () if name not in content.schema_arrow.names]
        if missing:
            raise UserError(
                f"column: expected one called {missing[0]}, got "
                f"{', '.join(content.schema_arrow.names)}"
            )
        if not content.metadata.num_rows:
            yield content.schema_arrow.empty_table().to_pandas()
        for batch in content.iter_batches(_ROWS, columns=columns):
            yield batch.to_pandas()


def _embedded(file: Path, embedder: Embedder, column: str) -> pd.DataFrame:
    parts = [_with_vectors(table, embedder, column) for table in _tables(file)]
    return pd.concat(parts, ignore_index=True)


def _with_vectors(table: pd.DataFrame, embedder: Embedder, column: str) -> pd.DataFrame:
    if column not in table.columns:
        raise UserError(f"column: expected one called {column}, got {', '.join(table.columns)}")
    rest = table.drop(columns=[column])
    if not len(table):
        return rest.assign(vector=[])
    elements = np.stack([np.asarray(element) for element in table[column]])
    return rest.assign(vector=[*embedder.embed(elements)])


def _evidence(file: Path, embedder: Embedder | None, key: str, column: str) -> pd.DataFrame:
    whole = pd.DataFrame()
    for table in _tables(file, [key, column]):
        if embedder is not None:
            check_elements(table, key, column)
            table = _with_vectors(table, embedder, column).rename(columns={"vector": column})
        whole = merge_evidence(whole, evidence_of_table(table, key, column))
    return whole


def _classified(
    file: Path, embedder: Embedder, column: str, evidence: str, content: str
) -> pd.DataFrame:
    path = Path(evidence)
    if hashlib.sha256(path.read_bytes()).hexdigest() != content:
        raise UserError(f"evidence: {path} is not the file that the job was started with")
    process, keys = embedder.load().process, read_evidence(path)
    parts = [classify_table(table, keys, process, column) for table in _tables(file)]
    return pd.concat(parts, ignore_index=True)
