"""Many small pieces of work beside each other on the cores of a CPU.

Products of a few hundred rows are too small to share: two threads that wait for each other at every
one take longer than one alone. So each piece is computed by a thread of its own, on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier
from typing import TypeVar

import torch

__all__ = ["ALONE", "Cores", "map_parts", "own_cores"]

P = TypeVar("P")
T = TypeVar("T")


class Cores:
    """Where calls are made."""

    def __init__(self, pool: Executor | None) -> None:
        self._pool = pool

    def each(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """The results of calls, in order: each in a thread with one core, if there are threads.

        A call may itself have others made `beside` it if it is the only one.
        """
        if self._pool is None:
            return [call() for call in calls]
        return list(self._pool.map(_without_gradients, calls))

    def beside(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """As `each`, called from a thread of these, which makes the first call itself."""
        if self._pool is None:
            return [call() for call in calls]
        others = [self._pool.submit(_without_gradients, call) for call in calls[1:]]
        return [calls[0](), *(other.result() for other in others)]


ALONE = Cores(None)
"""The calling thread, one call after another."""


def _without_gradients(call: Callable[[], T]) -> T:
    # Whether gradients are kept is said for each thread.
    with torch.no_grad():
        return call()


@contextmanager
def own_cores(device: torch.device, *, most: int) -> Iterator[Cores]:
    """As many threads as torch has, `most` at most, with one core each; the calling thread alone on
    a GPU. It keeps its own number of threads.
    """
    threads = torch.get_num_threads()
    count = min(threads, most)
    if device.type != "cpu" or count == 1:
        yield ALONE
        return
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # else the thread's first operation takes the last number set
        torch.set_num_threads(1)
        ready.wait()

    with ThreadPoolExecutor(count, "cores", initializer=begin) as pool:
        for _ in range(count):
            pool.submit(int)
        ready.wait()
        # A thread's number is its own, but the last one set is that of threads to come.
        torch.set_num_threads(threads)
        yield Cores(pool)


def map_parts(work: Callable[[P], T], parts: Iterable[P], device: torch.device) -> list[T]:
    """`work` of every part, in order: on a CPU by as many threads as torch has, one core each."""
    with own_cores(device, most=torch.get_num_threads()) as cores:
        return cores.each([partial(work, part) for part in parts])
