"""Jobs one after another, each model a queue of its own, with positions and cancellation."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from warpkit.checks import InputError, require
from warpkit.describe.extractor import out_of_memory
from warpkit.runs.memory import release
from warpkit.runs.progress import ProgressCallback

__all__ = ["Cancelled", "Job", "JobQueue", "State"]

_log = logging.getLogger("warpkit")

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):  # noqa: N818 - nothing went wrong
    """Ends a job that nobody wants any more."""


@dataclass(eq=False)
class Job:
    """One piece of work.

    Attributes:
        owner: the visitor.
        tag: what kind of work, for `JobQueue.cancel_all`.
        model: the queue it is in.
        state: where it stands.
        stage: what it does now, in words.
        done: steps finished.
        total: steps there are, None where unknown.
        result: what the work returned.
        error: why it failed, for the visitor.
    """

    owner: str
    model: str
    work: Callable[[ProgressCallback], Any] | None
    tag: str = ""
    state: State = "waiting"
    stage: str = ""
    done: int = 0
    total: int | None = None
    result: Any = None
    error: str = ""
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    finished: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self._ended.is_set()

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        if self.started is None:
            return 0.0
        return (self.finished or time.monotonic()) - self.started

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        return self._ended.wait(timeout)

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """The job's own ear: keeps the progress, and raises when it was cancelled."""
        self.stage, self.done, self.total = stage, done, total
        if self._stop.is_set():
            raise Cancelled


class JobQueue:
    """Runs jobs in threads, one a model.

    Args:
        waiting: jobs that may wait at a time.
        own_waiting: of those, how many of one owner.
    """

    def __init__(self, *, waiting: int = 100, own_waiting: int = 64) -> None:
        self._most, self._most_own = waiting, own_waiting
        self._change = threading.Condition()
        self._waiting: dict[str, list[Job]] = {}
        self._running: dict[str, Job] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False
        self._dropped: dict[tuple[str, str], float] = {}

    def submit(
        self, model: str, work: Callable[[ProgressCallback], Any], *, owner: str = "", tag: str = ""
    ) -> Job:
        """Put work at the end of a model's queue.

        Args:
            work: called with the job's `progress`, which it calls between its steps.

        Raises:
            InputError: too many wait.
        """
        with self._change:
            require(not self._closed, "the page is being closed")
            waiting = [job for jobs in self._waiting.values() for job in jobs]
            own = sum(job.owner == owner for job in waiting)
            require(
                len(waiting) < self._most and own < self._most_own,
                f"too many jobs wait already ({own} of them yours): try again when some are done",
            )
            job = Job(owner, model, work, tag)
            self._waiting.setdefault(model, []).append(job)
            if model not in self._threads:
                self._threads[model] = threading.Thread(
                    target=self._serve, args=(model,), name=f"warpkit-{model}", daemon=True
                )
                self._threads[model].start()
            self._change.notify_all()
        return job

    def position(self, job: Job) -> int:
        """How many jobs come before it, the running one included; 0 once it runs."""
        with self._change:
            waiting = self._waiting.get(job.model, [])
            if job not in waiting:
                return 0
            return waiting.index(job) + (job.model in self._running)

    def cancel(self, job: Job) -> None:
        """End a job: at once if it waits, else at its next step."""
        with self._change:
            job._stop.set()
            waiting = self._waiting.get(job.model, [])
            if job in waiting:
                waiting.remove(job)
                self._end(job, "cancelled")

    def cancel_all(self, owner: str, tag: str | None = None) -> int:
        """End all jobs of an owner, or those of one kind; returns how many there were."""
        with self._change:
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            mine = [
                job
                for job in (*jobs, *self._running.values())
                if job.owner == owner and tag in (None, job.tag)
            ]
        for job in mine:
            self.cancel(job)
        return len(mine)

    def drop(self, owner: str, tag: str) -> None:
        """End an owner's jobs of a kind, whose results, even finished ones, nobody waits for."""
        with self._change:
            self._dropped[owner, tag] = time.monotonic()
        self.cancel_all(owner, tag)

    def dropped(self, job: Job) -> bool:
        """Whether nobody waits for its result any more."""
        with self._change:
            return job.submitted <= self._dropped.get((job.owner, job.tag), -math.inf)

    def forget(self, owner: str) -> None:
        """End all jobs of an owner who has gone, and remember nothing of them."""
        self.cancel_all(owner)
        with self._change:
            self._dropped = {key: at for key, at in self._dropped.items() if key[0] != owner}

    def busy(self) -> dict[str, int]:
        """Jobs that run or wait, a model."""
        with self._change:
            counts = {model: len(jobs) for model, jobs in self._waiting.items()}
            for model in self._running:
                counts[model] = counts.get(model, 0) + 1
            return {model: count for model, count in counts.items() if count}

    def close(self, timeout: float = 10.0) -> None:
        """Cancel everything and wait for what runs to notice."""
        with self._change:
            self._closed = True
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            jobs += self._running.values()
            self._change.notify_all()
        for job in jobs:
            self.cancel(job)
        until = time.monotonic() + timeout
        for thread in list(self._threads.values()):
            thread.join(max(0.0, until - time.monotonic()))

    def _serve(self, model: str) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting.get(model) or self._closed)
                if not self._waiting.get(model):
                    return
                job = self._waiting[model].pop(0)
                self._running[model] = job
                job.state, job.started = "running", time.monotonic()
            self._run(job)
            with self._change:
                del self._running[model]

    def _run(self, job: Job) -> None:
        work, job.work = job.work, None
        state: State = "failed"
        assert work is not None
        try:
            job.progress("starting", 0, None)
            job.result = work(job.progress)
            state = "done"
        except Cancelled:
            state = "cancelled"
        except InputError as error:
            job.error = str(error)
        except Exception as error:  # noqa: BLE001 - the page lives on whatever a job meets
            if isinstance(error, MemoryError) or out_of_memory(error):
                job.error = "there is not enough memory for this: try smaller pictures"
            else:
                _log.exception("a job of the page failed")
                job.error = f"this went wrong inside warpkit ({type(error).__name__}); see its log"
        # The last references of a job that was stopped go before its memory is given back.
        del work
        if state != "done":
            release()
        with self._change:
            self._end(job, state)

    def _end(self, job: Job, state: State) -> None:
        job.work = None
        job.state, job.finished = state, time.monotonic()
        job._ended.set()
