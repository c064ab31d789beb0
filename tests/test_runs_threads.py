"""Threads that read ahead and write behind: order, bounds, errors, and an end in every case."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from warpkit.runs.threads import ReadAhead, WriteBehind


def wait_until(condition) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def ours() -> list[str]:
    """Names of threads of this module that still run."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name in ("read ahead", "write behind")]


def test_order_and_bound() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(20):
            made.append(i)
            yield i

    with ReadAhead(numbers(), depth=3) as items:
        following = iter(items)
        assert next(following) == 0
        # One taken, three queued, one in the thread's hand.
        wait_until(lambda: len(made) >= 5)
        time.sleep(0.05)
        assert len(made) == 5
        assert list(following) == list(range(1, 20))


def test_an_error_comes_after_the_items_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("on purpose")

    seen = []
    with pytest.raises(ValueError, match="on purpose"), ReadAhead(numbers(), depth=9) as items:
        seen += [item for item in iter(items)]  # noqa: C416 - to keep what came before
    assert not ours()


def test_leaving_early_closes_what_is_read_in_its_own_thread() -> None:
    closed: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    with ReadAhead(numbers(), depth=2) as items:
        assert next(iter(items)) == 1
    assert closed == ["read ahead"]
    assert not ours()


def test_calls_are_made_in_order_and_waited_for() -> None:
    done: list[int] = []
    with WriteBehind(depth=2) as writer:
        for i in range(10):
            writer.do(done.append, i)
        writer.wait()
        assert done == list(range(10))
        writer.do(done.append, 10)
    assert done[-1] == 10


def test_a_failed_call_stops_the_others_and_is_raised() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind(depth=1) as writer:
        writer.do(fail)
        for i in range(50):
            writer.do(done.append, i)
    assert done == []
    assert not ours()


def test_work_under_way_is_finished_after_an_interrupt() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), WriteBehind(depth=9) as writer:
        for i in range(5):
            writer.do(done.append, i)
        raise KeyboardInterrupt
    assert done == list(range(5))
