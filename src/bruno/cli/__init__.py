"""The ``bruno`` command: one file for each sub-command, which parses, calls and prints."""

import sys
from collections.abc import Sequence

from bruno.lazy import missing_extra


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, as :func:`bruno.cli.command_line.main` does.

    Args:
        arguments: Command line without the program's name; by default that of the process.
    """
    try:
        from bruno.cli import command_line

        return command_line.main(arguments)
    except ModuleNotFoundError as error:
        needs = missing_extra(error)
        if needs is None:
            raise
        sys.stderr.write(f"bruno: error: this command {needs}\n")
        return 2


__all__ = ["main"]
