"""Exports that are imported when they are first used, so that a package opens at once."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Args:
        package: Name of the package.
        homes: For every exported name, the module that defines it, or that is exported itself.
            No export may have the name of another module of the package, which would hide it.

    Example:
        >>> get, names = lazy_exports("bruno", {"Evidence": "bruno.evidence"})
        >>> get("Evidence").__name__, names()
        ('Evidence', ['Evidence'])
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name])
        return getattr(module, name, module)

    return get, lambda: sorted(homes)
