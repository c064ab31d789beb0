"""`warpkit bench match`: what its rows say, what it writes, what it refuses."""

from __future__ import annotations

import gc
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from warpkit.bench.match import BenchMatchSettings, _half_search, bench_match
from warpkit.bench.rows import bench_table, estimate, timing_points, with_ratios
from warpkit.checks import InputError
from warpkit.cli.main import main
from warpkit.coords import lattice_sites
from warpkit.describe.options import ModelOptions
from warpkit.io.images import read_image, write_image
from warpkit.match.matcher import create_matcher
from warpkit.render import render_pair
from warpkit.runs.memory import PeakMemory
from warpkit.types import DescriptorMap
from warpkit.viz import plot_timings


@pytest.fixture(scope="module", autouse=True)
def frozen_heap():
    """Every run is measured after a collection, which here would look at all modules each time."""
    ModelOptions(model="tiny").load_extractor()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest):
    config = BenchMatchSettings(sizes=("24", "36x20"), engines=("grid", "reference"), repeats=1)
    source, target = (frame.image for frame in render_pair(name="fish"))
    return bench_match(
        source, target, extractor=ModelOptions(model="tiny").load_extractor(), settings=config
    )


def test_rows_name_their_problem_and_agree(rows):
    found = {(r.descriptor, r.engine, r.target, r.masked) for r in rows}
    kinds, engines, sizes = ("layers", "descriptor"), ("reference", "grid"), ((24, 24), (20, 36))
    assert found == {
        (kind, engine, size, masked)
        for kind in kinds
        for engine in engines
        for size in sizes
        for masked in (False, True)
    }
    assert len(rows) == len(found)
    for row in rows:
        assert row.channels == (384 if row.descriptor == "layers" else 128)
        pixels = row.target[0] * row.target[1]
        assert row.queries == row.candidates == (pixels // 4 if row.masked else pixels)
        assert row.agreement == 1
        assert row.seconds > 0
        assert not row.extrapolated
        assert row.device == "cpu"


def test_what_exceeds_the_budget_is_extrapolated(monkeypatch):
    monkeypatch.setattr("warpkit.bench.match._BUDGET", {("cpu", False): 1, ("cpu", True): 1})
    monkeypatch.setattr("warpkit.bench.match._SAMPLE", 20)
    monkeypatch.setattr("warpkit.bench.match._LEAST", {})
    config = BenchMatchSettings(
        sizes=("24",), engines=("faiss", "torch float16", "reference", "grid"), masked=False
    )
    source, target = (frame.image for frame in render_pair(name="fish"))
    rows = bench_match(source, target, extractor=ModelOptions().load_extractor(), settings=config)
    assert {row.engine: row.extrapolated for row in rows} == {
        "faiss": True,
        "torch float16": True,
        "reference": True,
        "grid": False,
    }
    for row in rows:
        assert row.agreement == 1 or row.engine == "torch float16"
    table = bench_table([replace(row, seconds=row.seconds or 1.0) for row in rows])
    assert "| torch float16 | about " in table
    assert '"about": an estimate from parts of the queries, no measurement.' in table


def test_an_estimate_is_a_line_through_two_parts_by_hand():
    told = {"part": 100, "half": 50, "whole": 1100}
    # 1 s for an index and 0.02 s a query, twice; then a fixed cost alone
    assert estimate([3.0, 3.0], [2.0, 2.0], **told) == pytest.approx(23.0)
    assert estimate([1.0, 1.1], [1.0, 1.2], **told) == pytest.approx(1.05)
    # 23 s and 29 s differ by less than a third, 23 s and 43 s by more: something else ran
    assert estimate([3.0, 3.3], [2.0, 2.0], **told) == pytest.approx((23.0 + 29.3) / 2)
    assert estimate([3.0, 4.0], [2.0, 2.0], **told) is None
    assert estimate([3.0, 3.0], [2.9, 2.0], **told) is None


def test_estimates_are_told_from_measurements(rows):
    row = next(row for row in rows if row.engine == "reference")
    fast = replace(row, engine="grid", seconds=0.0123456)
    guessed = replace(row, engine="faiss", seconds=16_234.5, extrapolated=True, agreement=None)
    unknown = replace(row, engine="torch float16", seconds=None, extrapolated=True)
    table = bench_table(with_ratios([replace(row, seconds=12.345), fast, guessed, unknown]))
    cells = {line.split(" | ")[3]: line.split(" | ") for line in table.splitlines()[2:6]}
    assert cells["reference"][4:6] == ["12.3", "about 1,300 x faiss"]
    assert cells["grid"][4:6] == ["0.0123", "about 1,300,000 x faiss"]
    assert cells["faiss"][4:6] == ["about 16,000", ""]
    assert cells["faiss"][-1] == "about 1,300,000 |"
    assert cells["torch float16"][4:6] == ["not known", ""]
    assert "e+" not in table
    assert '"about": an estimate' in table and '"not known": such estimates disagree' in table
    names = {name for _, name, *_ in timing_points([fast, guessed, unknown])}
    assert "torch float16" not in names
    measured = bench_table(with_ratios([replace(row, seconds=12.345)]))
    assert "about" not in measured and "not known" not in measured


def test_half_precision_takes_the_largest_product():
    generator = torch.Generator().manual_seed(0)
    key = DescriptorMap.covering(torch.randn(8, 3, 4, generator=generator), height=3, width=4)
    query = DescriptorMap.covering(key.data.roll(1, dims=2), height=3, width=4)
    sites = lattice_sites(height=3, width=4)
    truth = create_matcher("reference").search(query, key, sites, sites)
    assert torch.equal(_half_search(query, key, sites, sites).index, truth.index)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_memory_is_what_is_taken():
    with PeakMemory(torch.device("cpu")) as peak:
        block = np.ones(50_000_000, np.uint8)
        import time

        time.sleep(0.5)  # many samples
        assert block[0] == 1
    assert peak.megabytes is not None
    assert peak.megabytes > 45


def test_the_command_writes_table_json_and_plot(tmp_path, capsys):
    images = []
    for name, frame in zip(("a", "b"), render_pair(name="fish"), strict=True):
        images.append(tmp_path / f"{name}.png")
        write_image(images[-1], frame.image)
    out, copy = tmp_path / "bench", tmp_path / "copy.json"
    options = ["--sizes", "16,18x12", "--set", "engines=[reference, grid]", "--set", "repeats=1"]
    command = ["bench", "match", *map(str, images), "-o", str(out), "--json", str(copy), *options]
    assert main(command) == 0
    printed = capsys.readouterr().out
    table = (out / "bench.md").read_text()
    assert table in printed
    assert table.count("\n| layers, 384 ch. |") == 8
    record = json.loads((out / "bench.json").read_text())
    assert record == json.loads(copy.read_text())
    assert record["images"] == [str(path) for path in images]
    assert record["config"]["sizes"] == ["16", "18x12"]
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["versions"]["numba"]
    row = record["rows"][0]
    assert (row["engine"], row["source"], row["target"]) == ("reference", [16, 16], [16, 16])
    assert row["extrapolated"] is False
    if importlib.util.find_spec("matplotlib"):
        picture = read_image(out / "bench.png")
        assert picture.shape[0] > 300
        assert picture.std() > 10  # something is drawn


def test_bad_settings_are_named(tmp_path, capsys):
    with pytest.raises(InputError, match="a size is a side such as 512 or WIDTHxHEIGHT"):
        BenchMatchSettings(sizes=("12x",))
    with pytest.raises(InputError, match=r"unknown engine 'gird'.*Did you mean 'grid'"):
        BenchMatchSettings(engines=("gird",))
    with pytest.raises(InputError, match="repeats must be at least 1"):
        BenchMatchSettings(repeats=0)
    with pytest.raises(InputError, match="sizes is empty"):
        BenchMatchSettings(sizes=())
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    assert main(["bench", "match", str(tmp_path / "a.png"), "-o", str(tmp_path / "o")]) == 2
    assert "takes a source and a target image or none, got 1" in capsys.readouterr().err
    pair = [str(tmp_path / "a.png")] * 2
    command = ["bench", "match", *pair, "-o", str(tmp_path / "o"), "--json", pair[0]]
    for more, message in (([], "exists: choose another name"), (["--overwrite"], "is an input")):
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err
    for what in ("extract", "propagate"):
        assert main(["bench", what, "-o", str(tmp_path / "o"), "--json", pair[0]]) == 2
        assert "exists: choose another name" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_plots_have_a_panel_a_problem():
    pytest.importorskip("matplotlib")
    points = [("a", "grid", 10, 0.1, False), ("a", "faiss", 10, 1.0, True)]
    one = plot_timings(points, "machine")
    two = plot_timings([*points, ("b", "grid", 20, 0.2, False)], "machine")
    assert one.dtype == np.uint8
    assert two.shape == (one.shape[0], 2 * one.shape[1], 3)
