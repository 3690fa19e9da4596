"""The ``bruno`` command: one file for each sub-command, which parses, calls and prints."""

from bruno.cli.command_line import main

__all__ = ["main"]
