"""Commands on files and folders whose names are no UTF-8, and on consoles that are none."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import warpkit
from warpkit.cli.main import main
from warpkit.io.points import read_queries
from warpkit.io.text import read_json
from warpkit.video.run import run_propagate

SMALL = ("--device", "cpu", "--model", "tiny", "--size", "32")
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a console of an encoding; what it printed."""

    def command(*arguments: object, coding: str = "utf-8") -> str:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, coding, write_through=True))
        name, *rest = map(str, arguments)
        assert main([name, *SMALL, *rest]) == 0
        return raw.getvalue().decode(coding)

    return command


@pytest.fixture
def old(tmp_path: Path, files: Path) -> Path:
    """The shared files below names of an old archive: Latin-1, Shift-JIS and CP-866."""
    folder = tmp_path / os.fsdecode(b"arch\xefve")
    shutil.copytree(files / "frames", folder / os.fsdecode("\u043a".encode("cp866")))
    for name in ("clip.mp4", "mask.png", "edited.png"):
        shutil.copy(files / name, folder / os.fsdecode(b"\x94L-" + name.encode()))
    return folder


def file(folder: Path, name: str) -> Path:
    return folder / os.fsdecode(b"\x94L-" + name.encode())


def frames(folder: Path) -> Path:
    return folder / os.fsdecode("\u043a".encode("cp866"))


def test_images(old: Path, run: Run) -> None:
    first, second = file(old, "edited.png"), frames(old) / "003.png"
    mask = file(old, "mask.png")
    out = old / os.fsdecode(b"out\xff")
    run("warp", first, second, "--source-mask", mask, "--field", "nearest", "-o", out / "warp")
    assert (out / "warp/composite.png").is_file()
    listed = out / "match.json"
    picture = ("--picture", out / "picture.png")
    run("match", first, second, "--points", "30,20", "-o", listed, *picture)
    assert read_json(listed)["source_points"] == [[30, 20]]
    printed = run("extract", first, "-o", out / "extract")
    assert printed.splitlines() == [
        str(out / "extract" / f"{first.stem}.safetensors")
        .encode(errors="backslashreplace")
        .decode()
    ]
    assert read_json(out / "extract/run.json")["inputs"] == [str(first)]
    run("inspect", first, "-o", out / "inspect")
    assert list(read_json(out / "inspect/inspect.json")["maps"]) == [str(first)]


@pytest.mark.parametrize("source", ["clip.mp4", "frames"])
def test_a_clip(old: Path, run: Run, source: str) -> None:
    clip = frames(old) if source == "frames" else file(old, source)
    mask, out = file(old, "mask.png"), old / "o\udcff"
    given = ("--mask", mask, "--edit", file(old, "edited.png"), "--export", "coco,ffv1")
    run("propagate", clip, *given, "--end", 3, "-o", out)
    assert np.array_equal(warpkit.read_labels(out / "masks/00000.png"), warpkit.read_labels(mask))
    record = read_json(out / "run.json")
    assert record["inputs"]["video"]["path"] == str(clip)
    assert record["inputs"]["mask"]["0"]["path"] == str(mask)
    assert {path.name for path in out.glob("*.m*")} == {
        *("overlay.mp4", "edited.mp4", "cutout.mkv", "layer.mkv")
    }


def test_a_killed_run_goes_on(old: Path, model: warpkit.Model) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    out, points = old / "o\udcff", read_queries("30,20")
    settings = warpkit.video.config.PropagateSettings(chunk=2)
    given = {"mask": file(old, "mask.png"), "points": points, "settings": settings}
    with pytest.raises(KeyboardInterrupt):
        run_propagate(frames(old), out, **given, describer=model, progress=stop)
    assert not out.exists()
    run_propagate(frames(old), out, **given, describer=model)
    assert len((out / "frames.jsonl").read_text(encoding="ascii").splitlines()) == 7


@pytest.mark.parametrize("coding", ["ascii", "latin-1", "cp1252", "cp932", "utf-8"])
def test_consoles(tmp_path: Path, files: Path, run: Run, coding: str) -> None:
    out = tmp_path / "\u732b-\u00e9-\u0438"
    printed = run("extract", files / "mask.png", "-o", out, coding=coding)
    assert printed.endswith("mask.safetensors\n")
    shown = str(out).encode(coding, "backslashreplace").decode(coding)
    assert printed == f"{shown}/mask.safetensors\n"
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["described"] == 1
