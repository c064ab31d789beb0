"""Files that results replace: nothing of them is lost when one cannot be replaced, or at a kill."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from warpkit.checks import InputError, OutputError
from warpkit.evaluate.commands.shared import write_result
from warpkit.io.whole import write_text, written_together
from warpkit.runs import folder as folders
from warpkit.runs.folder import OutputFolder


def _tree(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("links", [True, False])
def test_a_place_that_cannot_be_replaced_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _refused)
    old, new, linked, last = (tmp_path / name for name in ("old", "new.txt", "to-old", "last.txt"))
    old.write_text("old")
    linked.symlink_to("old")
    with (
        pytest.raises(OutputError, match=rf"^cannot write {last}: \w") as error,
        written_together(old, new, linked, last) as names,
    ):
        for name in names:
            assert name is not None
            write_text(name, "result")
        last.mkdir()
        (last / "kept").write_text("mine")
    assert str(names[-1]) not in str(error.value)
    assert _tree(tmp_path) == {"old": "old", "to-old": "old", "last.txt/kept": "mine"}
    assert linked.is_symlink()


def _refused(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_folder_in_the_place_of_a_file_is_said_before_the_work(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.mkdir()
    with pytest.raises(OutputError, match=r"a\.json: it is a folder"), written_together(place):
        pytest.fail("the work began")


def test_a_score_is_not_published_without_its_second_place(tmp_path: Path) -> None:
    (tmp_path / "copy.json").mkdir()
    with pytest.raises(OutputError, match=r"copy\.json: it is a folder"):
        write_result({"pck": 1}, tmp_path / "out", tmp_path / "copy.json", overwrite=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_a_run_that_was_killed_before_it_began_is_removed(tmp_path: Path) -> None:
    left, held = (tmp_path / f".warpkit-partial-new-{digit * 8}" for digit in "ab")
    left.mkdir()
    held.mkdir()
    lock = folders._lock(held, held)
    with OutputFolder(tmp_path / "out") as folder:
        folder.file("a.txt").write_text("a")
    assert not left.exists()
    assert held.exists()  # another run's
    assert lock is not None
    os.close(lock)


def test_a_new_folder_that_another_run_removed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = folders._lock, 0

    def late(staging: Path, path: Path) -> int | None:
        nonlocal calls
        calls += 1
        if calls == 1:
            staging.rmdir()
        elif calls == 2:
            raise InputError("another run is writing")
        elif calls == 3:
            held = lock(staging, path)
            staging.rmdir()
            return held
        return lock(staging, path)

    monkeypatch.setattr(folders, "_lock", late)
    with OutputFolder(tmp_path / "out") as folder:
        folder.file("a.txt").write_text("a")
    assert calls == 4
    assert _tree(tmp_path) == {"out/a.txt": "a"}


@pytest.mark.parametrize("resume", [False, True])
def test_originals_of_a_killed_run_are_kept_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    resume: bool,
) -> None:
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    (out / "masks/0.txt").write_text("original")
    left = out / ".warpkit-partial-replaced-0123abcd"
    (left / "masks").mkdir(parents=True)
    os.link(out / "masks/0.txt", left / "masks/0.txt")
    empty = out / ".warpkit-partial-replaced-0123abce"
    empty.mkdir()
    with (
        caplog.at_level(logging.WARNING, "warpkit"),
        OutputFolder(out, overwrite=True, resume=resume) as folder,
    ):
        folder.file("masks/0.txt").write_text("new")
    assert [record.getMessage().split(" holds files ")[0] for record in caplog.records] == [
        str(left)
    ]
    assert (left / "masks/0.txt").read_text() == "original"
    assert (out / "masks/0.txt").read_text() == "new"


def test_what_is_replaced_is_kept_meanwhile_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", {}
    (out / "masks").mkdir(parents=True)
    (out / "masks/0.txt").write_text("original")
    replace = Path.replace

    def look(path: Path, target: Path) -> Path:
        (kept,) = out.glob(".warpkit-partial-replaced-*")
        seen.update(_tree(kept))
        return replace(path, target)

    with OutputFolder(out, overwrite=True) as folder:
        folder.file("masks/0.txt").write_text("new")
        monkeypatch.setattr(Path, "replace", look)
    assert seen == {"masks/0.txt": "original"}
    assert _tree(out) == {"masks/0.txt": "new"}
