"""Propagate through a video file or frame folder and write the results into a folder.

In: a video, masks of any of its frames and/or an edit and/or points of its first. Out: `masks/`,
`overlay.mp4`, `frames/`, `edited.mp4`, `points.json`, `frames.jsonl`, `run.json`. A killed run goes
on where it was and ends with the same masks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from warpkit.checks import InputError, OutputError, check_same_size, require
from warpkit.io.config import to_dict
from warpkit.io.frames import Frame, Frames, open_frames
from warpkit.io.images import IMAGE_SUFFIXES, read_image, read_rgba
from warpkit.io.masks import read_labels
from warpkit.io.output import OutputFolder, run_record, write_json
from warpkit.io.video import VideoWriter
from warpkit.jobs.carrier import Propagation
from warpkit.jobs.carrying import ROWS, Finished, Reader, carry_all
from warpkit.jobs.propagation_config import PropagateConfig
from warpkit.jobs.timing import Stopwatch
from warpkit.propagate import EditLayer, colormap_layer
from warpkit.version import __version__
from warpkit.viz import overlay_labels

__all__ = ["parse_masks", "run_propagate"]

_log = logging.getLogger("warpkit")
_TASK = "task.json"
_TICK = Fraction(1, 1000)


def parse_masks(texts: Sequence[str], *, start: int = 0) -> dict[int, Path]:
    """Mask files by frame from `FILE` (of frame `start`) and `FRAME=FILE`.

    Raises:
        InputError: two masks of one frame.
    """
    masks: dict[int, Path] = {}
    for text in texts:
        numbered = re.fullmatch(r"(\d+)=(.+)", text)
        index = int(numbered[1]) if numbered else start
        require(
            index not in masks, f"frame {index} has two masks: write --mask FRAME=PNG for others"
        )
        masks[index] = Path(numbered[2] if numbered else text)
    return masks


def run_propagate(
    video: Path | str,
    output: Path | str,
    *,
    mask: Path | str | Mapping[int, Path | str] | None = None,
    edit: Path | str | None = None,
    colormap: bool = False,
    points: npt.NDArray[np.float32] | None = None,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    config: PropagateConfig | None = None,
    overwrite: bool = False,
    update: bool = False,
) -> Path:
    """Carry masks, an edit and points through a clip.

    Args:
        video: video file or folder of frames.
        output: folder to fill. If an earlier run with the same inputs and configuration was
            interrupted, it is continued.
        mask: object ids of the first frame (any kind of mask file), or files by the number of the
            frame that they belong to.
        edit: the first frame edited (the difference is carried), or a picture with transparency
            of the frame's size (carried as a layer).
        colormap: carry a position-coded colour map over the mask instead of an edit.
        points: (N, 2), pixels of the first frame.
        start: first frame, end: frame to stop before, stride: take every so many frames.
        update: the output folder holds a finished run of the same task with other masks: carry
            again only the frames that the change concerns, and replace its results.

    Returns:
        The output folder.

    Raises:
        InputError: inputs that cannot be used, or an output folder that holds something.
    """
    config = config or PropagateConfig()
    clock = Stopwatch()
    frames = open_frames(video, start=start, end=end, stride=stride)
    reader = Reader(frames, start, stride)
    first = frames.read(start)
    masks = {start: mask} if isinstance(mask, Path | str) else dict(mask or {})
    annotations = _read_annotations(masks, reader, first)
    labels = annotations.pop(0, None)
    require(not (colormap and edit is not None), "give --edit or --colormap, not both")
    require(not colormap or labels is not None, "--colormap needs --mask: what it should cover")
    layer = None if edit is None else _read_edit(edit, first)
    if colormap:
        assert labels is not None
        layer = colormap_layer(labels > 0)
    inputs: dict[str, Any] = {
        "video": _identity(video),
        "mask": {str(index): _identity(path) for index, path in sorted(masks.items())} or None,
        "edit": None if edit is None else _identity(edit),
        "colormap": colormap,
        "points": None if points is None else points.tolist(),
        "start": start,
        "end": end,
        "stride": stride,
        # An interrupted update is continued by an update alone: it copies part of its frames.
        "update": update,
    }
    with clock.stage("load model"):
        describer = config.load_extractor()
    # Everything is checked before the folder is touched: a mistyped option drops no earlier work.
    run = Propagation(
        first.image,
        describer=describer,
        labels=labels,
        edit=layer,
        points=points,
        annotations=annotations,
        config=config,
        matcher=config.load_matcher(),
    )
    aggregator = None if config.aggregator is None else _identity(config.aggregator)
    task = {
        "inputs": inputs,
        "config": to_dict(config),
        "aggregator": aggregator,
        "model": _identity(config.model) if Path(config.model).is_file() else None,
        "version": __version__,
    }
    read = [*_files(video), *masks.values(), edit]
    plan = _plan(run)
    finished = _finished(Path(output), task, run, plan) if update else None
    replace = overwrite or update
    with OutputFolder(output, overwrite=replace, resume=True, inputs=read) as folder:
        _accept_unfinished(folder, task, drop_others=replace)
        try:
            with clock.stage("propagate"):
                rows = carry_all(folder, reader, run, finished)
        except OutputError:
            raise  # a full disk can be mended: the work done so far is kept
        except InputError:
            # Running again would meet the same input: nothing to continue.
            folder.abandon()
            raise
        with clock.stage("write videos"):
            wanted = {"overlay": bool(masks), "edited": layer is not None}
            names = [name for name, wish in wanted.items() if wish]
            _write_videos(folder, frames, rows, names, frame_rate=frames.frame_rate / stride)
        if points is not None:
            write_json(folder.file("points.json"), _tracks(rows))
        extra = {
            "inputs": inputs,
            "frames": len(rows),
            "aggregator": aggregator,
            "stretches": plan,
            "absent": _absences(rows),
        }
        record = run_record("propagate", config, clock.seconds, extra)
        write_json(folder.file("run.json"), record)
    return Path(output)


def _tracks(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Point tracks, one list per point."""
    return {
        "frames": [row["frame"] for row in rows],
        "tracks": np.transpose([row["points"] for row in rows], (1, 0, 2)).tolist(),
        "visible": np.transpose([row["visible"] for row in rows]).tolist(),
    }


def _write_videos(
    folder: OutputFolder,
    frames: Frames,
    rows: list[dict[str, Any]],
    names: list[str],
    *,
    frame_rate: Fraction,
) -> None:
    """`overlay.mp4` and `edited.mp4`, from the frames and what was written beside them."""
    for name in names:
        path = folder.file(f"{name}.mp4")
        with VideoWriter(
            path, height=frames.height, width=frames.width, frame_rate=frame_rate, overwrite=True
        ) as writer:
            start: Fraction | None = None
            time = Fraction(-1)
            for frame, row in zip(
                tqdm(frames, desc=f"write {name}.mp4", total=len(rows), disable=None),
                rows,
                strict=True,
            ):
                start = frame.time if start is None else start
                file = f"{frame.index:05d}.png"
                if name == "overlay":
                    labels = read_labels(folder.file(f"masks/{file}"))
                    image = overlay_labels(frame.image, labels)
                else:
                    image = read_image(folder.file(f"frames/{file}"))
                require(row["frame"] == frame.index, f"{frames.path} changed while it was read")
                # Clips exist in which several frames share a time; a movie needs them in order.
                time = max(frame.time - start, time + _TICK)
                writer.write(image, time=time)


def _accept_unfinished(folder: OutputFolder, task: dict[str, Any], *, drop_others: bool) -> None:
    """Keep unfinished work of the very same task; any other is dropped only when asked to.

    Raises:
        InputError: unfinished work of another task, named by what differs.
    """
    path = folder.file(_TASK, private=True)
    task = json.loads(json.dumps(task, default=str))
    if folder.resumed and path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        different = _differences(known, task)
        require(
            not different or drop_others,
            f"an interrupted run into {folder.path} waits to be continued, but with other"
            f" {', '.join(different)}: run that command again, choose another output folder, or"
            " drop it with --overwrite",
        )
        if different:
            _log.warning("an interrupted run with other %s was dropped", ", ".join(different))
            folder.restart()
    elif folder.resumed:
        folder.restart()
    write_json(path, task)


def _differences(known: dict[str, Any], task: dict[str, Any]) -> list[str]:
    """Names of the inputs and settings that differ between two tasks."""
    names = []
    for part in ("inputs", "config"):
        names += [key for key in task[part] if task[part][key] != known.get(part, {}).get(key)]
    # A file of another name is another file: said once.
    files = ("aggregator", "model", "version")
    return list(dict.fromkeys([*names, *(key for key in files if task[key] != known.get(key))]))


def _files(path: Path | str) -> list[Path]:
    """The file itself, or the images of a folder of frames."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    images = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file for file in images if file.is_file())


def _identity(path: Path | str) -> dict[str, Any]:
    """What tells whether an input is still the same file, or the same images in a folder."""
    # A folder's own time tells nothing: it changes with results written into it, and does not
    # change when an image is replaced.
    digest = hashlib.sha256()
    for file in _files(path):
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return {"path": str(path), "files": digest.hexdigest()}


def _read_annotations(
    masks: Mapping[int, Path | str], reader: Reader, first: Frame
) -> dict[int, npt.NDArray[np.uint8]]:
    """Masks by the position of their frame among those selected."""
    found = {}
    for index, path in sorted(masks.items()):
        labels = read_labels(path)
        check_same_size(labels, first.image, f"the mask {path}", "the first frame")
        position, rest = divmod(index - reader.start, reader.stride)
        count = reader.frames.count
        require(
            rest == 0 and position >= 0 and (count is None or position < count),
            f"the mask {path} is of frame {index}, which is not among the frames taken"
            f" (start {reader.start}, stride {reader.stride}, {count or 'unknown'} frames)",
        )
        found[position] = labels
    require(
        not found or any(bool(labels.any()) for labels in found.values()),
        f"the mask {' and '.join(map(str, masks.values()))} is empty (no pixel is set)",
    )
    return found


def _plan(run: Propagation) -> list[dict[str, Any]]:
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


def _finished(
    output: Path, task: dict[str, Any], run: Propagation, plan: list[dict[str, Any]]
) -> Finished:
    """What a finished run of the same task in the output folder has to give.

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
    other_masks = {"mask": None, "update": None}
    then = {
        "inputs": known.get("inputs", {}) | other_masks,
        "config": known.get("config", {}),
        "aggregator": known.get("aggregator"),
        "version": known.get("versions", {}).get("warpkit"),
    }
    now = json.loads(json.dumps(task | {"inputs": task["inputs"] | other_masks}, default=str))
    different = _differences(then, now)
    require(
        not different,
        f"--update changes masks alone, but the run in {output} was with other"
        f" {', '.join(different)}: use --overwrite to make everything anew",
    )
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    ids = {i for row in rows for i in map(int, row.get("area", {}))}
    pairs = zip(run.stretches(), plan, strict=True)
    kept = frozenset(stretch for stretch, entry in pairs if entry in known.get("stretches", []))
    reused = sum(len(rows[s.first : s.stop]) for s in kept) if ids <= set(run.object_ids) else 0
    _log.info("%d of %d frames are kept from the finished run", reused, len(rows))
    return Finished(output, rows, kept if ids <= set(run.object_ids) else frozenset())


def _absences(rows: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
    """Frames from which to which every object is absent, and a line in the log for each."""
    spans: dict[str, list[list[int]]] = {}
    for before, row in zip([None, *rows], rows, strict=False):
        for i in row.get("absent", []):
            found = spans.setdefault(str(i), [])
            if before is not None and i in before["absent"]:
                found[-1][1] = row["frame"]
            else:
                found.append([row["frame"], row["frame"]])
    for i, found in spans.items():
        places = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in found)
        _log.info("object %s is absent from frames %s", i, places)
    return spans


def _read_edit(path: Path | str, first: Frame) -> EditLayer:
    """A picture with transparency is a layer, one without is the edited frame itself."""
    rgba = read_rgba(path)
    check_same_size(rgba, first.image, f"the edit {path}", "the first frame")
    if bool((rgba[..., 3] < 255).any()):
        return EditLayer.from_rgba(rgba)
    return EditLayer.from_edited_frame(first.image, rgba[..., :3])
