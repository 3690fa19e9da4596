"""Errors a user can cause, each a :class:`ValueError` with one clear message.

The command line turns every :class:`UserError` into one line on standard error and exit code 2;
anything else is a defect of the library and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """An argument is wrong: the message names it, the expected values and the given one."""


class MissingDataError(UserError):
    """A data set is not on this machine; the message names the command that downloads it."""


class CheckpointError(UserError):
    """A file of weights is damaged, foreign or does not match its description."""


@contextmanager
def renamed_argument(name: str, given_as: str) -> Iterator[None]:
    """Let errors about an argument name it as the user gave it.

    Args:
        name: First word of the message, before a colon.
        given_as: Its replacement.

    Returns:
        A context manager.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        if not message.startswith(f"{name}: "):
            raise
        raise UserError(given_as + message.removeprefix(name)) from None
