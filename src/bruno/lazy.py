"""Exports that are imported when they are first used, so that a package opens at once."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

_EXTRAS = {
    **dict.fromkeys(
        ("accelerate", "jsonargparse", "PIL", "platformdirs", "pooch", "yaml"), "train"
    ),
    "rich": "train",
    "matplotlib": "report",
    "river": "river",
    **dict.fromkeys(
        ("alembic", "fastapi", "prometheus_client", "psycopg", "sqlalchemy", "uvicorn"),
        "serve",
    ),
    **dict.fromkeys(("onnx", "onnx_ir", "onnxscript"), "export"),
    **dict.fromkeys(("pandas", "pyarrow"), "jobs"),
    "ray": "ray",
}
"""The extra of this package that installs an optional package, by the name of its import."""


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return the command that installs a missing optional package; ``None`` if it is no such.

    Args:
        error: The error of an import.

    Example:
        >>> missing_extra(ModuleNotFoundError(name="PIL"))
        "needs PIL, which pip install 'bruno-sets[train]' installs"
    """
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return f"needs {package}, which pip install 'bruno-sets[{_EXTRAS[package]}]' installs"


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
        try:
            module = importlib.import_module(homes[name])
        except ModuleNotFoundError as error:
            needs = missing_extra(error)
            if needs is None:
                raise
            raise ModuleNotFoundError(f"{package}.{name} {needs}", name=error.name) from None
        return getattr(module, name, module)

    return get, lambda: sorted(homes)
