"""Errors of the command in one line that names its options."""

from __future__ import annotations

import re
from collections.abc import Sequence

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "tuple": "a list as in [1,2]",
    "list": "a list as in [1,2]",
}
_NO_KIND = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: \[(.*)\] Errors: .*"
    r"Given value type: .*? Given value: (.*)"
)
_NOT_OF_KIND = re.compile(r"Expected a (<class '\w+'>)\. Got value: (.*)")
_NOT_ONE_OF = re.compile(r"Expected a typing\.Literal\[(.*?)\]\. Got value: (.*)")
_EACH_KIND = re.compile(r"<class '(\w+)'>|(tuple|list)\[[^\]]*\]")


def as_one_line(message: str, options: Sequence[str]) -> str:
    """Return an error in which arguments are named as options of the command.

    Args:
        message: It may begin with the name of an argument and a colon, as the library raises it,
            or be one of jsonargparse.
        options: Names of the options of the command, without dashes.

    Example:
        >>> as_one_line("steps: expected at least 1, got 0", ["seed", "training.steps"])
        '--training.steps: expected at least 1, got 0'
    """
    message = re.sub(r'Parser key "([\w.]+)"', r"--\1", " ".join(message.split()))
    for pattern in (_NO_KIND, _NOT_OF_KIND):
        message = pattern.sub(lambda found: f"expected {_kinds(found[1])}, got {found[2]}", message)
    message = _NOT_ONE_OF.sub(r"expected one of \1, got \2", message)
    name, colon, rest = message.partition(": ")
    matching = [option for option in options if option == name]
    matching = matching or [option for option in options if option.endswith(f".{name}")]
    return f"--{matching[0]}: {rest}" if colon and len(matching) == 1 else message


def _kinds(types: str) -> str:
    """Return in words what types jsonargparse names."""
    named = [name or container for name, container in _EACH_KIND.findall(types)]
    return " or ".join(_KINDS.get(name, f"a {name}") for name in named) or types
