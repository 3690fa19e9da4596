"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from bruno.errors import UserError


def user_path(path: str | Path, name: str = "path") -> Path:
    """Return a path with a leading ``~`` replaced by the home directory, as a shell does.

    Args:
        path: What the user gave.
        name: The argument it was given as, for the error.

    Raises:
        UserError: If no file can have this name.

    Example:
        >>> user_path("~/model") == Path.home() / "model"
        True
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise UserError(f"{name}: expected a path, got {text!r}")
    # Unlike Path.expanduser, this leaves ``~stranger`` as it is.
    return Path(os.path.expanduser(text))  # noqa: PTH111
