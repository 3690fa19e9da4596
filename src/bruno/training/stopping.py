"""Stopping a run by SIGINT (Ctrl-C) or SIGTERM without losing its progress."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

_LOGGER = logging.getLogger(__name__)
# Launchers pass on a signal that the terminal has already sent to every process.
_SAME_SIGNAL_SECONDS = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run, which has been saved.

    Args:
        number: Number of the signal.
        step: Steps of the run that are done and saved.
        directory: Where the run is.
    """

    def __init__(self, number: int, step: int, directory: Path) -> None:
        self.number, self.step, self.directory = number, step, directory
        super().__init__(f"{signal.Signals(number).name} after step {step}, saved in {directory}")


class StopSignals:
    """Takes note of SIGINT and SIGTERM inside a ``with`` block instead of being ended by them.

    A second signal raises :class:`KeyboardInterrupt` at once, without waiting for the step to end.
    Signals that were ignored before (as SIGINT is for a background job) stay ignored, and outside
    the main thread, where Python delivers none, nothing is changed.

    Attributes:
        received: Number of the signal that came, or 0.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received = 0
        self._time = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._NUMBERS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):
                    self._before[number] = handler
                    signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._time = number, now
            _LOGGER.warning("stopping after this step, to save the run; once more stops at once")
        elif now - self._time > _SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt
