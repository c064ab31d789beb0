"""Threads take turns with a model.

In: threads that queue work. Out: their work one after the other, on the CPU and on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

__all__ = ["ModelLock"]


class ModelLock:
    """One thread at a time, and on a GPU one thread's work after the other's.

    What taps a network hooks into it, and replayed calls write into the same tensors: runs of two
    threads would mix. A turn ends when its work is queued, not when it is done, so that the next
    thread queues its own before the GPU runs out of work. Threads may have streams of their own.

    Args:
        device: where the model runs. It is not asked for again: while a thread traces the model for
            the compiler, its weights stand for others that have no device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = RLock()
        self._queued: torch.cuda.Event | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Wait for a turn; within it, what is queued on the current stream follows all before.

        A thread may take a turn within its own.
        """
        with self._lock:
            if self._device.type != "cuda":
                yield
                return
            stream = torch.cuda.current_stream(self._device)
            if self._queued is not None:
                stream.wait_event(self._queued)
            try:
                yield
            finally:
                self._queued = stream.record_event()
