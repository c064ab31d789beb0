"""The coherent solver in `warpkit bench match`: its rows, its ratios to `grid`, its batches."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from warpkit.bench import coherent as benchmark_coherent
from warpkit.bench.coherent import Spent, solver_task, time_solver
from warpkit.bench.match import BenchMatchSettings, bench_match
from warpkit.bench.rows import BenchRow, bench_table, timing_points, with_ratios
from warpkit.coherent import CoherentConfig, FieldTask
from warpkit.describe.options import ModelOptions
from warpkit.render import render_pair
from warpkit.types import DescriptorMap

ROW = BenchRow(
    "descriptor", "grid", "cpu", (8, 8), (8, 12), False, 96, 96, 4, 0.25, False, 1.0, 5.0
)


@pytest.fixture(autouse=True)
def frozen_heap() -> Iterator[None]:
    """Every run is measured after a collection, which here would look at all modules each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_rows_stand_beside_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[FieldTask] = []

    def fake(task: FieldTask, *, pairs: int = 1, repeats: int = 3) -> Spent:
        assert (pairs, repeats) == (1, 1)
        solved.append(task)
        return Spent(0.5, 7.0)

    monkeypatch.setattr("warpkit.bench.match.time_solver", fake)
    config = BenchMatchSettings(
        sizes=("24x16",), engines=("reference", "grid", "coherent"), repeats=1
    )
    source, target = (frame.image for frame in render_pair(name="fish"))
    rows = bench_match(
        source, target, extractor=ModelOptions(model="tiny").load_extractor(), settings=config
    )
    found = [row for row in rows if row.engine == "coherent"]
    assert [(row.descriptor, row.masked, row.queries) for row in found] == [
        ("layers", False, 384),
        ("layers", True, 96),
        ("descriptor", False, 384),
        ("descriptor", True, 96),
    ]
    for row in found:
        assert (row.seconds, row.memory_mb, row.agreement, row.extrapolated) == (
            0.5,
            7.0,
            None,
            False,
        )
    for row in rows:
        (grid,) = (r for r in rows if r.engine == "grid" and r.problem == row.problem)
        assert row.times_grid == row.seconds / grid.seconds
    # Half the side of both images, centred, or no masks.
    masks = [task.source_mask for task in solved]
    assert masks[0] is None
    assert masks[2] is None
    expected = torch.zeros(16, 24, dtype=torch.bool)
    expected[4:12, 6:18] = True
    for task in (solved[1], solved[3]):
        assert torch.equal(task.source_mask, expected)
        assert torch.equal(task.target_mask, expected)
        assert torch.equal(task.mirrored.data, task.source.data.flip(2))
    assert "coherent" in BenchMatchSettings().engines


def test_both_orientations_are_solved_and_a_batch_is_shared_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[int, int]] = []
    clock = iter(range(0, 1000, 8))

    def fake(tasks: Sequence[FieldTask], *, config: CoherentConfig, batch: int) -> list[Any]:
        assert config.mirror == "auto"
        assert all(task.mirrored is not None for task in tasks)
        calls.append((len(tasks), batch))
        return []

    monkeypatch.setattr(benchmark_coherent, "coherent_fields", fake)
    monkeypatch.setattr(benchmark_coherent.time, "perf_counter", lambda: next(clock))
    data = torch.rand(8, 6, 7)
    task = solver_task(
        DescriptorMap.covering(data, height=12, width=14),
        DescriptorMap.covering(data, height=12, width=14),
        None,
    )
    assert time_solver(task, repeats=3).seconds == 8
    assert time_solver(task, pairs=16, repeats=1).seconds == 0.5
    # One more than the repeats: the first warms up.
    assert calls == [(1, 1)] * 4 + [(16, 16)] * 2


def test_the_solver_itself_is_timed() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(8, 6, 7, generator=generator)
    maps = [DescriptorMap.covering(data, height=12, width=14) for _ in range(2)]
    mask = torch.zeros(12, 14, dtype=torch.bool)
    mask[3:9, 3:11] = True
    assert time_solver(solver_task(*maps, mask), repeats=1).seconds > 0


def test_ratios_and_table_by_hand() -> None:
    coherent = replace(ROW, engine="coherent", seconds=0.5, agreement=None)
    masked = replace(coherent, masked=True)
    faiss = replace(ROW, engine="faiss", seconds=1.0)
    rows = with_ratios([faiss, ROW, coherent, masked])
    assert [row.times_grid for row in rows] == [4, 1, 2, None]
    lines = bench_table(rows).splitlines()
    assert lines[0].endswith("| times grid |")
    assert lines[3].endswith("| grid | 0.25 | 4.0 x faiss | 100.0 % | 5 |  |")
    assert lines[4].endswith("| coherent | 0.5 | 2.0 x faiss |  | 5 | 2 |")
    assert lines[5].endswith("| coherent | 0.5 |  |  | 5 |  |")
    assert [(name, seconds) for _, name, _, seconds, _ in timing_points(rows)] == [
        ("faiss", 1.0),
        ("grid", 0.25),
        ("coherent", 0.5),
        ("coherent, masks of a quarter", 0.5),
    ]
