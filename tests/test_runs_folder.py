"""Output folders and records: everything or nothing, and what was there stays."""

from __future__ import annotations

import contextlib
import errno
import json
import platform
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from warpkit.checks import InputError, OutputError
from warpkit.io.whole import write_json, write_text, written_together
from warpkit.runs import folder as output
from warpkit.runs.folder import OutputFolder, check_result_file, run_record
from warpkit.version import __version__


def tree(folder: Path) -> dict[str, str]:
    """Every file below the folder, hidden ones too, with its text."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("existing", [False, True])
def test_results_appear_on_clean_exit_only(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "a" / "out"
    if existing:
        out.mkdir(parents=True)
    with OutputFolder(out) as folder:
        folder.file("masks/0.txt").write_text("zero")
        folder.file("run.txt").write_text("run")
        assert not (out / "run.txt").exists()
        assert not (out / "masks").exists()
    assert everything(out) == ["masks", "masks/0.txt", "run.txt"]
    assert everything(tmp_path / "a") == ["out", "out/masks", "out/masks/0.txt", "out/run.txt"]
    assert tree(out) == {"masks/0.txt": "zero", "run.txt": "run"}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(
    tmp_path: Path, existing: bool, error: type[BaseException]
) -> None:
    out = tmp_path / "a" / "out"
    if existing:
        out.mkdir(parents=True)
    before = everything(tmp_path)
    with pytest.raises(error), OutputFolder(out) as folder:
        folder.file("masks/0.txt").write_text("zero")
        raise error
    assert everything(tmp_path) == before


def test_a_new_folder_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with OutputFolder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    message = "exists and is not empty: choose another output folder, or use --overwrite to"
    with pytest.raises(InputError, match=message), OutputFolder(tmp_path):
        pass
    assert tree(tmp_path) == {"old.txt": "old"}


def test_overwrite_replaces_the_same_names_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.txt").write_text("old 0")
    (tmp_path / "masks" / "1.txt").write_text("old 1")
    (tmp_path / "note.txt").write_text("note")
    with OutputFolder(tmp_path, overwrite=True) as folder:
        folder.file("masks/0.txt").write_text("new 0")
        folder.file("frames/0.txt").write_text("frame")
        assert (tmp_path / "masks" / "0.txt").read_text() == "old 0"
    assert tree(tmp_path) == {
        "frames/0.txt": "frame",
        "masks/0.txt": "new 0",
        "masks/1.txt": "old 1",
        "note.txt": "note",
    }
    assert everything(tmp_path)[:1] == ["frames"]  # no hidden folder is left


def test_overwrite_and_an_exception_leave_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("old")
    with pytest.raises(RuntimeError), OutputFolder(tmp_path, overwrite=True) as folder:
        folder.file("0.txt").write_text("new")
        folder.file("1.txt").write_text("new")
        raise RuntimeError
    assert tree(tmp_path) == {"0.txt": "old"}


@pytest.mark.parametrize("links", [True, False])
def test_a_failure_while_moving_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    for name in ("a.txt", "c.txt", "sub/d.txt"):
        (out / name).write_text("old")
    before = tree(out)
    replace = Path.replace

    def failing(self: Path, target: Any) -> Path:
        if Path(target) == out / "c.txt" and self.read_text() == "new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", failing)
    if not links:
        monkeypatch.setattr(output.os, "link", no_links)
    message = r"could not be moved to .*out and are kept in .*: No space left on device$"
    with (
        pytest.raises(InputError, match=message),
        OutputFolder(out, overwrite=True) as folder,
    ):
        for name in ("a.txt", "b/b.txt", "c.txt", "sub/d.txt"):
            folder.file(name).write_text("new")
    staged = {path: text for path, text in tree(out).items() if path.startswith(".")}
    assert {path: text for path, text in tree(out).items() if path not in staged} == before
    assert not (out / "b").exists()
    assert sorted(Path(path).name for path in staged) == ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert set(staged.values()) == {"new"}


@pytest.mark.parametrize(
    ("there", "written", "message"),
    [("x/y.txt", "x", "x is a folder, not a file"), ("x", "x/y.txt", "x is a file, not a folder")],
)
def test_a_folder_in_the_place_of_a_file_moves_nothing(
    tmp_path: Path, there: str, written: str, message: str
) -> None:
    out = tmp_path / "out"
    (out / there).parent.mkdir(parents=True)
    (out / there).write_text("old")
    with (
        pytest.raises(InputError, match=message),
        OutputFolder(out, overwrite=True) as folder,
    ):
        folder.file("a.txt").write_text("new")
        folder.file(written).write_text("new")
    assert (out / there).read_text() == "old"
    assert not (out / "a.txt").exists()


def test_results_of_another_run_that_appeared_meanwhile_are_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="are kept in"), OutputFolder(out) as second:
        second.file("a.txt").write_text("second")
        with OutputFolder(out) as first:
            first.file("a.txt").write_text("first")
    assert tree(out) == {"a.txt": "first"}


def test_a_symbolic_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with OutputFolder(tmp_path / "link") as folder:
        folder.file("a.txt").write_text("a")
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real") == {"a.txt": "a"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with (
            pytest.raises(InputError, match="is a file, not a folder"),
            OutputFolder(path, overwrite=True),
        ):
            pass
    assert tree(tmp_path) == {"file": "x"}


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    with (
        pytest.raises(InputError, match=r"^cannot write to .*out: Permission denied; choose ano"),
        OutputFolder(tmp_path / "out"),
    ):
        pass


@pytest.mark.parametrize("name", ["../x", "/x", "", "a/../../x", ".hidden", "a/.hidden"])
def test_names_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(ValueError, match="must lie inside the output folder"),
        OutputFolder(tmp_path / "out") as folder,
    ):
        folder.file(name)


def test_files_are_asked_for_inside_the_block(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        OutputFolder(tmp_path / "out").file("a.txt")
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        OutputFolder(tmp_path / "out").restart()


@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_run_resumes(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "a" / "out"
    if existing:
        out.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), OutputFolder(out, resume=True) as folder:
        assert not folder.resumed
        folder.file("0.txt").write_text("zero")
        folder.file("masks/0.txt").with_name(".0.txt.partial").write_text("half")
        raise KeyboardInterrupt
    assert not out.exists() or {name.split("/", 1)[1] for name in tree(out)} == {
        "0.txt",
        "masks/.0.txt.partial",
    }
    with OutputFolder(out, resume=True) as folder:
        assert folder.resumed
        assert folder.file("0.txt").read_text() == "zero"
        folder.file("1.txt").write_text("one")
    assert tree(tmp_path) == {"a/out/0.txt": "zero", "a/out/1.txt": "one"}
    with pytest.raises(InputError, match="not empty"), OutputFolder(out, resume=True):
        pass


def test_an_interrupted_run_restarts(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), OutputFolder(tmp_path / "out", resume=True) as folder:
        folder.file("old.txt").write_text("old")
        raise RuntimeError
    with OutputFolder(tmp_path / "out", resume=True) as folder:
        folder.restart()
        assert not folder.resumed
        folder.file("new.txt").write_text("new")
    assert tree(tmp_path) == {"out/new.txt": "new"}


@dataclass(frozen=True)
class Config:
    model: str = "tiny"
    root: Path = Path("data/ä")
    alphas: tuple[float, ...] = (0.1, 0.05)


def test_a_folder_made_meanwhile_does_not_hide_unfinished_work(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / "out", resume=True) as folder:
        folder.file("a.txt").write_text("kept")
        raise KeyboardInterrupt
    (tmp_path / "out").mkdir()
    with OutputFolder(tmp_path / "out", resume=True) as folder:
        assert folder.resumed
        assert folder.file("a.txt").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "out"]


def test_two_runs_at_a_time_into_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        OutputFolder(tmp_path / "out", resume=True),
        pytest.raises(InputError, match=r"another run is writing into .*out right now"),
        OutputFolder(tmp_path / "out", resume=True),
    ):
        pytest.fail("two runs share a folder")
    with OutputFolder(tmp_path / "out", resume=True, overwrite=True) as folder:
        folder.file("a.txt").write_text("free again")
    assert (tmp_path / "out/a.txt").read_text() == "free again"


def test_unfinished_work_of_other_folders_is_not_taken(tmp_path: Path) -> None:
    """`a/b` and `a-b` lie in one folder while they are unfinished, under names of their own."""
    for name in ("a/b", "a-b"):
        with (
            contextlib.suppress(KeyboardInterrupt),
            OutputFolder(tmp_path / name, resume=True) as folder,
        ):
            assert not folder.resumed
            folder.file("a.txt").write_text(name)
            raise KeyboardInterrupt


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    kept = tmp_path / "masks/0.png"
    kept.write_text("input")
    with (
        pytest.raises(InputError, match=r"masks/0.png is an input of this run"),
        OutputFolder(tmp_path, overwrite=True, inputs=[kept, None]) as folder,
    ):
        folder.file("masks/1.png").write_text("fine")
        folder.file("masks/0.png")
    assert [path.name for path in tmp_path.rglob("*")] == ["masks", "0.png"]
    assert kept.read_text() == "input"


def test_private_files_serve_a_resumed_run_and_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / "out", resume=True) as folder:
        folder.file("state", private=True).write_text("1")
        raise KeyboardInterrupt
    with OutputFolder(tmp_path / "out", resume=True) as folder:
        assert folder.file("state", private=True).read_text() == "1"
        folder.file("result").write_text("2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result"]


def test_a_full_disk_is_one_line_and_keeps_work_that_can_be_resumed(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot write to .*: No space left on device"),
        OutputFolder(tmp_path / "out", resume=True) as folder,
    ):
        folder.file("a.txt").write_text("kept")
        raise OSError(errno.ENOSPC, "No space left on device")
    with OutputFolder(tmp_path / "out", resume=True) as folder:
        assert folder.file("a.txt").read_text() == "kept"


def test_json_values(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(
        path,
        {
            "text": "ä",
            "path": Path("a/b"),
            "rate": Fraction(30000, 1001),
            "float32": np.float32(0.5),
            "int64": np.int64(-3),
            "bool": np.bool_(True),
            "scalar": torch.tensor(2.5),
            "tensor": torch.tensor([[1, 2]]),
            "array": np.array([0.25, np.nan]),
            "nan": float("nan"),
            "infinity": -np.inf,
            "none": None,
            "tuple": (1, [2]),
            "config": Config(),
            0.1: {np.int64(3): "key"},
        },
    )
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert '"text": "ä"' in text
    assert json.loads(text) == {
        "text": "ä",
        "path": "a/b",
        "rate": "30000/1001",
        "float32": 0.5,
        "int64": -3,
        "bool": True,
        "scalar": 2.5,
        "tensor": [[1, 2]],
        "array": [0.25, None],
        "nan": None,
        "infinity": None,
        "none": None,
        "tuple": [1, [2]],
        "config": {"model": "tiny", "root": "data/ä", "alphas": [0.1, 0.05]},
        "0.1": {"3": "key"},
    }


@pytest.mark.parametrize("data", [object(), {1, 2}, {"a": b"x"}, {None: 1}, {True: 1}, 1j])
def test_what_json_cannot_hold_leaves_the_file_as_it_was(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError, match=r"as JSON|as a JSON key"):
        write_json(path, data)
    assert tree(tmp_path) == {"a.json": '{\n  "old": 1\n}\n'}


def test_json_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot write .*a\.json: No such file or directory$"):
        write_json(tmp_path / "none" / "a.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"^cannot write .*folder: Is a directory$"):
        write_json(tmp_path / "folder", {})
    assert everything(tmp_path) == ["folder"]


def test_several_files_come_together_or_none_does(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "none/b.txt"
    first.write_text("old")
    with (
        pytest.raises(OutputError, match=r"^cannot write .*/none/b\.txt: No such file") as error,
        written_together(first, second) as (one, other),
    ):
        assert one is not None and other is not None
        write_text(one, "new")
        write_text(other, "new")
    assert str(second) in str(error.value)
    assert tree(tmp_path) == {"a.txt": "old"}
    second.parent.mkdir()
    with written_together(first, None, second) as (one, nothing, other):
        assert nothing is None and one is not None and other is not None
        write_text(one, "new")
        assert first.read_text() == "old"
        write_text(other, "newer")
    assert tree(tmp_path) == {"a.txt": "new", "none/b.txt": "newer"}


def test_a_file_of_results_is_checked_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    check_result_file(path, overwrite=False)
    path.write_text("{}")
    with pytest.raises(InputError, match="exists: choose another name or add --overwrite"):
        check_result_file(path, overwrite=False)
    check_result_file(path, overwrite=True, inputs=[None, tmp_path / "b"])
    for read in (path, tmp_path):
        with pytest.raises(InputError, match="is an input or no ordinary file"):
            check_result_file(path, overwrite=True, inputs=[read])
    with pytest.raises(InputError, match="does not exist"):
        check_result_file(tmp_path / "none/a.json", overwrite=True)


def test_run_record(tmp_path: Path) -> None:
    record = run_record("eval pck", Config(), {"extract": 1.23456789}, {"pairs": 12})
    assert record["command"] == "eval pck"
    assert record["config"] == {"model": "tiny", "root": "data/ä", "alphas": [0.1, 0.05]}
    assert record["timings"] == {"extract": 1.2346}
    assert record["pairs"] == 12
    assert record["versions"]["warpkit"] == __version__
    assert record["versions"]["python"] == platform.python_version()
    assert torch.__version__.startswith(record["versions"]["torch"].partition("+")[0])
    assert record["versions"]["numpy"] == np.__version__
    assert record["date"].endswith("+00:00")
    write_json(tmp_path / "run.json", record)
    assert json.loads((tmp_path / "run.json").read_text()) == record


def test_run_record_of_a_mapping_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(output._RECORDED, "faiss", ("no-such-distribution",))
    record = run_record("bench match", {"rows": 3}, {})
    assert record["config"] == {"rows": 3}
    assert record["versions"]["faiss"] is None


def test_run_record_refuses_to_be_overwritten() -> None:
    with pytest.raises(ValueError, match="a run record holds date already"):
        run_record("warp", Config(), {}, {"date": "today"})
