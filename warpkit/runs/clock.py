"""Wall-clock seconds of a job's stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """Sums the seconds of named stages, of several threads too.

    Attributes:
        seconds: stage name to seconds so far.
    """

    def __init__(self, *names: str) -> None:
        """Stages that are named here stand first, with 0 seconds until they are timed."""
        self.seconds = dict.fromkeys(names, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under a name; repeated names add up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + spent
