"""Jobs of the page that tests start and wait for."""

from __future__ import annotations

import threading

from warpkit.runs.progress import ProgressCallback

LONG = 20.0


class Gate:
    """Work that waits until it is let go, and can be cancelled meanwhile."""

    def __init__(self) -> None:
        self.running, self.free = threading.Event(), threading.Event()

    def __call__(self, progress: ProgressCallback) -> str:
        self.running.set()
        while not self.free.wait(0.005):
            progress("waiting", 1, 4)
        return "through"
