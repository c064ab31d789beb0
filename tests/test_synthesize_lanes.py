"""Where searches run: threads, streams, and how they end."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from warpkit.synthesize.lanes import NoLane, SideLane

CPU = torch.device("cpu")


def test_no_lane_runs_at_once():
    assert NoLane().submit(lambda a, b: a - b, 5, b=3).result() == 2
    with pytest.raises(ZeroDivisionError):
        NoLane().submit(lambda: 1 / 0)


def test_a_side_lane_runs_beside_and_in_order():
    go, order = threading.Event(), []
    with SideLane(CPU) as lane:
        first = lane.submit(lambda: (go.wait(10), order.append(threading.current_thread().name)))
        second = lane.submit(order.append, "second")
        assert not first.done()  # or this would wait for itself
        go.set()
        second.result(10)
    assert order[0].startswith("search")
    assert order[1] == "second"


@pytest.mark.parametrize("fails", [False, True])
def test_on_a_gpu_a_call_has_a_stream_and_ends_with_its_work(monkeypatch, fails):
    """With CUDA's calls replaced: what is queued before is waited for, and its own work too."""
    order = []

    class Stream:
        device = torch.device("cuda", 0)

        def wait_event(self, event):
            order.append(f"wait for {event}")

        def synchronize(self):
            order.append("all done")

    @contextmanager
    def stream(which):
        assert isinstance(which, Stream)
        order.append("in")
        yield
        order.append("out")

    main = SimpleNamespace(record_event=lambda: "what came before")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", stream)

    def search(value):
        order.append("search")
        return 1 / value

    with SideLane(torch.device("cuda")) as lane:
        found = lane.submit(search, 0 if fails else 2)
        if fails:
            with pytest.raises(ZeroDivisionError):
                found.result(10)
        else:
            assert found.result(10) == 0.5
    expected = ["wait for what came before", "in", "search", "all done"]
    assert order == (expected if fails else [*expected, "out"])
