"""`warpkit bench propagate` and `warpkit eval tapvid`: what they write and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from conftest import Ran

Cli = Callable[..., Ran]


def test_bench_names_stages_and_memory(cli: Cli, files: Path, tmp_path: Path) -> None:
    small = ("--device", "cpu", "--model", "tiny", "--size", 16)
    rendered = ("--frames", 2, "--sizes", "48x32", "--json", tmp_path / "copy.json")
    ran = cli("bench", "propagate", *rendered, *small, "-o", tmp_path / "out", small=False)
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "out/bench.json").read_text())
    assert record == json.loads((tmp_path / "copy.json").read_text())
    rows = {row["task"]: row for row in record["rows"]}
    assert set(rows) == {"mask", "edit", "points"}
    for row in rows.values():
        assert (row["size"], row["frames"]) == ([32, 48], 2)
        assert {"decode", "describe"} <= set(row["stages"])
        assert ("videos" in row["stages"]) == (row["task"] != "points")
        assert row["seconds_per_frame"] > 0 < row["cpu_seconds_per_frame"]
    assert "labels" in rows["mask"]["stages"]
    assert "edit" in rows["edit"]["stages"]
    assert "points" in rows["points"]["stages"]
    assert (tmp_path / "out/bench.md").read_text().strip() in ran.out
    clip = (files / "frames", files / "mask.png", "--set", "tasks=[mask]", "--frames", 2)
    ran = cli("bench", "propagate", *clip, *small, "-o", tmp_path / "own", small=False)
    assert ran.code == 0, ran.err
    (row,) = json.loads((tmp_path / "own/bench.json").read_text())["rows"]
    assert (row["size"], row["frames"]) == ([48, 80], 2)
    alone = ("bench", "propagate", files / "frames", "-o", tmp_path / "no")
    ran = cli(*alone, small=False)
    assert (ran.code, "takes a video and the mask" in ran.err) == (2, True)


def test_tapvid_scores_the_clips(cli: Cli, tmp_path: Path) -> None:
    settings = ("--clips", "jellyfish", "--set", "stride=16", "--set", "points=8")
    model = ("--device", "cpu", "--model", "tiny", "--size", 32)
    for mode in ("first", "strided"):
        out = tmp_path / mode
        ran = cli("eval", "tapvid", *settings, "--query-mode", mode, *model, "-o", out, small=False)
        assert ran.code == 0, ran.err
        result = json.loads((out / "result.json").read_text())
        assert [row["method"] for row in result["baselines"]] == ["match alone"]
        assert result["clips"]["jellyfish"]["points"] == result["points"] == 8 * 3
        assert result["average_jaccard"] == result["clips"]["jellyfish"]["average_jaccard"]
        assert f"| {100 * result['average_jaccard']:.1f} |" in ran.out
    ran = cli("eval", "tapvid", "--clips", "fsh", small=False)
    assert (ran.code, "Did you mean 'fish'" in ran.err) == (2, True)
