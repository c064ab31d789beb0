"""Whether unfinished work is that of this very task: what a task is told, and what it reads.

In: a mapping that says all that decides a run, and what an earlier run said of itself. Out: go on,
begin anew, or one line that names what differs.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from warpkit.checks import require
from warpkit.io.images import IMAGE_SUFFIXES
from warpkit.io.text import read_json
from warpkit.io.whole import write_json
from warpkit.runs.cache import file_sha256
from warpkit.runs.differences import differences
from warpkit.runs.folder import OutputFolder

__all__ = [
    "accept_unfinished",
    "content_identity",
    "file_identity",
    "input_files",
    "listing_identity",
    "same_task",
]

_log = logging.getLogger("warpkit")
_TASK = "task.json"


def same_task(
    known: Any, task: Mapping[str, Any], *, found: str, advice: str, drop_others: bool = False
) -> bool:
    """Whether work that lies in a folder is of this task.

    Args:
        known: the task of that work; damaged where it does not say.
        task: as JSON holds it.
        found: what lies there, to begin the message.
        advice: what to do where it is another one.
        drop_others: whether other work may be dropped.

    Raises:
        InputError: it is of another task and may not be dropped; names what differs.
    """
    if known == task:
        return True
    different = differences(known, task) if isinstance(known, Mapping) and known else ""
    said = f" ({different})" if different else ""
    require(drop_others, f"{found}{said}: {advice}")
    _log.warning("an interrupted run that differs%s was dropped", said)
    return False


def accept_unfinished(folder: OutputFolder, task: Mapping[str, Any], *, drop_others: bool) -> None:
    """Keep unfinished work of the very same task; any other is dropped only when asked to.

    Raises:
        InputError: unfinished work of another task, named by what differs.
    """
    path = folder.file(_TASK, private=True)
    now = json.loads(json.dumps(task, default=str))
    if folder.resumed:
        known = read_json(path) if path.is_file() else None
        advice = "run that command again, choose another output folder, or drop it with --overwrite"
        found = f"an interrupted run into {folder.path} waits to be continued, but it differs"
        # Without a task it was killed as it began, or as its results were moved: nothing to keep.
        if known is None or not same_task(
            known, now, found=found, advice=advice, drop_others=drop_others
        ):
            folder.restart()
    write_json(path, now)


def input_files(path: Path | str) -> list[Path]:
    """The file itself, or the images of a folder of frames."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    images = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file for file in images if file.is_file())


def file_identity(path: Path | str, *, without: Collection[Path] = ()) -> dict[str, Any]:
    """What tells whether an input is still the same file, or the same images in a folder.

    Args:
        without: images of the folder that are none of the input.
    """
    # A folder's own time tells nothing: it changes with results written into it, and does not
    # change when an image is replaced.
    digest = hashlib.sha256()
    for file in input_files(path):
        if file in without:
            continue
        state = file.stat()
        digest.update(
            f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode(errors="backslashreplace")
        )
    return {"path": str(path), "files": digest.hexdigest()}


def content_identity(path: Path | None) -> str | None:
    """What tells weights or training data from others, wherever they lie.

    Returns:
        The SHA-256 of a file, of a data folder's JSON index, or of the names and sizes of the
        pictures below a folder without one; None for no path.
    """
    if path is None:
        return None
    content = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if content:
        return " ".join(file_sha256(file) for file in content if file.is_file())
    return listing_identity(path, images=True)


def listing_identity(path: Path, *, images: bool = False) -> str:
    """The SHA-256 of the names and sizes of all files below a folder, or of its images alone."""
    listing = sorted(
        (file.relative_to(path).as_posix(), file.stat().st_size)
        for file in path.rglob("*")
        if (file.suffix.lower() in IMAGE_SUFFIXES if images else file.is_file())
    )
    return hashlib.sha256(repr(listing).encode()).hexdigest()
