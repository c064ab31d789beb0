"""The watch over commands that fail sees what it should, and watches every command."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import kept_files
import pytest
from conftest import Ran

import warpkit
from warpkit.evaluate.commands.shared import write_result
from warpkit.image import warp as warping

Cli = Callable[..., Ran]
PACKAGE = Path(warpkit.__file__).parent
TASKS = ("bench", "demo.py", "evaluate/commands", "image", "synthesize", "train", "video")


def test_every_task_is_watched() -> None:
    found = set()
    for task in TASKS:
        place = PACKAGE / task
        for path in [place] if place.suffix else place.rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("run_"):
                    found.add(node.name)
    assert found - {"run_lengths"} <= set(kept_files.ENTRIES.values())
    assert hasattr(warping.run_warp, "__wrapped__")


def spoil_removed(folder: Path) -> None:
    (folder / "mine/notes.txt").unlink()


def spoil_replaced(folder: Path) -> None:
    (folder / "mine/notes.txt").write_text("other")


def spoil_left(folder: Path) -> None:
    (folder / "mine/half.tmp").write_text("half")


def spoil_folder(folder: Path) -> None:
    (folder / "empty").rmdir()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (spoil_removed, "removed"),
        (spoil_replaced, "replaced"),
        (spoil_left, "left behind"),
        (spoil_folder, "removed"),
    ],
)
def test_what_a_failing_command_does_is_seen(
    cli: Cli,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    word: str,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine/notes.txt").write_text("kept")

    def fail(*_: object, **__: object) -> None:
        spoil(tmp_path)
        raise warpkit.InputError("spoiled")

    monkeypatch.setattr(warping, "read_picture", fail)
    pair = (files / "frames/000.png", files / "frames/001.png")
    with pytest.raises(AssertionError, match=f"warp failed, and has {word}"):
        cli("warp", *pair, "-o", tmp_path / "out")


def test_a_failing_command_that_keeps_everything_passes(
    cli: Cli, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("kept")
    before = len(kept_files.failures)
    assert cli("warp", files / "text.png", files / "mask.png", "-o", tmp_path / "out").code == 2
    with pytest.raises(warpkit.InputError):
        warping.run_warp(files / "text.png", files / "mask.png", tmp_path / "out")
    assert kept_files.failures[before:] == ["warp", "run_warp"]


def test_results_of_a_score_come_in_both_places_or_in_none(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("mine")
    with pytest.raises(warpkit.InputError, match=r"cannot write .*/none/copy\.json"):
        write_result({"pck": 1}, tmp_path / "out", tmp_path / "none/copy.json", overwrite=True)
    (tmp_path / "copy.json").write_text("mine")
    with pytest.raises(warpkit.InputError, match="is not empty"):
        write_result({"pck": 1}, tmp_path / "out", tmp_path / "copy.json", overwrite=False)
    assert (tmp_path / "out/result.json").read_text() == "mine"
    assert (tmp_path / "copy.json").read_text() == "mine"
    write_result({"pck": 1}, tmp_path / "out", tmp_path / "copy.json", overwrite=True)
    assert (tmp_path / "copy.json").read_bytes() == (tmp_path / "out/result.json").read_bytes()
