"""Chunks of pairs made ahead of the caller: order, what goes on meanwhile, errors, an early end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from small_synthesis import OPTIONS, settings

from warpkit.checks import InputError
from warpkit.synthesize.config import FilterConfig, PairLabelConfig
from warpkit.synthesize.executors import ModelExecutor
from warpkit.synthesize.pair_pipeline import PairPipeline
from warpkit.synthesize.records import encode_records


def test_work_ahead_of_a_gpu_changes_nothing():
    """A chunk is begun before the last one is labelled, and that before the one before is whole."""
    config = settings(pairs=5)
    plans = [config.plans().pair(number) for number in range(5)]
    chunks = [plans[:2], plans[2:4], plans[4:]]
    maker = PairPipeline(config, OPTIONS.load_extractor())
    asked: list[int] = []

    def counted():
        for chunk in chunks:
            asked.append(chunk[0].number)
            yield chunk

    made = [(len(asked), records) for records in maker.run(counted(), ahead=True)]
    assert [begun for begun, _ in made] == [3, 3, 3]
    for (_, records), chunk in zip(made, chunks, strict=True):
        assert encode_records(records) == encode_records(maker.make(chunk))


def test_the_model_goes_on_while_the_caller_works(monkeypatch):
    """The chunk after next is made although nobody asks for more."""
    config = settings(pairs=3)
    maker = PairPipeline(config, OPTIONS.load_extractor())
    plans = [config.plans().pair(number) for number in range(3)]
    made, given, third = maker._begin, threading.Event(), threading.Event()

    def begin(chunk, pool):
        if chunk[0] is plans[2]:
            assert given.wait(20), "the caller has nothing to work on yet"
            third.set()
        return made(chunk, pool)

    monkeypatch.setattr(maker, "_begin", begin)
    run = maker.run([[plan] for plan in plans], ahead=True)
    first = next(run)
    given.set()
    assert third.wait(20)
    records = [*first, *(record for records in run for record in records)]
    assert [record.id for record in records] == [plan.id for plan in plans]


def test_nothing_is_made_after_images_that_fail(monkeypatch):
    config = settings(pairs=4)
    maker = PairPipeline(config, OPTIONS.load_extractor())
    asked = []

    def begin(chunk, pool):
        asked.append(chunk)
        raise InputError("no such class")

    monkeypatch.setattr(maker, "_begin", begin)
    with pytest.raises(InputError, match="no such class"):
        list(maker.run([[config.plans().pair(number)] for number in range(4)], ahead=True))
    assert len(asked) <= 2  # the other thread may have begun


def test_the_chunk_before_one_that_fails_is_whole(monkeypatch):
    """Although the later one, in the other thread, fails before this one begins."""
    config = settings(pairs=3)
    maker = PairPipeline(config, OPTIONS.load_extractor())
    plans = [config.plans().pair(number) for number in range(3)]
    made, failed = maker._begin, threading.Event()

    class LateLane(ModelExecutor):
        def submit(self, call, /, *given, **named):
            def late():
                if given == (0, [plans[0]]):
                    assert failed.wait(20)
                    time.sleep(0.1)  # until the failure is known
                return call(*given, **named)

            return super().submit(late)

    def begin(chunk, pool):
        if chunk[0] is plans[1]:
            failed.set()
            raise InputError("no such class")
        return made(chunk, pool)

    monkeypatch.setattr(maker, "_begin", begin)
    monkeypatch.setattr("warpkit.synthesize.pair_pipeline.ModelExecutor", LateLane)
    run = maker.run([[plan] for plan in plans], ahead=True)
    (record,) = next(run)
    assert record.id == plans[0].id
    with pytest.raises(InputError, match="no such class"):
        list(run)


def test_fields_are_solved_where_the_filter_is_on(monkeypatch):
    """All pairs of a chunk together, from target to source; a pair's record counts what is left."""
    from warpkit.synthesize import pair_pipeline as module

    solve, tasks = module.coherent_fields, []

    def counted(given, **named):
        tasks.append(given)
        return solve(given, **named)

    monkeypatch.setattr(module, "coherent_fields", counted)
    filters = FilterConfig(ratio=None, flip=None, coherence=0.9, affine=None)
    for limit in (0.9, None):
        labels = PairLabelConfig(points=8, least=1, filters=replace(filters, coherence=limit))
        config = settings(pairs=3, labels=labels)
        made = PairPipeline(config, OPTIONS.load_extractor()).make(
            [config.plans().pair(number) for number in range(3)]
        )
        steps = ["candidates", "cycle", *(["coherence"] if limit is not None else [])]
        assert [list(record.meta["filters"]) for record in made] == [steps] * 3
        assert [len(given) for given in tasks] == [3]
        tasks = [] if limit is None else tasks


def test_a_failing_search_stops_the_run(monkeypatch):
    def fails(*given, **named):
        raise RuntimeError("the search broke")

    config = settings(pairs=2)
    maker = PairPipeline(config, OPTIONS.load_extractor())
    monkeypatch.setattr("warpkit.synthesize.pair_pipeline.find_candidates", fails)
    threads = torch.get_num_threads()
    for ahead in (False, True):
        with pytest.raises(RuntimeError, match="the search broke"):
            list(maker.run([[config.plans().pair(number)] for number in range(2)], ahead=ahead))
        assert torch.get_num_threads() == threads


def test_a_run_that_is_left_early_ends_its_threads(monkeypatch):
    """The rest of a chunk is not searched then."""
    config = settings(pairs=8)
    plans = [config.plans().pair(number) for number in range(8)]
    maker = PairPipeline(config, OPTIONS.load_extractor())
    searched, begun, go = [], threading.Event(), threading.Event()

    def search(pair, flipped, field):
        searched.append(pair.facts["id"])
        if len(searched) == 2:  # the first pair of the second chunk
            begun.set()
            go.wait(20)
        return None, None

    def encode(pair, *found):
        return pair.dropped("not looked at")

    monkeypatch.setattr(maker, "_matched", search)
    monkeypatch.setattr(maker, "_encode", encode)
    before, threads = torch.get_num_threads(), threading.active_count()
    run = maker.run([plans[:1], plans[1:6], plans[6:7], plans[7:]], ahead=True)
    assert [record.id for record in next(run)] == [plans[0].id]
    assert begun.wait(20)
    threading.Timer(0.2, go.set).start()
    run.close()
    assert len(searched) == 2
    assert threading.active_count() <= threads + 1  # the timer may be ending
    assert torch.get_num_threads() == before
