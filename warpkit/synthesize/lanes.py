"""Where a search runs: here and now, or in a thread that has a stream of a GPU to itself.

In: calls. Out: futures. A search on a GPU is thousands of small kernels and waits; beside the large
ones of a diffusion model, which fill the GPU, they cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["NoLane", "SideLane"]

P = ParamSpec("P")
T = TypeVar("T")

_FIRST = -1  # priority: small kernels do not queue up behind the blocks of large ones


class NoLane(Executor):
    """Runs a call when it is submitted."""

    def submit(self, call: Callable[P, T], /, *given: P.args, **named: P.kwargs) -> Future[T]:
        """The call's result; what it raises is raised here."""
        done: Future[T] = Future()
        done.set_result(call(*given, **named))
        return done


class SideLane(ThreadPoolExecutor):
    """Runs calls one after the other in a thread; on a GPU in a stream of their own.

    A call sees what was queued on the submitting thread's stream before it, and is over when its
    own work on the GPU is: tensors that it was given may be freed then.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(1, thread_name_prefix="search")
        self._stream = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device, priority=_FIRST)

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
