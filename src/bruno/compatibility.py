"""Names in files that earlier versions wrote, as they are today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RENAMED: dict[str, dict[str, str | None]] = {"data": {"also": None}}
"""For every part of an experiment, today's name of each old field; ``None`` where it is gone."""


def current_experiment(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved experiment with the field names of this version.

    Args:
        experiment: Nested dictionaries, as saved beside a model.

    Example:
        >>> current_experiment({"data": {"name": "glyphs", "also": None}, "seed": 0})
        {'data': {'name': 'glyphs'}, 'seed': 0}
    """
    current = dict(experiment)
    for part, names in _RENAMED.items():
        fields = current.get(part)
        if isinstance(fields, Mapping):
            renamed = {names.get(name, name): value for name, value in fields.items()}
            current[part] = {name: value for name, value in renamed.items() if name is not None}
    return current
