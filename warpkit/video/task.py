"""Whether a run is the one that was interrupted, or the one whose results are to be updated.

In: the inputs and settings of a run, and what lies in its output folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from warpkit.checks import require
from warpkit.io.images import IMAGE_SUFFIXES
from warpkit.io.whole import write_json
from warpkit.runs.differences import differences
from warpkit.runs.folder import OutputFolder
from warpkit.video.chunks import Propagation
from warpkit.video.store import ROWS, Finished

__all__ = ["accept_unfinished", "finished_run", "identity", "input_files", "plan_of"]

_log = logging.getLogger("warpkit")
_TASK = "task.json"


def accept_unfinished(folder: OutputFolder, task: dict[str, Any], *, drop_others: bool) -> None:
    """Keep unfinished work of the very same task; any other is dropped only when asked to.

    Raises:
        InputError: unfinished work of another task, named by what differs.
    """
    path = folder.file(_TASK, private=True)
    task = json.loads(json.dumps(task, default=str))
    if folder.resumed and path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        different = differences(known, task)
        require(
            not different or drop_others,
            f"an interrupted run into {folder.path} waits to be continued, but it differs"
            f" ({different}): run that command again, choose another output folder, or drop it with"
            " --overwrite",
        )
        if different:
            _log.warning("an interrupted run that differs (%s) was dropped", different)
            folder.restart()
    elif folder.resumed:
        folder.restart()
    write_json(path, task)


def input_files(path: Path | str) -> list[Path]:
    """The file itself, or the images of a folder of frames."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    images = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file for file in images if file.is_file())


def identity(path: Path | str) -> dict[str, Any]:
    """What tells whether an input is still the same file, or the same images in a folder."""
    # A folder's own time tells nothing: it changes with results written into it, and does not
    # change when an image is replaced.
    digest = hashlib.sha256()
    for file in input_files(path):
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return {"path": str(path), "files": digest.hexdigest()}


def plan_of(run: Propagation) -> list[dict[str, Any]]:
    """The stretches of a run with a digest of every annotation that they depend on."""

    def digest(position: int) -> str:
        return hashlib.sha256(run.annotations[position].tobytes()).hexdigest()[:24]

    return [
        {
            "first": stretch.first,
            "stop": stretch.stop,
            "known": {str(p): digest(p) for p in stretch.known},
        }
        for stretch in run.stretches()
    ]


def finished_run(
    output: Path,
    task: dict[str, Any],
    run: Propagation,
    plan: list[dict[str, Any]],
    *,
    layers: bool,
) -> Finished:
    """What a finished run of the same task in the output folder has to give.

    Args:
        layers: whether the layers of an edit are needed.

    Raises:
        InputError: there is none, or it is of another task than its masks.
    """
    record, table = output / "run.json", output / ROWS
    require(
        record.is_file() and table.is_file(),
        f"--update changes the masks of a finished run, but {output} holds none: leave --update"
        " out",
    )
    known = json.loads(record.read_text(encoding="utf-8"))
    other_masks = {"mask": None, "update": None, "export": None}
    then = {
        "inputs": known.get("inputs", {}) | other_masks,
        "config": known.get("config", {}),
        "aggregator": known.get("aggregator"),
        "model": known.get("model"),
        "version": known.get("versions", {}).get("warpkit"),
    }
    now = json.loads(json.dumps(task | {"inputs": task["inputs"] | other_masks}, default=str))
    different = differences(then, now)
    require(
        not different,
        f"--update changes masks alone, but the run in {output} differs in more ({different}): use"
        " --overwrite to make everything anew",
    )
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    ids = {i for row in rows for i in map(int, row.get("area", {}))}
    pairs = zip(run.stretches(), plan, strict=True)
    kept = frozenset(stretch for stretch, entry in pairs if entry in known.get("stretches", []))
    # Layers are results only where they were asked for.
    if not ids <= set(run.object_ids) or (layers and not (output / "layers").is_dir()):
        kept = frozenset()
    reused = sum(len(rows[s.first : s.stop]) for s in kept)
    _log.info("%d of %d frames are kept from the finished run", reused, len(rows))
    return Finished(output, rows, kept)
