"""Output of the command: progress bars on a terminal, lines elsewhere, on stderr."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

_PLAIN_EVERY = 50


def error_console() -> Console:
    """Return a console on standard error as it is now, for errors: every process prints its own."""
    return _console(stderr=True)


def progress_console() -> Console:
    """Return a console on standard error as it is now, for output of the first process only."""
    return _console(stderr=True, quiet=_is_follower())


def output_console() -> Console:
    """Return a console on standard output as it is now."""
    return _console(quiet=_is_follower())


def print_json(figures: Any) -> None:
    """Print figures as JSON on standard output, in ASCII, which every terminal and pipe takes."""
    output_console().print_json(json.dumps(figures), ensure_ascii=True)


def _console(**options: Any) -> Console:
    # Names of files may hold what would be taken for markup.
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, **options)


def escape_what_cannot_be_printed() -> None:
    r"""Print characters that a terminal or pipe cannot show as ``\xe9`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_follower() -> bool:
    """Whether a launcher started this process beside a first one, which alone shows progress."""
    return os.environ.get("RANK", "") not in {"", "0"}


def table(title: str, header: list[str], rows: list[list[str]]) -> Table:
    """Return a table with left-aligned first column and right-aligned figures.

    Args:
        title: Shown above the table.
        header: Names of the columns.
        rows: Cells of every row.
    """
    result = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        result.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        result.add_row(*row)
    return result


class _Display:
    """A bar that appears with the first progress inside a ``with`` block."""

    _bar: Progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


class TrainingDisplay(_Display):
    """Shows the rows of a training run; used as its ``on_row`` inside a ``with`` block."""

    def __init__(self) -> None:
        self._console = progress_console()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("starting", total=1.0)

    def __call__(self, row: dict[str, Any], progress: float) -> None:
        """Show a row of figures at the given share of the schedule."""
        # Not before: loading data may show a bar of its own.
        self._bar.start()
        text = self._text(row)
        if row["kind"] == "validation":
            self._console.print(f"validation  {text}")
        elif self._bar.disable:
            if row["step"] % _PLAIN_EVERY == 0:
                self._console.print(f"{progress:4.0%}  {text}")
        else:
            self._bar.update(self._task, completed=progress, description=text)

    def _text(self, row: dict[str, Any]) -> str:
        parts = [
            f"step {row['step']}",
            f"loss {row['loss']:.3f}",
            f"{row['nll']:.1f} nats",
        ]
        if "accuracy" in row:
            parts.append(f"accuracy {row['accuracy']:.1%}")
        if "squared_error" in row:
            parts.append(f"RMSE {math.sqrt(max(0.0, row['squared_error'])):.3f}")
        if "images_per_second" in row:
            parts.append(f"{row['images_per_second']:.0f} images/s")
        return "  ".join(parts)


class StageDisplay(_Display):
    """Shows the progress of labelled stages of work; a callback inside a ``with`` block."""

    def __init__(self) -> None:
        self._console = progress_console()
        self._bar = Progress(console=self._console, disable=not sys.stderr.isatty(), transient=True)
        self._tasks: dict[str, Any] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of a stage are done."""
        self._bar.start()
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(label, total=total)
            if self._bar.disable:
                self._console.print(f"{label} …")
        self._bar.update(self._tasks[label], completed=done)
