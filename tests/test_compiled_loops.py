"""Files that keep compiled loops: damaged, unreadable, on a full disk or where none can be kept."""

from __future__ import annotations

import errno
import importlib.util
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numba
import pytest
from numba.core import config
from numba.core.caching import IndexDataCacheFile

from warpkit.match.grid import compiled

_SOURCE = """
from warpkit.match.grid.compiled import compiled

@compiled
def twice(x):
    return 2 * x
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Imports a module with one loop, as a new process does; its loop is kept in `kept/`."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "kept"))
    source = tmp_path / "looping.py"
    source.write_text(_SOURCE, encoding="utf-8")

    def again(source: Path = source) -> ModuleType:
        compiled._report_damage.cache_clear()
        compiled._not_kept.cache_clear()
        spec = importlib.util.spec_from_file_location("looping", source)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield again
    compiled._report_damage.cache_clear()
    compiled._not_kept.cache_clear()


def _kept(tmp_path: Path) -> tuple[Path, Path]:
    (index,) = (tmp_path / "kept").rglob("*.nbi")
    (data,) = (tmp_path / "kept").rglob("*.nbc")
    return index, data


def test_a_kept_loop_is_not_compiled_again(
    load: Callable[..., ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = load().twice, load().twice
    assert (first(3), second(3)) == (6, 6)
    assert not first.stats.cache_hits and sum(second.stats.cache_hits.values()) == 1
    assert not caplog.records


def test_another_installation_of_the_same_source_shares_it(
    load: Callable[..., ModuleType], tmp_path: Path
) -> None:
    assert load().twice(3) == 6
    other = tmp_path / "elsewhere" / "looping.py"
    other.parent.mkdir()
    other.write_text(_SOURCE, encoding="utf-8")
    again = load(other).twice
    assert again(3) == 6 and sum(again.stats.cache_hits.values()) == 1
    other.write_text(_SOURCE.replace("2 * x", "3 * x"), encoding="utf-8")
    changed = load(other).twice
    assert changed(3) == 9 and not changed.stats.cache_hits
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_where_the_shared_folder_takes_nothing_they_are_beside_the_source(
    load: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", "")
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiled, "_kept_below", lambda: tmp_path / "file")
    loop = load().twice
    assert loop(3) == 6 and loop.stats.cache_path == str(tmp_path / "__pycache__")
    monkeypatch.setattr(compiled, "_kept_below", lambda: Path("~/.cache"))  # no home folder
    assert load().twice.stats.cache_path == str(tmp_path / "__pycache__")


def _flipped(content: bytes) -> bytes:
    """One bit in the middle: machine code that would run and be wrong."""
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]


@pytest.mark.parametrize("which", [0, 1], ids=["index", "data"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 3],
        _flipped,
        lambda content: b"\0" * len(content),
        lambda content: pickle.dumps(numba.__version__) + pickle.dumps(["other", "things"]),
        lambda content: b"not a pickle\n",
    ],
    ids=["empty", "cut", "flipped", "zeros", "other pickle", "text"],
)
def test_a_damaged_file_is_compiled_again(
    load: Callable[..., ModuleType],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    which: int,
    damage: Callable[[bytes], bytes],
) -> None:
    load().twice(3)
    path = _kept(tmp_path)[which]
    path.write_bytes(damage(path.read_bytes()))
    assert load().twice(3) == 6
    (record,) = caplog.records
    assert str(path.parent) in record.getMessage() and "compiled again" in record.getMessage()
    caplog.clear()
    mended = load().twice
    assert mended(3) == 6 and sum(mended.stats.cache_hits.values()) == 1 and not caplog.records


def test_a_folder_in_the_place_of_a_file_leaves_the_loop_in_memory(
    load: Callable[..., ModuleType], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load().twice(3)
    index, _ = _kept(tmp_path)
    index.unlink()
    index.mkdir()
    loop = load().twice
    assert loop(3) == 6 and loop(1.5) == 3.0
    assert loop.stats.cache_path is None
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and all(str(index.parent) in text for text in messages)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_nothing_leaves_the_loop_in_memory(
    load: Callable[..., ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, "nothing more fits")

    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", full)
    loop = load().twice
    assert loop(3) == 6 and loop(1.5) == 3.0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{tmp_path / 'kept'}" in record.getMessage()
    assert "nothing more fits" in record.getMessage()


def test_without_any_folder_the_loop_is_in_memory(
    load: Callable[..., ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(compiled._Places, "_locator_classes", [])
    assert load().twice(3) == 6
    (record,) = caplog.records
    assert str(tmp_path / "kept") in record.getMessage()
    assert "NUMBA_CACHE_DIR" in record.getMessage()
