"""Requests in flight are gathered into one call."""

import threading
import time

import pytest

from bruno.serving.batching import Batcher
from bruno.serving.errors import RefusalError


def test_what_waits_is_done_at_once():
    sizes, begin = [], threading.Event()

    def run(items):
        begin.wait(5)
        sizes.append(len(items))
        return [item + 1 for item in items]

    batcher = Batcher(run, "test", most=4)
    futures = [batcher.submit(i) for i in range(9)]
    begin.set()
    assert [future.result(5) for future in futures] == [i + 1 for i in range(9)]
    batcher.close()
    assert sum(sizes) == 9
    assert max(sizes) == 4


def test_a_client_that_is_alone_does_not_wait_for_others():
    sizes, begin = [], threading.Event()

    def run(items):
        begin.wait(5)
        sizes.append(len(items))
        return items

    batcher = Batcher(run, "test", window=0.3)
    begin.set()
    start = time.monotonic()
    for i in range(3):
        assert batcher.submit(i).result(5) == i
    assert time.monotonic() - start < 0.3
    begin.clear()
    futures = [batcher.submit(i) for i in range(3)]  # the first is in a call when the others come
    time.sleep(0.05)
    begin.set()
    assert [future.result(5) for future in futures] == [0, 1, 2]
    first = batcher.submit(3)  # after several at a time, one waits for another
    time.sleep(0.05)
    second = batcher.submit(4)
    assert (first.result(5), second.result(5)) == (3, 4)
    batcher.close()
    assert sizes[-1] == 2


def test_errors_belong_to_their_items():
    def run(items):
        return [ValueError("odd") if item % 2 else item for item in items]

    batcher = Batcher(run, "test", window=0.05)
    good, bad = batcher.submit(2), batcher.submit(3)
    assert good.result(5) == 2
    with pytest.raises(ValueError, match="odd"):
        bad.result(5)
    batcher.close()


def test_a_call_that_fails_fails_all_its_items_and_no_others():
    def run(items):
        if "bad" in items:
            raise RuntimeError("broken")
        return items

    batcher = Batcher(run, "test")
    with pytest.raises(RuntimeError, match="broken"):
        batcher.submit("bad").result(5)
    assert batcher.submit("good").result(5) == "good"
    batcher.close()


def test_more_than_can_wait_are_refused():
    begin = threading.Event()

    def run(items):
        begin.wait(5)
        return items

    batcher = Batcher(run, "test", most=1, longest=2)
    first = batcher.submit(0)
    while batcher.waiting():
        pass
    waiting = [batcher.submit(i) for i in (1, 2)]
    with pytest.raises(RefusalError, match="too many requests wait") as found:
        batcher.submit(3)
    assert found.value.status == 503
    begin.set()
    assert [f.result(5) for f in (first, *waiting)] == [0, 1, 2]
    batcher.close()
