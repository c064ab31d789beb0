"""What of a finished run holds when its masks change.

In: the task of a run, its stretches, and the results in its output folder. Out: `Finished`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from warpkit.checks import require
from warpkit.io.text import read_json
from warpkit.runs.differences import differences
from warpkit.runs.frame_rows import ROWS, read_rows
from warpkit.video.propagation import Propagation
from warpkit.video.store import Finished

__all__ = ["finished_run", "plan_of"]

_log = logging.getLogger("warpkit")


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
        for stretch in (run.stretches() if run.annotations else ())
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
    known = read_json(record)
    require(
        isinstance(known, dict), f"{record} is damaged: use --overwrite to make everything anew"
    )
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
    rows = read_rows(table)
    ids = {i for row in rows for i in map(int, row.get("area", {}))}
    pairs = zip(run.stretches(), plan, strict=True)
    kept = frozenset(stretch for stretch, entry in pairs if entry in known.get("stretches", []))
    # Layers are results only where they were asked for.
    if not ids <= set(run.object_ids) or (layers and not (output / "layers").is_dir()):
        kept = frozenset()
    reused = sum(len(rows[s.first : s.stop]) for s in kept)
    _log.info("kept from the finished run: %d of %d frames", reused, len(rows))
    return Finished(output, rows, kept)
