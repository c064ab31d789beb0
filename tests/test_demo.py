"""The demo, on a clip that is small enough for a test."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Ran

import warpkit
from warpkit.render import CLIPS

Cli = Callable[..., Ran]


def linked(page: str) -> list[str]:
    return re.findall(r'src="([^"]+)"', page)


def test_demo(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLIPS, "fish", replace(CLIPS["fish"], height=48, width=80))
    out = tmp_path / "out"
    ran = cli("demo", "-o", out, "--set", "frames=3")
    assert (ran.code, ran.messages) == (0, [])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    assert not [name for name in files if "/." in f"/{name}"]
    frames = [f"{t:05d}.png" for t in range(3)]
    assert sorted(files) == sorted(
        [
            *("index.html", "run.json"),
            *(f"pair/{name}.png" for name in ("source", "target", "source_mask", "target_mask")),
            *(f"pair/warp/{name}.png" for name in ("warped", "composite", "overview")),
            *("pair/warp/warp.npz", "pair/warp/run.json"),
            *("clip/clip.mp4", "clip/mask.png", "clip/edit.png", "clip/contact.png"),
            *(f"clip/propagated/{kind}/{name}" for kind in ("masks", "frames") for name in frames),
            *(f"clip/propagated/{name}.mp4" for name in ("overlay", "edited")),
            *("clip/propagated/frames.jsonl", "clip/propagated/run.json"),
            *(f"clip/propagated/report.{kind}" for kind in ("html", "json")),
            *(f"clip/propagated/{name}" for name in ("confidence.svg", "contact_sheet.png")),
        ]
    )
    page = (out / "index.html").read_text()
    assert linked(page)
    assert all((out / name).is_file() for name in linked(page))
    assert "http" not in page  # nothing is fetched from elsewhere
    report = ran.out.splitlines()
    assert report[-1] == f"open {out / 'index.html'}"
    assert report[0].startswith("pair: median end-point error")
    assert any(line.startswith("mask: J ") for line in report)
    record = json.loads((out / "run.json").read_text())
    assert record["report"] == report
    assert (record["config"]["frames"], record["config"]["size"]) == (3, 32)


def test_own_pair(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli(
        *("demo", files / "frames/000.png", files / "frames/006.png", "-o", out),
        *("--source-mask", files / "mask.png", "--target-mask", files / "last_mask.png"),
    )
    assert (ran.code, ran.messages) == (0, [])
    page = (out / "index.html").read_text()
    assert linked(page) == ["pair/warp/composite.png", "pair/warp/overview.png"]
    assert all((out / name).is_file() for name in linked(page))
    assert "--source-mask" in page
    area = int(warpkit.read_mask(files / "last_mask.png").sum())
    assert ran.out.startswith(f"pair: {area} pixels")
