"""Fetching data sets from their original homes, when asked to."""

from pathlib import Path

import pooch

from bruno.data.registry import SOURCES
from bruno.data.remote import RemoteFile
from bruno.errors import UserError


def downloadable_names() -> tuple[str, ...]:
    """Return the names that :func:`download` takes."""
    return tuple(name for name, source in SOURCES.items() if source.files)


def download(name: str, data_dir: Path) -> list[Path]:
    """Fetch a data set, unless its files are already there.

    A file that is there is left as it is, whatever its checksum: it may be a repacked copy put
    there by hand. A file that is fetched appears only once it is complete and its checksum agrees.

    Args:
        name: One of :func:`downloadable_names`.
        data_dir: Folder that holds the data sets; made if it does not exist.

    Returns:
        The files of the data set.

    Raises:
        UserError: If the name is unknown or built in, or a file cannot be fetched or written.
    """
    if name in SOURCES and SOURCES[name].built_in:
        raise UserError(f"name: {name} is built in, nothing needs to be downloaded")
    if name not in downloadable_names():
        raise UserError(
            f"name: expected one of {', '.join(downloadable_names())} to download, got {name!r}"
        )
    return [_fetch(file, data_dir) for file in SOURCES[name].files]


def _fetch(file: RemoteFile, data_dir: Path) -> Path:
    target = data_dir / file.path
    if target.exists():
        return target
    try:
        pooch.retrieve(file.url, known_hash=file.checksum, fname=target.name, path=target.parent)
    # Network errors of every kind are OSErrors; a checksum that disagrees is a ValueError.
    except (OSError, ValueError) as error:
        raise UserError(f"cannot download {file.url} to {target}: {error}") from error
    return target
