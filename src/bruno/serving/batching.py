"""Requests in flight, gathered into one call: of the model, or of the database."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from bruno.serving.errors import RefusalError

Item = TypeVar("Item")

_RECENT = 4


class Batcher(Generic[Item]):
    """Runs a function on all items that came while its last call ran, in a thread of its own.

    Args:
        run: Function of a list of items that returns one result or exception for each.
        name: Name of the thread.
        window: Seconds to wait for further items when there is one, if one of the last calls had
            several: a client that is alone does not wait for others.
        most: Items of one call.
        longest: Items that may wait; more are refused.
        observe: Called with the number of items of every call.

    Example:
        >>> doubled = Batcher(lambda items: [2 * item for item in items], "double")
        >>> doubled.submit(3).result()
        6
        >>> doubled.close()
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Any]],
        name: str,
        *,
        window: float = 0.0,
        most: int = 64,
        longest: int = 1024,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self._run = run
        self._window = window
        self._recent = deque([1], _RECENT)  # items of the last calls
        self._most = most
        self._observe = observe
        self._queue: queue.Queue[tuple[Item, Future[Any]] | None] = queue.Queue(longest)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Any]:
        """Return the future result of an item.

        Raises:
            RefusalError: 503 if too many items wait.
        """
        future: Future[Any] = Future()
        try:
            self._queue.put_nowait((item, future))
        except queue.Full:
            raise RefusalError(503, "server: too many requests wait", retry_after=1) from None
        return future

    async def result(self, item: Item) -> Any:
        """Return the result of an item, without blocking the event loop.

        Raises:
            RefusalError: 503 if too many items wait.
            Exception: That of the item.
        """
        return await asyncio.wrap_future(self.submit(item))

    def waiting(self) -> int:
        """Return how many items wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """Finish what waits, and stop."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch, is_last = self._gathered()
            if batch:
                self._answer(batch)
            if is_last:
                return

    def _gathered(self) -> tuple[list[tuple[Item, Future[Any]]], bool]:
        """Return the next items, and whether the batcher is closed."""
        batch: list[tuple[Item, Future[Any]]] = []
        deadline = 0.0
        while len(batch) < self._most:
            try:
                left = deadline - time.monotonic() if batch else None
                entry = self._queue.get(block=left is None or left > 0, timeout=left)
            except queue.Empty:
                break
            if entry is None:
                return batch, True
            if not batch:
                deadline = time.monotonic() + (self._window if max(self._recent) > 1 else 0.0)
            if entry[1].set_running_or_notify_cancel():
                batch.append(entry)
        return batch, False

    def _answer(self, batch: list[tuple[Item, Future[Any]]]) -> None:
        self._recent.append(len(batch))
        if self._observe is not None:
            self._observe(len(batch))
        try:
            results = self._run([item for item, _ in batch])
        except Exception as error:  # it belongs to those who wait for the results
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
