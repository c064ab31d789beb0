"""Result folders and records: nothing half-written, nothing that was there is lost.

In: names and values. Out: an output folder that either holds everything a run was to write or
what it held before, JSON files that are whole or absent, and the record that goes beside results.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from safetensors import SafetensorError

from warpkit.checks import InputError, OutputError, exists, is_dir, is_file, require
from warpkit.io.config import to_dict
from warpkit.io.images import check_target
from warpkit.io.whole import replace_together
from warpkit.version import __version__

__all__ = ["OutputFolder", "check_result_file", "installed_version", "run_record"]

_log = logging.getLogger("warpkit")

_STAGING = ".warpkit-partial"
_REPLACED = f"{_STAGING}-replaced"  # what stood where results are being moved to
_KEPT = ".warpkit-kept"  # whole results that could not be moved into place
_UNFINISHED = re.compile(rf"{re.escape(_STAGING)}-(new|[0-9a-f]{{12}})-[0-9a-f]{{8}}")

# Distributions whose version a record names; of a tuple the first that is installed.
_RECORDED: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "numpy": ("numpy",),
    "numba": ("numba",),
    "triton": ("triton",),
    "diffusers": ("diffusers",),
    "transformers": ("transformers",),
    "safetensors": ("safetensors",),
    "faiss": ("faiss-cpu", "faiss-gpu"),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "kornia": ("kornia",),
    "av": ("av",),
    "pillow": ("pillow",),
}


class OutputFolder:
    """The folder of one run's results, filled completely or not at all.

    Files are written into a hidden staging folder on the same file system and moved into place
    when the `with` block ends without an exception. After an exception the staging folder is
    removed and whatever stood at `path` is as it was; what a killed run left is removed by the next
    run that writes there; an error of the file system itself becomes an
    `OutputError`. With `overwrite` only files of the same names are replaced; others stay, and an
    input of the run is never replaced.

    With `resume` the staging folder outlives an exception or a kill, and the next run with
    `resume` finds its files again: `resumed` says so, and `file(name)` gives their paths. Whether
    they belong to the same configuration is for the run to decide; `restart()` drops them. Writers
    must be atomic, with a hidden temporary name, as all writers of `warpkit.io` are. Two runs at a
    time into one folder are refused.

    Example:
        with OutputFolder("out") as folder:
            write_json(folder.file("report.json"), {"pck": 0.5})

    Args:
        path: the folder; missing parents are made.
        overwrite: allow a folder that already holds something.
        resume: keep unfinished work and continue from it.
        inputs: files that the run reads, and that no result may replace.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        inputs: Iterable[str | Path | None] = (),
    ) -> None:
        self.path = Path(path)
        self.overwrite = overwrite
        self.resume = resume
        self.resumed = False
        self._target = Path()
        self._staging: Path | None = None
        self._private: set[Path] = set()
        self._inputs = {
            Path(name).resolve() for name in inputs if name is not None and exists(name)
        }
        self._lock: int | None = None

    def __enter__(self) -> OutputFolder:
        """Check the folder and make the staging folder.

        Raises:
            InputError: if the path is a file, holds something and `overwrite` is off, or cannot be
                written.
        """
        try:
            self.check()
            # Inside an existing folder (it may be a mount of its own), else in its nearest
            # existing ancestor: either way a rename moves the results without copying.
            base = self._target
            while not base.exists():
                base = base.parent
            require(base.is_dir(), f"cannot write to {self.path}: {base} is a file, not a folder")
            staging = self._staging_in(base)
            if self.resume:
                # The folder may have been made since the interrupted run chose its place.
                places = [self._staging_in(folder) for folder in (base, *base.parents)]
                staging = next((place for place in places if place.is_dir()), staging)
                staging.mkdir(exist_ok=True)
                self._lock = _lock(staging, self.path)
            else:
                for folder in {base, self._target.parent}:
                    _remove_unfinished(folder)
                staging = staging.with_name(f"{staging.name}-{uuid.uuid4().hex[:8]}")
                fresh, self._lock = _locked_folder(base, self.path)
                fresh.rename(staging)
            _tell_of_replaced(self._target)
            # A hidden file was being written when the earlier run was killed.
            for unfinished in staging.rglob(".*"):
                unfinished.unlink()
            self.resumed = any(is_file(path) for path in staging.rglob("*"))
        except OSError as error:
            raise InputError(
                f"cannot write to {self.path}: {error.strerror}; choose another output folder"
            ) from error
        self._staging = staging
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        staging, self._staging = self._staging, None
        assert staging is not None
        try:
            if kind is None:
                self._publish(staging)
                return
            if not self.resume:
                shutil.rmtree(staging, ignore_errors=True)
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
        if isinstance(error, OSError | SafetensorError):
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"cannot write to {self.path}: {reason}") from error

    def _staging_in(self, base: Path) -> Path:
        """Where unfinished results are while they are kept in `base`."""
        # Hashed, so that every folder has its own and no name becomes too long.
        key = hashlib.sha256(os.fsencode(self._target)).hexdigest()[:12]
        return base / f"{_STAGING}-{key}"

    def check(self) -> None:
        """Raise now what entering the block would raise about what stands at the path.

        Raises:
            InputError: the path is a file, no folder can be called so, or it holds something and
                `overwrite` is off.
        """
        try:
            self._target = self.path.resolve()
            self._check_target()
        except InputError:
            raise
        except (OSError, ValueError) as error:  # such as a name that is too long
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"cannot write to {self.path}: {reason}; choose another output folder"
            ) from error

    def file(self, name: str, *, private: bool = False) -> Path:
        """The path to write the result `name` to (`"masks/00000.png"`); its folder is made.

        The path is valid inside the `with` block only.

        Args:
            private: the file serves a resumed run; it is not among the results.
        """
        if self._staging is None:
            raise RuntimeError("OutputFolder.file is for use inside its `with` block")
        parts = PurePosixPath(name)
        hidden = any(part.startswith(".") for part in parts.parts)
        if parts.is_absolute() or not parts.parts or hidden:
            raise ValueError(
                "a result's name must lie inside the output folder and not be hidden (start with"
                f" a point), got '{name}'"
            )
        require(
            self._target / parts not in self._inputs,
            f"{self.path / parts} is an input of this run and would be replaced by a result:"
            " choose another output folder",
        )
        path = self._staging / parts
        if private:
            self._private.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def written(self, name: str) -> Path:
        """The path of a result that this run wrote, to read it inside the `with` block."""
        if self._staging is None:
            raise RuntimeError("OutputFolder.written is for use inside its `with` block")
        return self._staging / PurePosixPath(name)

    def restart(self) -> None:
        """Drop what an interrupted run left behind."""
        if self._staging is None:
            raise RuntimeError("OutputFolder.restart is for use inside its `with` block")
        # The folder itself stays: it holds the lock.
        for item in self._staging.iterdir():
            if item.is_dir():
                shutil.rmtree(item)
            else:
                item.unlink()
        self.resumed = False

    def abandon(self) -> None:
        """Let go of unfinished work even with `resume`: the input itself turned out to be bad."""
        self.resume = False

    def _check_target(self) -> None:
        if not self._target.exists():
            return
        require(
            self._target.is_dir(),
            f"cannot write to {self.path}: it is a file, not a folder; choose another output"
            " folder",
        )
        # Unfinished work of another run is not a result.
        held = [
            item for item in self._target.iterdir() if not item.name.startswith((_STAGING, _KEPT))
        ]
        require(
            self.overwrite or not held,
            f"{self.path} exists and is not empty: choose another output folder, or use"
            " --overwrite to replace files of the same names",
        )

    def _publish(self, staging: Path) -> None:
        """Move everything into place, or nothing: then the results stay in the staging folder."""
        try:
            self._check_target()
            for path in self._private:
                path.unlink(missing_ok=True)
            if self._target.exists():
                _move_files(staging, self._target)
            else:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                staging.rename(self._target)
        except (InputError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            if not self.resume:
                # Under a name that no later run takes for unfinished.
                kept = staging.with_name(staging.name.replace(_STAGING, _KEPT))
                with contextlib.suppress(OSError):
                    staging = staging.rename(kept)
            raise InputError(
                f"the results could not be moved to {self.path} and are kept in {staging}: {reason}"
            ) from error


def _lock(staging: Path, path: Path) -> int | None:
    """Hold a folder for this process; the system lets go when the process ends, killed or not.

    Raises:
        InputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(
            f"another run is writing into {path} right now: wait for it, or choose another output"
            " folder"
        ) from error
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _locked_folder(base: Path, path: Path) -> tuple[Path, int | None]:
    """A new folder that this process holds."""
    while True:
        fresh = base / f"{_STAGING}-new-{uuid.uuid4().hex[:8]}"
        fresh.mkdir()
        # Until it is locked, another run may take it for what a killed one left, and remove it.
        with contextlib.suppress(InputError, FileNotFoundError):
            lock = _lock(fresh, path)
            if fresh.exists():
                return fresh, lock
            if lock is not None:
                os.close(lock)


def _tell_of_replaced(folder: Path) -> None:
    """Name what a run that was killed while it moved results left of the files before them."""
    for left in folder.glob(f"{_REPLACED}-*"):
        if any(is_file(path) for path in left.rglob("*")):
            _log.warning(
                "%s holds files that a run was replacing when it was killed: take from it what you"
                " need, then delete it",
                left,
            )


def _remove_unfinished(folder: Path) -> None:
    """Remove what killed runs left in a folder; not what waits to be continued, nor what a run that
    lives holds, on whichever machine.
    """
    for left in folder.glob(f"{_STAGING}-*"):
        if _UNFINISHED.fullmatch(left.name) is None:
            continue
        # Another run may remove it at the same time.
        with contextlib.suppress(OSError, InputError):
            lock = _lock(left, left)
            if lock is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def _move_files(source: Path, target: Path) -> None:
    """Move all files below `source` to the same names below `target`; on an error undo it all."""
    names = sorted(path.relative_to(source) for path in source.rglob("*") if not is_dir(path))
    folders = sorted(path.relative_to(source) for path in source.rglob("*") if is_dir(path))
    for name in names:
        require(not (target / name).is_dir(), f"{target / name} is a folder, not a file")
    for name in folders:
        place = target / name
        require(place.is_dir() or not place.exists(), f"{place} is a file, not a folder")

    # What is replaced is first linked here, so that every step can be taken back.
    replaced = target / f"{_REPLACED}-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as undo:
        for name in folders:
            if not (target / name).exists():
                (target / name).mkdir()
                undo.callback((target / name).rmdir)
        replaced.mkdir()
        undo.callback(shutil.rmtree, replaced)
        for name in folders:
            (replaced / name).mkdir()
        replace_together((source / name, target / name, replaced / name) for name in names)
        undo.pop_all()
    shutil.rmtree(replaced, ignore_errors=True)
    shutil.rmtree(source, ignore_errors=True)


def check_result_file(
    path: Path | str, *, overwrite: bool, inputs: Iterable[Path | str | None] = ()
) -> None:
    """Raise unless a single file of results can be written, before the work begins.

    Args:
        inputs: files and folders that are read; the file may neither be one nor lie in one.

    Raises:
        InputError: it exists and `overwrite` is off, is an input or no file, or has no folder.
    """
    path = Path(path)
    require(overwrite or not exists(path), f"{path} exists: choose another name or add --overwrite")
    check_target(path)
    full = path.resolve()
    read = [Path(name).resolve() for name in inputs if name is not None and exists(name)]
    require(
        not exists(path)
        or (is_file(path) and not any(full == name or name in full.parents for name in read)),
        f"{path} is an input or no ordinary file and is not replaced: choose another name",
    )


def run_record(
    command: str,
    config: Any,
    timings: Mapping[str, float],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is saved beside results: the command, its configuration, versions, machine and times.

    Args:
        command: the command as typed, such as `"eval pck"`.
        config: the command's configuration: a mapping, a dataclass, or several that share one file
            (options of the model, settings). A dataclass may add entries by a method
            `recorded_facts`, such as the content of files that it names.
        timings: seconds by stage.
        extra: further entries, such as counts; they may not replace those made here.

    Returns:
        a mapping for `write_json`; `date` is UTC in ISO 8601, a version is null where the package
        is not installed.
    """
    parts = config if isinstance(config, tuple) else (config,)
    versions = {"warpkit": __version__, "python": platform.python_version()}
    record: dict[str, Any] = {
        "command": command,
        "config": {k: v for part in parts for k, v in _mapping(part).items()},
        "timings": {stage: round(seconds, 4) for stage, seconds in timings.items()},
        "versions": versions | {name: installed_version(*_RECORDED[name]) for name in _RECORDED},
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for part in parts:
        record |= getattr(part, "recorded_facts", dict)()
    clash = sorted(record.keys() & (extra or {}).keys())
    if clash:
        raise ValueError(f"a run record holds {', '.join(clash)} already")
    return record | dict(extra or {})


def _mapping(config: Any) -> dict[str, Any]:
    return to_dict(config) if is_dataclass(config) else dict(config)


def installed_version(*distributions: str) -> str | None:
    """Version of the first distribution that is installed; nothing is imported."""
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None
