"""The one way to write a file: beside its place under a hidden name, then moved there in one step.

In: a path and a writer, text, or data for JSON. Out: a file that is whole, or what stood there.
"""

from __future__ import annotations

import glob
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from torch import Tensor

from warpkit.checks import InputError, OutputError, first_line
from warpkit.io.config import to_dict

__all__ = [
    "Partial",
    "drop_partials",
    "replace_together",
    "write_json",
    "write_text",
    "written_together",
    "written_whole",
]


class Partial:
    """A file, or a folder, that is being made beside its place.

    Attributes:
        path: where it will stand.
        partial: a fresh hidden name beside that, with its suffix, to write to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")

    def publish(self) -> None:
        """Put it in its place in one step; what was there is replaced."""
        os.replace(self.partial, self.path)  # noqa: PTH105 - the name says that it is atomic

    def discard(self) -> None:
        """Remove what was not published."""
        if self.partial.is_dir():
            shutil.rmtree(self.partial, ignore_errors=True)
        else:
            self.partial.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path, *errors: type[Exception]) -> Iterator[Path]:
    """A name to write to; what is written there comes to `path` in one step.

    Args:
        errors: what else a writer raises for a full disk or a missing folder.

    Raises:
        OutputError: it cannot be written.
    """
    place = Partial(path)
    # Writers report a full disk or a missing folder in classes of their own.
    failures: tuple[type[Exception], ...] = (OSError, SafetensorError, *errors)
    try:
        yield place.partial
        place.publish()
    except failures as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise OutputError(f"cannot write {path}: {reason}") from error
    finally:
        place.discard()


@contextmanager
def written_together(*paths: Path | str | None) -> Iterator[list[Path | None]]:
    """Names to write several files to, which come to their places when all are whole, or none does.

    Args:
        paths: None stays None.

    Raises:
        InputError: what a writer raises, by the names of the places.
        OutputError: a place is a folder, or cannot be replaced; what stood at all is as it was.
    """
    places = [None if path is None else Partial(Path(path)) for path in paths]
    given = [place for place in places if place is not None]
    for place in given:
        # Before the work, and before what the block itself brings to other places.
        if place.path.is_dir():
            raise OutputError(f"cannot write {place.path}: it is a folder")
    try:
        yield [None if place is None else place.partial for place in places]
        moves = [(place.partial, place.path, Partial(place.path).partial) for place in given]
        try:
            replace_together(moves)
        finally:
            for _, _, backup in moves:
                backup.unlink(missing_ok=True)
    except InputError as error:
        text = str(error)
        for place in given:
            text = text.replace(str(place.partial), str(place.path))
        raise type(error)(text) from error
    finally:
        for place in given:
            place.discard()


def replace_together(moves: Iterable[tuple[Path, Path, Path]]) -> None:
    """Move files to their places; on an error what stood at all of them is as it was.

    Args:
        moves: each file, its place, and a free name beside either, under which what stands there
            is kept meanwhile; what is kept is left for the caller to remove.

    Raises:
        OutputError: by the name of the place that cannot be replaced.
    """
    with ExitStack() as undo:
        for staged, place, backup in moves:
            try:
                undo.callback(_take_back, staged, place, backup)
                if os.path.lexists(place):
                    _link_or_copy(place, backup)
                staged.replace(place)
            except OSError as error:
                raise OutputError(f"cannot write {place}: {error.strerror}") from error
        undo.pop_all()


def _take_back(staged: Path, place: Path, backup: Path) -> None:
    """Undo one move if it had happened; the backup counts only then, it may be incomplete."""
    if staged.exists() or not os.path.lexists(place):
        return
    place.replace(staged)
    if os.path.lexists(backup):
        backup.replace(place)


def _link_or_copy(path: Path, backup: Path) -> None:
    try:
        os.link(path, backup, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a file system without hard links
        shutil.copy2(path, backup, follow_symlinks=False)


def drop_partials(path: Path) -> None:
    """Remove what killed processes left of a file beside its place."""
    stem, suffix = glob.escape(path.stem), glob.escape(path.suffix)
    for left in path.parent.glob(f".{stem}.????????{suffix}"):
        left.unlink(missing_ok=True)


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON in one step: the file is whole or as it was. UTF-8, indented, newline at the end.

    Paths and fractions become text (`"30000/1001"`), tensors and arrays lists or numbers,
    dataclasses mappings. JSON has no NaN and no infinity: both become null. A byte of a name that
    is no UTF-8 becomes an escape, from which the same name is read.

    Raises:
        InputError: if the file cannot be written.
        TypeError: for a value that JSON cannot hold.
    """
    text = json.dumps(_jsonable(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: str | Path, text: str, *, errors: str = "backslashreplace") -> None:
    """Write UTF-8 text in one step: the file is whole or as it was.

    Args:
        errors: what becomes of a byte of a name that is no UTF-8: `backslashreplace` makes an
            escape of it, `surrogateescape` keeps it.

    Raises:
        InputError: if the file cannot be written.
    """
    with written_whole(Path(path)) as partial:
        partial.write_bytes(text.encode(errors=errors))


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | Tensor):
        value = value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        value = to_dict(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path | Fraction):
        return str(value)
    if isinstance(value, Mapping):
        return {_json_key(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    raise TypeError(f"cannot write {type(value).__name__} as JSON: {value!r}")


def _json_key(key: Any) -> str:
    if isinstance(key, bool) or not isinstance(
        key, str | int | float | np.number | Path | Fraction
    ):
        raise TypeError(f"cannot use {type(key).__name__} as a JSON key: {key!r}")
    return str(key)
