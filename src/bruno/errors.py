"""Errors a user can cause, each a :class:`ValueError` with one clear message.

The command line turns every :class:`UserError` into one line on standard error and exit code 2;
anything else is a defect of the library and keeps its traceback.
"""


class UserError(ValueError):
    """Something given by the user is wrong: the message says what was expected and what came."""


class MissingDataError(UserError):
    """A data set is not on this machine; the message says how to get it."""


class CheckpointError(UserError):
    """A file of weights is damaged, foreign or does not match its description."""
