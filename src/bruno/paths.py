"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from bruno.errors import UserError


def user_path(path: str | Path, name: str = "path") -> Path:
    """Return a path with a leading ``~`` replaced by the home directory, as a shell does.

    Args:
        path: The path as given.
        name: The argument it was given as, for the error.

    Raises:
        UserError: If no file can have this name.

    Example:
        >>> user_path("~/model") == Path.home() / "model"
        True
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{name}: expected a path, got {path!r}")
    text = os.fspath(path)
    if not text or "\0" in text:
        raise UserError(f"{name}: expected a path, got {text!r}")
    # Unlike Path.expanduser, this leaves ``~stranger`` as it is.
    return Path(os.path.expanduser(text))  # noqa: PTH111


def check_new_file(path: Path, name: str = "path", *, overwrite: bool) -> None:
    """Check, before work that takes long, that a file may be written.

    Args:
        path: The file.
        name: The argument it was given as, for the error.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        UserError: If it is there and may not, is a directory, or cannot be made.
    """
    if path.is_dir():
        raise UserError(f"{name}: expected a file, {path} is a directory")
    if path.is_file() and not overwrite:
        raise UserError(f"{name}: {path} is there already; --overwrite replaces it")
    check_writable(path, name)


def check_writable(path: Path, name: str = "path") -> None:
    """Check, before work that takes long, that a file or directory can be made where there is none.

    Args:
        path: The file or directory; its parents may be missing, too.
        name: The argument it was given as, for the error.

    Raises:
        UserError: If a file is in the way, or the directory must not be written to.
    """
    place = next(part for part in (path, *path.absolute().parents) if part.exists())
    if place != path and not place.is_dir():
        raise UserError(f"{name}: cannot write {path}, because {place} is a file")
    if not os.access(place, os.W_OK):
        raise UserError(f"{name}: cannot write {path}, because {place} is read-only")
