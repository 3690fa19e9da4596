"""A progress bar for decoding that turns out to take long."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")

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
