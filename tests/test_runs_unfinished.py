"""What killed runs leave behind goes with the next run; what anybody still needs does not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from warpkit.checks import InputError
from warpkit.runs.folder import OutputFolder

_RUN = """
import sys, time
from warpkit.runs.folder import OutputFolder
with OutputFolder(sys.argv[1], overwrite=True, resume=sys.argv[2] == "resume") as folder:
    folder.file("half/a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def _started(out: Path, kind: str = "plain") -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(out), kind], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None and run.stdout.readline() == "ready\n"
    return run


def _end(run: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    run.send_signal(number)
    run.wait()
    assert run.stdout is not None
    run.stdout.close()


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _finish(out: Path) -> None:
    with OutputFolder(out, overwrite=True) as folder:
        folder.file("b.txt").write_text("whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("existing", [False, True])
def test_the_next_run_removes_what_a_killed_one_left(
    tmp_path: Path, number: int, existing: bool
) -> None:
    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    _end(_started(out), number)
    assert any("warpkit-partial" in name for name in _names(tmp_path))
    _finish(out)
    assert _names(tmp_path) == ["out", "out/b.txt", *(["out/mine.txt"] if existing else [])]


def test_a_run_into_a_neighbour_removes_it_too_and_so_does_one_after_the_folder_was_made(
    tmp_path: Path,
) -> None:
    _end(_started(tmp_path / "a"))
    _finish(tmp_path / "b")
    assert _names(tmp_path) == ["b", "b/b.txt"]
    _end(_started(tmp_path / "a"))
    (tmp_path / "a").mkdir()
    _finish(tmp_path / "a")
    assert _names(tmp_path) == ["a", "a/b.txt", "b", "b/b.txt"]


def test_nobody_else_loses_anything(tmp_path: Path) -> None:
    (tmp_path / ".warpkit-partial-notes").mkdir()
    (tmp_path / ".warpkit-partial-notes" / "mine.txt").write_text("mine")
    _end(_started(tmp_path / "continued", "resume"))
    alive = _started(tmp_path / "alive")
    try:
        before = _names(tmp_path)
        _finish(tmp_path / "out")
        assert _names(tmp_path) == [*before, "out", "out/b.txt"]
        # Nor within one process.
        with OutputFolder(tmp_path / "first") as first:
            first.file("a.txt").write_text("first")
            _finish(tmp_path / "second")
        assert (tmp_path / "first" / "a.txt").read_text() == "first"
    finally:
        _end(alive)
    with OutputFolder(tmp_path / "continued", resume=True) as folder:
        assert folder.resumed and folder.file("half/a.txt").read_text() == "half"


def test_results_that_could_not_be_moved_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="are kept in") as caught, OutputFolder(out) as folder:
        folder.file("a.txt").write_text("whole")
        out.write_text("in the way")
    out.unlink()
    _finish(out)
    (kept,) = tmp_path.glob(".warpkit-kept-*")
    assert str(kept) in str(caught.value)
    assert (kept / "a.txt").read_text() == "whole"
