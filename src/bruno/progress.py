"""A progress bar for work that turns out to take long."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")

Shown = Callable[[Sequence[Any]], Iterable[Any]]
"""Yields the items of a sequence, perhaps with a bar."""

PATIENCE = 2.0
"""Seconds of work before a bar appears."""


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yield the items, with a bar on standard error if that is a terminal and it takes long.

    Args:
        items: What is worked on.
        description: Shown before the bar.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    start = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=len(items), visible=False)
        for item in items:
            yield item
            progress.update(task, advance=1, visible=time.monotonic() - start > PATIENCE)
