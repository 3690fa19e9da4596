"""Flags and YAML become the arguments of the functions of the sub-commands."""

from __future__ import annotations

import importlib
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from bruno import __version__
from bruno.cli.console import error_console, escape_what_cannot_be_printed
from bruno.cli.mistakes import as_one_line
from bruno.errors import UserError
from bruno.recipes import readable_recipe, recipe_path

_COMMANDS = {
    "demo": "adapt a model of handwriting to printed characters and write a report",
    "download": "fetch a data set",
    "train": "train a model from a recipe",
    "evaluate": "measure likelihood and few-shot accuracy",
    "report": "measure a model by every protocol and write one page about it",
    "sample": "draw samples given a few pictures",
    "classify": "name pictures of handwriting by a folder of examples",
    "compare": "train few-shot systems at the same cost, and compare them",
    "serve": "serve a page to draw on, and an API that learns and forgets",
    "export": "write a model as ONNX or torch.export graphs",
    "info": "show the installation, or a model",
}
_POSITIONAL = {
    "download": ("name", "name of the data set"),
    "report": ("run", "directory of a run or a model, or the name of a pretrained one"),
}
_POSITIONAL_LISTS = {"classify": ("files", "pictures to classify, or folders of them")}
_SWITCHES = {
    "resume": "go on with the run in the directory; only changes need be given",
    "overwrite": "replace existing files",
    "force": "draw even if samples of the model are known not to be recognised",
    "as_json": "print the result as JSON on standard output",
}
_FLAGS = {"as_json": "--json"}
_LISTS: dict[str, tuple[type, str]] = {
    "given": (str, "image files, or folders of them, to condition on"),
    "context": (str, "context features to draw with, as azimuth=45 or azimuth=0,90,180"),
    "given_context": (str, "context features of the given images (default: angles from the first)"),
    "protocols": (
        str,
        "protocols: likelihood, few_shot, anomalies, generation, exchangeability, correlation, "
        "latents, robustness, views, pose; or all of those that apply (default: those that apply "
        "of likelihood, few_shot, views, pose)",
    ),
    "allowed_hosts": (str, "names by which the server may be addressed, besides localhost"),
    "parts": (str, "graphs: encode, log_prob, sample (default: all that the model has)"),
    "ways": (int, "numbers of classes to choose from (default: 5 20)"),
    "shots": (int, "numbers of examples per class (default: 1 5)"),
    "systems": (str, "systems to compare, or all (default: all)"),
}
_TAKES_DATA = ("train", "evaluate", "report")
_DATA_FLAGS = {"--data_dir": "--data.data_dir", "--skip_unreadable": "--data.skip_unreadable"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    That is 0, 2 for a mistake of the user, or 128 and the number of the signal that stopped it.

    Args:
        arguments: Command line without the program's name; by default that of the process.
    """
    escape_what_cannot_be_printed()
    options = ["config"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            given = sys.argv[1:] if arguments is None else arguments
            command, values = _parse(_normalised(given), options)
            command(**values)
    except (UserError, ArgumentError, OSError) as error:
        error_console().print(f"bruno: error: {as_one_line(str(error), options)}")
        return 2
    except KeyboardInterrupt as stop:
        directory = getattr(stop, "directory", None)
        further = f" by {stop}; bruno train --resume --out {directory} goes on" if directory else ""
        error_console().print(f"bruno: stopped{further}")
        return 128 + getattr(stop, "number", signal.SIGINT)
    return 0


def _parse(arguments: list[str], options: list[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return the function of the sub-command and its arguments.

    Args:
        arguments: The command line.
        options: Receives the names of the options of the sub-command, for errors.
    """
    parser = ArgumentParser(
        prog="bruno",
        description="Exchangeable sequence models: exact likelihoods, samples and few-shot "
        "classification from a handful of examples, with no retraining.",
        version=__version__,
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(dest="command", required=True)
    # Only the module of the command that is asked for is imported: help stays quick.
    asked_for = arguments[0] if arguments else None
    functions: dict[str, Callable[..., None]] = {}
    for name, summary in _COMMANDS.items():
        sub = ArgumentParser(
            prog=f"bruno {name}", description=summary, exit_on_error=False, allow_abbrev=False
        )
        if name == asked_for:
            functions[name] = _add_command(sub, name)
            options += [action.dest for action in sub._actions]
        commands.add_subcommand(name, sub, help=summary)
    if not arguments:
        return parser.print_help, {}
    parsed = _parsed(parser, arguments)
    if parsed.command == "train" and parsed.train.resume:
        parsed = _with_own_config(parser, arguments, parsed.train)
    values = vars(parser.instantiate(parsed)[parsed.command])
    values.pop("config", None)
    return functions[parsed.command], values


def _with_own_config(parser: ArgumentParser, arguments: list[str], given: Any) -> Any:
    """Return the arguments of ``bruno train --resume``, with those of the run for all not given."""
    from bruno.training.runs import own_config

    config = own_config(given.out, given.data.name, has_recipe=bool(given.config))
    if config is not None:
        arguments = [arguments[0], "--config", readable_recipe(config), *arguments[1:]]
    return _parsed(parser, arguments)


def _parsed(parser: ArgumentParser, arguments: list[str]) -> Any:
    try:
        return parser.parse_args(arguments)
    except UnicodeDecodeError as error:
        raise UserError(
            f"expected a file of text for options, got one that is not: {error}"
        ) from None


def _add_command(parser: ArgumentParser, name: str) -> Callable[..., None]:
    function: Callable[..., None] = getattr(importlib.import_module(f"bruno.cli.{name}"), name)
    if name == "train":
        parser.add_argument("--config", action="config", help="recipe, by name or as a YAML file")
    if name in _POSITIONAL:
        positional, text = _POSITIONAL[name]
        parser.add_argument(positional, type=str, help=text)
    if name in _POSITIONAL_LISTS:
        positional, text = _POSITIONAL_LISTS[name]
        parser.add_argument(positional, type=str, nargs="+", help=text)
    annotations = function.__annotations__
    lists = [option for option in _LISTS if annotations.get(option, "").startswith("list")]
    positionals = {*_POSITIONAL.get(name, ())[:1], *_POSITIONAL_LISTS.get(name, ())[:1]}
    taken: set[str | int] = {*positionals, *_SWITCHES, *lists}
    parser.add_function_arguments(function, skip=taken)
    for switch, text in _SWITCHES.items():
        if switch in function.__annotations__:
            flag = _FLAGS.get(switch, f"--{switch}")
            parser.add_argument(flag, dest=switch, action="store_true", help=text)
    for option in lists:
        kind, text = _LISTS[option]
        parser.add_argument(f"--{option}", type=kind, nargs="+", help=text)
    return function


def _normalised(arguments: Sequence[str]) -> list[str]:
    """Return the arguments in the spelling of the parser.

    Dashes in flags become underscores, short forms of ``--data`` are written out, and the value of
    ``--config`` becomes a file, or its text with the current names of fields.
    """
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] == "--config":
            result.append(readable_recipe(recipe_path(argument)))
            continue
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("-", "_")
            if result and result[0] in _TAKES_DATA and flag in _DATA_FLAGS:
                flag = _DATA_FLAGS[flag]
                if flag == "--data.skip_unreadable" and not equals:
                    equals, value = "=", "true"
        if flag == "--config" and equals:
            value = readable_recipe(recipe_path(value))
        result.append(flag + equals + value)
    return result


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    error_console().print(f"bruno: warning: {message}")
