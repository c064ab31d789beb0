"""Where work of a GPU runs: here and now, or in threads that have streams of it to themselves.

In: calls. Out: futures. A model's kernels fill the GPU as long as some are queued; a search is
thousands of small kernels and waits, which beside the large ones cost next to nothing.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["InlineExecutor", "ModelExecutor", "StreamExecutor", "like_this_thread"]

P = ParamSpec("P")
T = TypeVar("T")

_FIRST = -1  # priority: small kernels do not queue up behind the blocks of large ones


@functools.cache
def _stream(device: torch.device, number: int, priority: int = 0) -> torch.cuda.Stream:
    """The same stream for the same use: memory that was freed is kept for the stream it was for."""
    return torch.cuda.Stream(device, priority=priority)


class InlineExecutor(Executor):
    """Runs a call when it is submitted."""

    def submit(self, call: Callable[P, T], /, *given: P.args, **named: P.kwargs) -> Future[T]:
        """The call's result; what it raises is raised here."""
        done: Future[T] = Future()
        done.set_result(call(*given, **named))
        return done


def like_this_thread(threads: int, device: torch.device) -> Callable[[], None]:
    """What makes another thread compute as this one: torch's threads, and its current GPU."""
    current = torch.cuda.current_device() if device.type == "cuda" else None

    def follow() -> None:
        torch.set_num_threads(threads)
        if current is not None:
            torch.cuda.set_device(current)

    return follow


class ModelExecutor(ThreadPoolExecutor):
    """Runs calls of a model in two threads, in order but for the ends of two that overlap.

    On a GPU each thread has a stream. While one waits for what it queued, and takes it from the
    GPU, the other queues the next (see `warpkit.features.model_lock`). A call is over when its own
    work on the GPU is: any stream may read the results.
    """

    def __init__(self, threads: int, device: torch.device) -> None:
        """Streams begin with what is queued on this thread's.

        Args:
            threads: torch's, in each of the two.
            device: of the model.
        """
        self._device, self._on_gpu = device, device.type == "cuda"
        self._numbers = itertools.count()
        self._before = None
        if self._on_gpu:
            self._before = torch.cuda.current_stream(device).record_event()
        self._follow = like_this_thread(threads, device)
        super().__init__(2, thread_name_prefix="model", initializer=self._begin)

    def _begin(self) -> None:
        self._follow()
        if self._before is not None:
            stream = _stream(self._device, next(self._numbers))
            stream.wait_event(self._before)
            torch.cuda.set_stream(stream)

    def submit(self, call: Callable[P, T], /, *given: P.args, **named: P.kwargs) -> Future[T]:
        """See the class."""
        if not self._on_gpu:
            return super().submit(call, *given, **named)

        def finished(*given: Any, **named: Any) -> T:
            try:
                return call(*given, **named)
            finally:
                torch.cuda.current_stream(self._device).synchronize()

        return super().submit(finished, *given, **named)


class StreamExecutor(ThreadPoolExecutor):
    """Runs calls one after the other in a thread; on a GPU in a stream of their own.

    A call sees what was queued on the submitting thread's stream before it, and is over when its
    own work on the GPU is: tensors that it was given may be freed then.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(1, thread_name_prefix="search")
        self._stream = None
        if device.type == "cuda":
            self._stream = _stream(device, 0, _FIRST)

    def submit(self, call: Callable[P, T], /, *given: P.args, **named: P.kwargs) -> Future[T]:
        """See the class."""
        stream = self._stream
        if stream is None:
            return super().submit(call, *given, **named)
        before = torch.cuda.current_stream(stream.device).record_event()

        def beside(*given: Any, **named: Any) -> T:
            stream.wait_event(before)
            with torch.cuda.stream(stream):
                try:
                    return call(*given, **named)
                finally:
                    stream.synchronize()

        return super().submit(beside, *given, **named)
