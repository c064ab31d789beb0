"""Reading ahead and writing behind, each in a thread of its own, with bounded queues.

Decoding, PNG compression and encoding let go of Python's lock, so they run beside the computation.
Order is kept, and an exception of a thread is raised where its work is asked for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

__all__ = ["ReadAhead", "WriteBehind"]

T = TypeVar("T")

_END = object()


class ReadAhead(Generic[T]):
    """The items of an iterable, made by a thread that is at most `depth` items ahead.

    A context manager: leaving the block ends the thread and closes the iterable.

        with ReadAhead(frames, depth=8) as items:
            for item in items:
                ...
    """

    def __init__(self, items: Iterable[T], *, depth: int) -> None:
        self._items = iter(items)
        self._queue: queue.Queue[Any] = queue.Queue(max(1, depth))
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __iter__(self) -> Iterator[T]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item

    def _run(self) -> None:
        try:
            for item in self._items:
                self._put((item, None))
                if self._leave.is_set():
                    break
            self._put((_END, None))
        except BaseException as error:  # noqa: BLE001 - raised where the items are taken
            self._put((None, error))
        finally:
            # In this thread: a video is closed by the thread that reads it.
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def _put(self, entry: tuple[Any, BaseException | None]) -> None:
        while not self._leave.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def __exit__(self, *_: Any) -> None:
        self._leave.set()
        self._thread.join()


class WriteBehind:
    """Calls made one after another by a thread; at most `depth` wait. A context manager.

    Leaving the block waits for all calls, after an exception too, so that no work done is lost.
    Once a call has failed no other is made, and its exception is raised by the next `do` or at the
    end of the block.

        with WriteBehind(depth=1) as writer:
            writer.do(write_image, path, image)
    """

    def __init__(self, *, depth: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(max(1, depth))
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write behind", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def do(self, call: Callable[..., object], *arguments: Any) -> None:
        """Have a call made; waits while too many wait already."""
        self._raise()
        self._queue.put((call, arguments))

    def wait(self) -> None:
        """Wait until all calls are made."""
        self._queue.join()
        self._raise()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not _END:
            call, arguments = entry
            if self._error is None:
                try:
                    call(*arguments)
                except BaseException as error:  # noqa: BLE001 - raised by `do` or at the end
                    self._error = error
            self._queue.task_done()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._queue.put(_END)
        self._thread.join()
        if kind is None:
            self._raise()
