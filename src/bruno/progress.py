"""Progress of long work: callbacks of the library, and a bar on terminals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

ProgressCallback = Callable[[str, int, int], None]
"""Called with the stage of the work, how many of its steps are done, and how many there are."""

Shown = Callable[[Sequence[Any]], Iterable[Any]]
"""Yields the items of a sequence, perhaps with a bar."""

PATIENCE = 2.0
"""Seconds of work before a bar appears."""


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yield the items, with a bar on standard error if that is a terminal and it takes long.

    The bar needs rich; without it there is none.

    Args:
        items: The items to work on.
        description: Shown before the bar.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield from items
        return
    start = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=len(items), visible=False)
        for item in items:
            yield item
            progress.update(task, advance=1, visible=time.monotonic() - start > PATIENCE)
