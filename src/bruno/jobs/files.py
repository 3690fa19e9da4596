"""Tables on disk: Parquet files that carry the identity of the model that made them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bruno.errors import UserError
from bruno.jobs.tables import merge_evidence
from bruno.paths import user_path
from bruno.serialization import write_atomically

_IDENTITY = b"bruno_identity"


def parquet_files(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the Parquet files of a corpus, sorted.

    Args:
        inputs: A file, a folder of files, or several of them.

    Raises:
        UserError: If one is not there, or there is no file at all.
    """
    given = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    files: list[Path] = []
    for place in (user_path(item, "inputs") for item in given):
        if not place.exists():
            raise UserError(f"inputs: expected a Parquet file or a folder of them, {place} is none")
        files += sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    if not files:
        raise UserError(
            f"inputs: expected Parquet files, found none in {', '.join(map(str, given))}"
        )
    return files


def write_table(table: pd.DataFrame, path: Path, identity: str) -> None:
    """Write a table as a Parquet file that is, whatever happens, the old one or the new one.

    Args:
        table: The table.
        path: The file; its directory exists.
        identity: Of the model and the work that made it.
    """
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata(
        {**(content.schema.metadata or {}), _IDENTITY: identity.encode()}
    )
    buffer = io.BytesIO()
    pq.write_table(content, buffer)
    write_atomically(path, buffer.getvalue())


def identity_of(path: Path) -> str | None:
    """Return the identity in a Parquet file; ``None`` for one without, or that is none at all.

    Args:
        path: The file.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    found = metadata.get(_IDENTITY)
    return None if found is None else found.decode()


def write_evidence(table: pd.DataFrame, path: str | Path, identity: str = "") -> None:
    """Write a table of evidence.

    Args:
        table: The evidence.
        path: The file.
        identity: Of the model whose latent vectors it is of.
    """
    write_table(table, user_path(path), identity)


def read_evidence(*paths: str | Path) -> pd.DataFrame:
    """Return the evidence of one or several files, merged.

    Args:
        paths: The files, as :func:`write_evidence` and the jobs write them.

    Raises:
        UserError: If a file is missing, or they are of different models.
    """
    files = [user_path(path, "paths") for path in paths]
    check_same_identity(files)
    return merge_evidence(*(pd.read_parquet(file) for file in files))


def check_same_identity(files: Iterable[Path]) -> str:
    """Return the identity that all files have.

    Args:
        files: The files.

    Raises:
        UserError: If a file is missing or two differ, as when workers ran different models.
    """
    found: dict[str, Path] = {}
    for file in files:
        identity = identity_of(file)
        if identity is None:
            raise UserError(f"evidence: expected a file of evidence, {file} is none")
        found.setdefault(identity, file)
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise UserError(
            f"evidence: expected files of one model, got {first} of {one[:12]} and {second} of "
            f"{other[:12]}; workers must run the same version of bruno and the same weights"
        )
    return next(iter(found), "")
