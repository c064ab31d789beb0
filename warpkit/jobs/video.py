"""Propagate through a video file or frame folder and write the results into a folder.

In: a video, a mask and/or an edit and/or points of its first frame. Out: `masks/`, `overlay.mp4`,
`frames/`, `edited.mp4`, `points.json`, `frames.jsonl`, `run.json`. A killed run goes on where it
was and ends with the same masks.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from warpkit.checks import InputError, OutputError, check_same_size, require
from warpkit.io.config import to_dict
from warpkit.io.frames import Frame, Frames, open_frames
from warpkit.io.images import IMAGE_SUFFIXES, read_image, read_rgba, write_image
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.output import OutputFolder, run_record, write_json
from warpkit.io.video import VideoWriter
from warpkit.jobs.propagation import FrameResult, PropagateConfig, Propagation
from warpkit.jobs.timing import Stopwatch
from warpkit.propagate import EditLayer, colormap_layer
from warpkit.version import __version__
from warpkit.viz import overlay_labels

__all__ = ["run_propagate"]

_log = logging.getLogger("warpkit")
_STATE = "state.safetensors"
_ROWS = "frames.jsonl"
_TASK = "task.json"
_TICK = Fraction(1, 1000)
# A safetensors file needs a tensor; a run without label propagation has no state of its own.
_EMPTY = "nothing"


def run_propagate(
    video: Path | str,
    output: Path | str,
    *,
    mask: Path | str | None = None,
    edit: Path | str | None = None,
    colormap: bool = False,
    points: npt.NDArray[np.float32] | None = None,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    config: PropagateConfig | None = None,
    overwrite: bool = False,
) -> Path:
    """Carry a mask, an edit and points from a clip's first frame to all later ones.

    Args:
        video: video file or folder of frames.
        output: folder to fill. If an earlier run with the same inputs and configuration was
            interrupted, it is continued.
        mask: object ids of the first frame (any kind of mask file).
        edit: the first frame edited (the difference is carried), or a picture with transparency
            of the frame's size (carried as a layer).
        colormap: carry a position-coded colour map over the mask instead of an edit.
        points: (N, 2), pixels of the first frame.
        start: first frame, end: frame to stop before, stride: take every so many frames.

    Returns:
        The output folder.

    Raises:
        InputError: inputs that cannot be used, or an output folder that holds something.
    """
    config = config or PropagateConfig()
    clock = Stopwatch()
    frames = open_frames(video, start=start, end=end, stride=stride)
    first = frames.read(start)
    labels = None if mask is None else _read_labels(mask, first)
    require(not (colormap and edit is not None), "give --edit or --colormap, not both")
    require(not colormap or labels is not None, "--colormap needs --mask: what it should cover")
    layer = None if edit is None else _read_edit(edit, first)
    if colormap:
        assert labels is not None
        layer = colormap_layer(labels > 0)
    inputs: dict[str, Any] = {
        "video": _identity(video),
        "mask": None if mask is None else _identity(mask),
        "edit": None if edit is None else _identity(edit),
        "colormap": colormap,
        "points": None if points is None else points.tolist(),
        "start": start,
        "end": end,
        "stride": stride,
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
        config=config,
        matcher=config.load_matcher(),
    )
    aggregator = None if config.aggregator is None else _identity(config.aggregator)
    task = {
        "inputs": inputs,
        "config": to_dict(config),
        "aggregator": aggregator,
        "version": __version__,
    }
    read = [*_files(video), mask, edit]
    with OutputFolder(output, overwrite=overwrite, resume=True, inputs=read) as folder:
        _accept_unfinished(folder, task, drop_others=overwrite)
        try:
            with clock.stage("propagate"):
                rows = _carry_all(folder, frames, first, run, config)
        except OutputError:
            raise  # a full disk can be mended: the work done so far is kept
        except InputError:
            # Running again would meet the same input: nothing to continue.
            folder.abandon()
            raise
        with clock.stage("write videos"):
            wanted = {"overlay": labels is not None, "edited": layer is not None}
            names = [name for name, wish in wanted.items() if wish]
            _write_videos(folder, frames, rows, names, frame_rate=frames.frame_rate / stride)
        if points is not None:
            write_json(folder.file("points.json"), _tracks(rows))
        record = run_record(
            "propagate", config, clock.seconds, {"inputs": inputs, "frames": len(rows)}
        )
        write_json(folder.file("run.json"), record)
    return Path(output)


def _carry_all(
    folder: OutputFolder,
    frames: Frames,
    first: Frame,
    run: Propagation,
    config: PropagateConfig,
) -> list[dict[str, Any]]:
    """Carry to every frame, writing as it goes; returns one row per frame."""
    rows, done = _resume(folder, frames, run, config)
    if not rows:
        result = run.first_result()
        _write_result(folder, first, result)
        rows = [_row(first, result)]
        _save_state(folder, run, rows, done)
    following = _from(frames, 1 + done)
    total = None if frames.count is None else frames.count - 1
    with tqdm(total=total, initial=done, desc="propagate", unit="frame", disable=None) as bar:
        while chunk := list(itertools.islice(following, config.chunk)):
            fresh = []
            for frame, result in zip(chunk, run.advance([f.image for f in chunk]), strict=True):
                _write_result(folder, frame, result)
                fresh.append(_row(frame, result))
                bar.update()
            done += len(chunk)
            rows += fresh
            _save_state(folder, run, fresh, done)
    return rows


def _from(frames: Frames, position: int) -> Iterator[Frame]:
    """The frames from a position on; skipped ones are decoded, not described."""
    return itertools.islice(iter(frames), position, None)


def _resume(
    folder: OutputFolder,
    frames: Frames,
    run: Propagation,
    config: PropagateConfig,
) -> tuple[list[dict[str, Any]], int]:
    """Rows and number of frames of an interrupted run, with `run` brought to that point."""
    path, table = folder.file(_STATE, private=True), folder.file(_ROWS)
    if not path.is_file():
        table.unlink(missing_ok=True)
        return [], 0
    with safe_open(str(path), framework="pt") as file:
        done = int((file.metadata() or {})["done"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # Rows beyond the state belong to frames that are carried again.
    lines = table.read_text(encoding="utf-8").splitlines()[: done + 1]
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    _replace(table, "".join(line + "\n" for line in lines).encode())
    _log.info("going on after frame %d of an interrupted run", rows[-1]["frame"])
    # The context is described in the chunks of the first run, so that it comes out the same.
    needed = min(done, run.context_length)
    begin = (done - needed) // config.chunk * config.chunk
    again = itertools.islice(_from(frames, 1 + begin), done - begin)
    context, images = [], []
    while chunk := list(itertools.islice(again, config.chunk)):
        images += [frame.image for frame in chunk]
        context += run.describe([frame.image for frame in chunk])
    state.pop(_EMPTY, None)
    skipped = len(context) - needed
    run.restore(state, context[skipped:], images[skipped:], done)
    return rows, done


def _save_state(
    folder: OutputFolder, run: Propagation, fresh: list[dict[str, Any]], done: int
) -> None:
    """New rows first, then the state that counts them: a kill in between only repeats work."""
    with folder.file(_ROWS).open("a", encoding="utf-8") as table:
        table.writelines(json.dumps(row) + "\n" for row in fresh)
    path = folder.file(_STATE, private=True)
    temporary = path.with_name(f".{path.name}")
    tensors = {k: v.cpu().contiguous() for k, v in run.state().items()}
    save_file(tensors or {_EMPTY: torch.zeros(1)}, temporary, {"done": str(done)})
    os.replace(temporary, path)  # noqa: PTH105 - atomic on every system


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105 - atomic on every system


def _write_result(folder: OutputFolder, frame: Frame, result: FrameResult) -> None:
    if result.labels is not None:
        write_labels(folder.file(f"masks/{frame.index:05d}.png"), result.labels)
    if result.edited is not None:
        write_image(folder.file(f"frames/{frame.index:05d}.png"), result.edited)


def _row(frame: Frame, result: FrameResult) -> dict[str, Any]:
    """One line of `frames.jsonl`: areas and mean confidence per object, points."""
    row: dict[str, Any] = {"frame": frame.index, "name": frame.name, "time": str(frame.time)}
    if result.labels is not None and result.confidence is not None:
        ids = [int(i) for i in np.unique(result.labels) if i > 0]
        inside = {i: result.labels == i for i in ids}
        row["area"] = {str(i): int(inside[i].sum()) for i in ids}
        row["confidence"] = {
            str(i): round(float(result.confidence[inside[i]].mean()), 4) for i in ids
        }
    if result.points is not None:
        row["points"] = result.points.xy.round(3).tolist()
        row["visible"] = result.points.visible.tolist()
    return row


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
    return names + [key for key in ("aggregator", "version") if task[key] != known.get(key)]


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


def _read_labels(path: Path | str, first: Frame) -> npt.NDArray[np.uint8]:
    labels = read_labels(path)
    check_same_size(labels, first.image, f"the mask {path}", "the first frame")
    require(bool((labels > 0).any()), f"the mask {path} is empty (no pixel is set)")
    return labels


def _read_edit(path: Path | str, first: Frame) -> EditLayer:
    """A picture with transparency is a layer, one without is the edited frame itself."""
    rgba = read_rgba(path)
    check_same_size(rgba, first.image, f"the edit {path}", "the first frame")
    if bool((rgba[..., 3] < 255).any()):
        return EditLayer.from_rgba(rgba)
    return EditLayer.from_edited_frame(first.image, rgba[..., :3])
