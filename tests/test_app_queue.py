"""Jobs in turn: order, position, cancelling, memory, limits."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from app_jobs import LONG, Gate

from warpkit.app.queue import JobQueue
from warpkit.app.status import failed, status
from warpkit.checks import InputError
from warpkit.runs.progress import ProgressCallback


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    made = JobQueue(waiting=6, own_waiting=4)
    yield made
    made.close()


def value(result: Any) -> Callable[[ProgressCallback], Any]:
    return lambda progress: result


def test_one_job_at_a_time_per_model_in_order(queue: JobQueue) -> None:
    gate, other = Gate(), Gate()
    first = queue.submit("a", gate)
    beside = queue.submit("b", other)
    assert gate.running.wait(LONG)
    assert other.running.wait(LONG)  # another model does not wait
    order: list[int] = []
    later = [queue.submit("a", lambda progress, i=i: order.append(i)) for i in range(3)]
    assert [queue.position(job) for job in (first, beside, *later)] == [0, 0, 1, 2, 3]
    assert queue.busy() == {"a": 4, "b": 1}
    gate.free.set()
    other.free.set()
    assert all(job.wait(LONG) for job in (first, beside, *later))
    assert order == [0, 1, 2]
    assert first.result == "through"
    assert queue.busy() == {}


def test_never_two_jobs_of_a_model_together(queue: JobQueue) -> None:
    inside, most = 0, 0

    def work(progress: ProgressCallback) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.002)
        inside -= 1

    jobs = [queue.submit("a", work, owner=str(i)) for i in range(6)]
    assert all(job.wait(LONG) for job in jobs)
    assert most == 1


def test_progress_is_seen(queue: JobQueue) -> None:
    gate = Gate()
    job = queue.submit("a", gate)
    assert gate.running.wait(LONG)
    while job.stage != "waiting":
        threading.Event().wait(0.002)
    assert (job.state, job.done, job.total) == ("running", 1, 4)
    assert "waiting (1 of 4)" in status(job, 0)
    assert "width:25%" in status(job, 0)
    behind = queue.submit("a", value(1))
    assert "1 job is before this one" in status(behind, queue.position(behind))
    gate.free.set()


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(queue: JobQueue) -> None:
    gate, ran = Gate(), threading.Event()
    first = queue.submit("a", gate)
    waiting = queue.submit("a", lambda progress: ran.set())
    last = queue.submit("a", value("last"))
    queue.cancel(waiting)
    assert waiting.wait(0)
    assert waiting.state == "cancelled"
    assert queue.position(last) == 1
    gate.free.set()
    assert last.wait(LONG)
    assert first.state == last.state == "done"
    assert not ran.is_set()


def test_a_running_job_is_cancelled_at_its_next_step_and_lets_go_of_its_memory(
    queue: JobQueue,
) -> None:
    gate = Gate()
    held: list[weakref.ref[Any]] = []

    def submit() -> Any:
        given = np.zeros(1000)  # what the page hands over
        held.append(weakref.ref(given))

        def work(progress: ProgressCallback) -> float:
            made = np.ones(1000)  # what the job makes
            held.append(weakref.ref(made))
            gate(progress)
            return float(made.sum() + given.sum())

        return queue.submit("a", work)

    job = submit()
    assert gate.running.wait(LONG)
    assert all(ref() is not None for ref in held)
    queue.cancel(job)
    assert job.wait(LONG)
    assert (job.state, job.result) == ("cancelled", None)
    gc.collect()
    assert [ref() for ref in held] == [None, None]
    after = queue.submit("a", value("after"))  # the queue goes on
    assert after.wait(LONG)
    assert after.result == "after"


def test_cancelling_what_has_ended_does_nothing(queue: JobQueue) -> None:
    job = queue.submit("a", value(7))
    assert job.wait(LONG)
    queue.cancel(job)
    assert (job.state, job.result) == ("done", 7)


def test_an_owners_jobs_are_cancelled_by_kind(queue: JobQueue) -> None:
    gate = Gate()
    queue.submit("a", gate, owner="me", tag="video")
    mine = queue.submit("a", value(1), owner="me", tag="warp")
    other = queue.submit("a", value(2), owner="you", tag="warp")
    assert queue.cancel_all("me", "warp") == 1
    assert mine.state == "cancelled"
    assert other.state == "waiting"
    assert queue.cancel_all("me") == 1
    assert other.wait(LONG)
    assert other.result == 2
    assert queue.cancel_all("nobody") == 0


def test_errors_reach_the_visitor_and_the_queue_goes_on(
    queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    def bad_input(progress: ProgressCallback) -> None:
        raise InputError("paint <b>something</b>")

    def broken(progress: ProgressCallback) -> None:
        raise ZeroDivisionError("/secret/path")

    def full(progress: ProgressCallback) -> None:
        raise MemoryError

    jobs = [queue.submit("a", work) for work in (bad_input, broken, full)]
    assert all(job.wait(LONG) for job in jobs)
    assert {job.state for job in jobs} == {"failed"}
    assert jobs[0].error == "paint <b>something</b>"
    assert "ZeroDivisionError" in jobs[1].error
    assert "secret" not in jobs[1].error
    assert "not enough memory" in jobs[2].error
    assert "&lt;b&gt;" in status(jobs[0], 0)
    assert "a job of the page failed" in caplog.text
    assert failed("x").count("job-failed") == 1


def test_too_many_jobs_are_refused(queue: JobQueue) -> None:
    gate = Gate()
    queue.submit("a", gate, owner="x")
    assert gate.running.wait(LONG)
    for _ in range(4):
        queue.submit("a", value(1), owner="me")
    with pytest.raises(InputError, match="4 of them yours"):
        queue.submit("b", value(1), owner="me")
    for _ in range(2):
        queue.submit("a", value(1), owner="you")
    with pytest.raises(InputError, match="too many jobs wait"):
        queue.submit("a", value(1), owner="you")
    gate.free.set()


def test_closing_ends_everything() -> None:
    queue, gate = JobQueue(), Gate()
    jobs = [queue.submit("a", gate), queue.submit("a", value(1))]
    assert gate.running.wait(LONG)
    queue.close()
    assert [job.state for job in jobs] == ["cancelled", "cancelled"]
    with pytest.raises(InputError, match="being closed"):
        queue.submit("a", value(1))


def test_what_nobody_waits_for_is_dropped_even_when_it_has_finished(queue: JobQueue) -> None:
    done, gate = queue.submit("m", value(1), owner="a", tag="warp"), Gate()
    assert done.wait(LONG)
    runs = queue.submit("m", gate, owner="a", tag="warp")
    others = [
        queue.submit("m", value(2), owner=owner, tag=tag)
        for owner, tag in (("a", "points"), ("b", "warp"))
    ]
    assert gate.running.wait(LONG)
    queue.drop("a", "warp")
    later = queue.submit("m", value(3), owner="a", tag="warp")
    assert [queue.dropped(job) for job in (done, runs, *others, later)] == [1, 1, 0, 0, 0]
    assert runs.wait(LONG)
    assert runs.state == "cancelled"
    assert later.wait(LONG)
    assert later.state == "done"
    queue.forget("a")
    assert not queue.dropped(done)
