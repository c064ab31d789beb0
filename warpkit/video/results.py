"""The videos and exports of a run, made from the frames and from what was written beside them.

In: the frames, `masks/`, `frames/`, `layers/`. Out: `overlay.mp4`, `edited.mp4` with the sound of
the original; on request `masks.json` (COCO), `cutouts/`, and `cutout` and `layer` as ProRes 4444 or
FFV1 with opacity. One pass over the frames; every file is encoded by a thread of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from warpkit.checks import one_of, require
from warpkit.io.audio import SoundTrack
from warpkit.io.frame import Frame, Frames
from warpkit.io.images import read_image, read_rgba, write_image
from warpkit.io.masks import read_labels
from warpkit.io.rle import CocoMaskWriter
from warpkit.io.video import VideoWriter
from warpkit.runs.folder import OutputFolder
from warpkit.runs.progress import ProgressCallback, no_progress
from warpkit.runs.threads import ReadAhead, WriteBehind
from warpkit.viz import overlay_labels

__all__ = ["EXPORTS", "check_exports", "write_results"]

EXPORTS = ("png", "prores", "ffv1", "coco")

_SUFFIXES = {"prores": ".mov", "ffv1": ".mkv"}
_TICK = Fraction(1, 1000)
_DEPTH = 4  # frames that wait for an encoder

Row = dict[str, Any]
Pixels = npt.NDArray[np.uint8]
# Writes what belongs to a frame: its name, its image, its time in the new video.
Sink = Callable[[str, Frame, Fraction], None]


def check_exports(names: Sequence[str]) -> list[str]:
    """The exports asked for, sorted, without repeats; raises `InputError` for unknown ones."""
    return sorted({one_of(name, EXPORTS, "export") for name in names})


@dataclass(frozen=True)
class _Videos:
    """Opens the writers of a run; all close together."""

    folder: OutputFolder
    frames: Frames
    frame_rate: Fraction
    start: Fraction
    stack: contextlib.ExitStack

    def video(self, name: str, make: Callable[[str, Frame], Pixels], **options: Any) -> Sink:
        if options.get("codec") is None:
            options |= {"sound": SoundTrack(self.frames.path, self.start)}
            if self.frames.path.is_dir():
                del options["sound"]
        writer = VideoWriter(
            self.folder.file(name),
            height=self.frames.height,
            width=self.frames.width,
            frame_rate=self.frame_rate,
            overwrite=True,
            **options,
        )
        self.stack.enter_context(writer)
        return lambda file, frame, time: writer.write(make(file, frame), time)

    def threaded(self, sink: Sink) -> Sink:
        behind = self.stack.enter_context(WriteBehind(depth=_DEPTH))
        return lambda file, frame, time: behind.do(sink, file, frame, time)


def write_results(
    folder: OutputFolder,
    frames: Frames,
    rows: Sequence[Row],
    *,
    masks: bool,
    edit: bool,
    layers: str | None,
    exports: Sequence[str],
    frame_rate: Fraction,
    progress: ProgressCallback = no_progress,
) -> None:
    """Write the videos and exports of a run.

    Args:
        frames: the selected frames; as many as there are rows are used.
        rows: one per frame.
        masks: whether objects are shown (`overlay.mp4`, cut-outs).
        edit: whether there is an edit.
        layers: where its layers are, as in "layers/{:05d}.png".
        exports: names of `EXPORTS`.
        frame_rate: of the videos, frames per second.
        progress: hears of every frame.
    """
    first = next(iter(frames))
    with contextlib.ExitStack() as stack:
        videos = _Videos(folder, frames, frame_rate, first.time, stack)
        sinks = [videos.threaded(sink) for sink in _sinks(videos, masks, edit, layers, exports)]
        if not sinks:
            return
        ahead = stack.enter_context(ReadAhead(frames, depth=_DEPTH))
        time, count = Fraction(-1), 0
        bar = tqdm(rows, desc="write videos", unit="frame", disable=None)
        for row, frame in zip(bar, ahead, strict=False):
            require(row["frame"] == frame.index, f"{frames.path} changed while it was read")
            # Clips exist in which several frames share a time; a movie needs them in order.
            time = max(frame.time - first.time, time + _TICK)
            for sink in sinks:
                sink(f"{frame.index:05d}.png", frame, time)
            count += 1
            progress("writing videos", count, len(rows))
        require(count == len(rows), f"{frames.path} changed while it was read")


def _sinks(
    videos: _Videos, masks: bool, edit: bool, layers: str | None, exports: Sequence[str]
) -> list[Sink]:
    folder, frames = videos.folder, videos.frames

    def labels(file: str) -> Pixels:
        return read_labels(folder.file(f"masks/{file}"))

    def cutout(file: str, frame: Frame) -> Pixels:
        opacity = np.where(labels(file) > 0, 255, 0).astype(np.uint8)
        return np.dstack([frame.image, opacity])

    def layer(file: str, frame: Frame) -> Pixels:
        assert layers is not None
        return read_rgba(folder.file(layers.format(frame.index)))

    def edited(file: str, frame: Frame) -> Pixels:
        return read_image(folder.file(f"frames/{file}"))

    sinks: list[Sink] = []
    if masks:
        sinks.append(videos.video("overlay.mp4", lambda f, x: overlay_labels(x.image, labels(f))))
    if edit:
        sinks.append(videos.video("edited.mp4", edited))
    for name in ("prores", "ffv1"):
        if name in exports:
            options = {"codec": name, "alpha": True}
            if masks:
                sinks.append(videos.video(f"cutout{_SUFFIXES[name]}", cutout, **options))
            if edit:
                sinks.append(videos.video(f"layer{_SUFFIXES[name]}", layer, **options))
    if masks and "png" in exports:
        sinks.append(
            lambda f, x, _: write_image(folder.file(f"cutouts/{f}"), cutout(f, x)),
        )
    if masks and "coco" in exports:
        path: Path = folder.file("masks.json")
        coco = videos.stack.enter_context(
            CocoMaskWriter(path, height=frames.height, width=frames.width)
        )
        sinks.append(lambda f, x, _: coco.write(labels(f), frame=x.index, name=f))
    return sinks
