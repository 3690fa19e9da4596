"""Decoded images kept on disk, so that a data set is decoded once and read in a moment after.

A cache file is a NumPy archive of plain arrays, read without pickle, so a foreign file in the
cache folder cannot run code. It is named after everything that decides its content, so it is never
out of date; and it is only ever a copy, so whatever goes wrong with it is mended by decoding anew.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bruno.data.locations import cache_directory

Arrays = Mapping[str, NDArray[np.generic]]
"""Named arrays of numbers or text, never of objects."""


def cached_arrays(name: str, key: object, build: Callable[[], Arrays]) -> Arrays:
    """Return what ``build()`` returns, from the cache where it has been built before.

    Args:
        name: Beginning of the name of the cache file.
        key: Everything the arrays depend on, made of what JSON can hold: the version of the
            loader, its options, and :func:`file_identity` of the files it reads.
        build: Makes the arrays; called only if they are not in the cache, or not readable there.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    path = cache_directory() / f"{name}-{digest}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = build()
        # A read-only or full disk costs speed, never the data.
        with contextlib.suppress(OSError):
            _write(path, arrays)
    return arrays


def file_identity(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return path, size in bytes and time of change in nanoseconds of files.

    Args:
        paths: Files that exist.
    """
    identity = []
    for path in paths:
        status = path.stat()
        identity.append((str(path.resolve()), status.st_size, status.st_mtime_ns))
    return identity


def _read(path: Path) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved there, so that nobody ever reads half a file.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
