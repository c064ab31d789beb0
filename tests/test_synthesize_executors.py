"""Where searches run: threads, streams, and how they end."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from warpkit.synthesize import executors
from warpkit.synthesize.executors import InlineExecutor, ModelExecutor, StreamExecutor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_streams_of_other_tests():
    executors._stream.cache_clear()
    yield
    executors._stream.cache_clear()


def test_no_lane_runs_at_once():
    assert InlineExecutor().submit(lambda a, b: a - b, 5, b=3).result() == 2
    with pytest.raises(ZeroDivisionError):
        InlineExecutor().submit(lambda: 1 / 0)


def test_a_side_lane_runs_beside_and_in_order():
    go, order = threading.Event(), []
    with StreamExecutor(CPU) as executor:
        first = executor.submit(
            lambda: (go.wait(10), order.append(threading.current_thread().name))
        )
        second = executor.submit(order.append, "second")
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

    with StreamExecutor(torch.device("cuda")) as executor:
        found = executor.submit(search, 0 if fails else 2)
        if fails:
            with pytest.raises(ZeroDivisionError):
                found.result(10)
        else:
            assert found.result(10) == 0.5
    expected = ["wait for what came before", "in", "search", "all done"]
    assert order == (expected if fails else [*expected, "out"])


def test_a_model_lane_goes_on_while_a_call_waits():
    waiting, go, order = threading.Event(), threading.Event(), []

    def waits():
        waiting.set()
        assert go.wait(10)
        order.append((threading.current_thread().name, torch.get_num_threads()))

    threads = torch.get_num_threads()
    with ModelExecutor(threads + 1, CPU) as executor:
        first = executor.submit(waits)
        assert waiting.wait(10)
        executor.submit(order.append, "second").result(10)
        assert not first.done()
        go.set()
    assert order[0] == "second"
    name, count = order[1]
    assert name.startswith("model")
    assert count == threads + 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("fails", [False, True])
def test_on_a_gpu_each_model_thread_has_a_stream_and_ends_with_its_work(monkeypatch, fails):
    """With CUDA's calls replaced."""
    mine, order = threading.local(), []

    class Stream:
        def wait_event(self, event):
            order.append(f"wait for {event}")

        def synchronize(self):
            order.append("all done")

    made = []

    def stream(device, priority):
        made.append(Stream())
        return made[-1]

    here = SimpleNamespace(record_event=lambda: "what came before")
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: order.append(f"GPU {gpu}"))
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(mine, "stream", stream))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: getattr(mine, "stream", here))

    gpu, both = torch.device("cuda"), threading.Barrier(2)

    def call(value):
        both.wait(10)
        order.append("call")
        return 1 / value, mine.stream

    def streams():
        with ModelExecutor(torch.get_num_threads(), gpu) as executor:
            found = [executor.submit(call, value) for value in (2, 0 if fails else 4)]
            one, first = found[0].result(10)
            assert one == 0.5
            if fails:
                with pytest.raises(ZeroDivisionError):
                    found[1].result(10)
                return {id(first)}
            return {id(first), id(found[1].result(10)[1])}

    ours = streams()
    assert len(ours) == (1 if fails else 2)
    assert sorted(order) == sorted(2 * ["GPU 3", "wait for what came before", "call", "all done"])
    assert order.index("all done") > order.index("call")
    streams()
    assert len(made) == 2  # the next executor has the same two
