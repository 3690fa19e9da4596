"""The ``bruno`` command: flags and YAML become the arguments of the functions in ``commands``."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from bruno.console import error_console
from bruno.errors import UserError
from bruno.recipes import recipe_path

_COMMANDS = {
    "demo": "train on built-in characters for three minutes and write a report",
    "download": "fetch a data set",
    "train": "train a model from a recipe",
    "evaluate": "measure likelihood and few-shot accuracy",
    "sample": "draw more of what is in a few pictures",
    "info": "show what is installed, or what a model is",
}
_POSITIONAL = {"download": "name"}
_SWITCHES = {
    "resume": "go on with the run in the directory, if there is one",
    "overwrite": "replace an earlier run in the directory",
    "as_json": "print the result as JSON on standard output",
}
_FLAGS = {"as_json": "--json"}
_LISTS: dict[str, tuple[type, str]] = {
    "given": (str, "image files, or folders of them, that show what to draw more of"),
    "context": (str, "labels to draw with, as azimuth=45 or azimuth=0,90,180"),
    "given_context": (str, "labels of the given images (default: angles from the first)"),
    "ways": (int, "numbers of classes to choose from (default: 5 20)"),
    "shots": (int, "numbers of examples per class (default: 1 5)"),
}
_TAKES_DATA = ("train", "evaluate")
_DATA_FLAGS = {"--data_dir": "--data.data_dir", "--skip_bad": "--data.skip_bad"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, or 2 for a mistake of the user.

    Args:
        arguments: Command line without the program's name; by default that of the process.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            given = sys.argv[1:] if arguments is None else arguments
            command, values = _parse(_normalised(given))
            command(**values)
    except (UserError, ArgumentError, OSError) as error:
        error_console().print(f"bruno: error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        error_console().print("bruno: stopped")
        return 130
    return 0


def _parse(arguments: list[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return the function of the sub-command and its arguments."""
    parser = ArgumentParser(
        prog="bruno",
        description="Exchangeable sequence models: exact likelihoods, samples and few-shot "
        "classification from a handful of examples, with no retraining.",
        exit_on_error=False,
    )
    commands = parser.add_subcommands(dest="command", required=True)
    # Only the module of the command that is asked for is imported: help stays quick.
    asked_for = next((a for a in arguments if a in _COMMANDS), None)
    functions: dict[str, Callable[..., None]] = {}
    for name, summary in _COMMANDS.items():
        sub = ArgumentParser(prog=f"bruno {name}", description=summary, exit_on_error=False)
        if name == asked_for:
            functions[name] = _add_command(sub, name)
        commands.add_subcommand(name, sub, help=summary)
    parsed = parser.instantiate(parser.parse_args(arguments))
    values = vars(parsed[parsed.command])
    values.pop("config", None)
    return functions[parsed.command], values


def _add_command(parser: ArgumentParser, name: str) -> Callable[..., None]:
    function: Callable[..., None] = getattr(importlib.import_module(f"bruno.commands.{name}"), name)
    if name == "train":
        parser.add_argument("--config", action="config", help="recipe, by name or as a YAML file")
    if name in _POSITIONAL:
        parser.add_argument(_POSITIONAL[name], type=str, help="name of the data set")
    taken: set[str | int] = {_POSITIONAL.get(name, ""), *_SWITCHES, *_LISTS}
    parser.add_function_arguments(function, skip=taken)
    for switch, text in _SWITCHES.items():
        if switch in function.__annotations__:
            flag = _FLAGS.get(switch, f"--{switch}")
            parser.add_argument(flag, dest=switch, action="store_true", help=text)
    for option, (kind, text) in _LISTS.items():
        if option in function.__annotations__:
            parser.add_argument(f"--{option}", type=kind, nargs="+", help=text)
    return function


def _normalised(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as the parser knows them.

    Dashes in flags become underscores, short forms of ``--data`` are written out, and the value of
    ``--config`` becomes the path of a file.
    """
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] == "--config":
            result.append(str(recipe_path(argument)))
            continue
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("-", "_")
            if result and result[0] in _TAKES_DATA and flag in _DATA_FLAGS:
                flag = _DATA_FLAGS[flag]
                if flag == "--data.skip_bad" and not equals:
                    equals, value = "=", "true"
        if flag == "--config" and equals:
            value = str(recipe_path(value))
        result.append(flag + equals + value)
    return result


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    error_console().print(f"bruno: warning: {message}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
