"""The videos and exports of a run, made from the frames and from what was written beside them.

In: the frames, `masks/`, `frames/`, `layers/`. Out: `overlay.mp4`, `edited.mp4` with the sound of
the original; on request `masks.json` (COCO), `cutouts/`, and `cutout` and `layer` as ProRes 4444 or
FFV1 with opacity. They are made while the frames pass, every file by a thread of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from warpkit.checks import one_of
from warpkit.io.audio import SoundTrack, UsableSound, usable_sound
from warpkit.io.frame import Frame, Frames
from warpkit.io.images import read_image, read_rgba, write_image
from warpkit.io.masks import read_labels
from warpkit.io.rle import CocoMaskWriter
from warpkit.io.video import VideoWriter
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder
from warpkit.runs.threads import WriteBehind
from warpkit.viz import overlay_labels

__all__ = ["EXPORTS", "Results", "check_exports"]

EXPORTS = ("png", "prores", "ffv1", "coco")

_SUFFIXES = {"prores": ".mov", "ffv1": ".mkv"}
_TICK = Fraction(1, 1000)
_DEPTH = 4  # frames that wait for an encoder

Pixels = npt.NDArray[np.uint8]
# Writes what belongs to a frame: its name, its image, its time in the new video.
Sink = Callable[[str, Frame, Fraction], None]


def check_exports(names: Sequence[str]) -> list[str]:
    """The exports asked for, sorted, without repeats; raises `InputError` for unknown ones."""
    return sorted({one_of(name, EXPORTS, "export") for name in names})


class Results:
    """Makes the videos and exports of a run while its frames pass; a context manager.

    Args:
        frames: the selected frames.
        first: the first of them.
        masks: whether objects are shown (`overlay.mp4`, cut-outs).
        edit: whether there is an edit.
        layers: where its layers are, as in "layers/{}".
        exports: names of `EXPORTS`.
        frame_rate: of the videos, frames per second.
        clock: gets the seconds of `videos`, of all threads.

    Attributes:
        wanted: whether there is anything to make.
    """

    def __init__(
        self,
        folder: OutputFolder,
        frames: Frames,
        first: Frame,
        *,
        masks: bool,
        edit: bool,
        layers: str | None,
        exports: Sequence[str],
        frame_rate: Fraction,
        clock: Stopwatch,
    ) -> None:
        self.folder, self.frames, self.frame_rate = folder, frames, frame_rate
        self.wanted = masks or edit
        self._asked = masks, edit, layers, exports
        self._start, self._time, self._clock = first.time, Fraction(-1), clock
        self.stack = contextlib.ExitStack()
        self._sinks: list[Sink] = []
        self._sound: UsableSound | None = None

    def __enter__(self) -> Self:
        if self.wanted and not self.frames.path.is_dir():
            self._sound = usable_sound(self.frames.path, "mp4")
        with self.stack as stack:
            self._sinks = [self._threaded(sink) for sink in _sinks(self, *self._asked)]
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.stack.__exit__(*raised)

    def add(self, frame: Frame, file: str) -> None:
        """Let the next frame pass; mask, edited frame and layer are in files of that name."""
        # Clips exist in which several frames share a time; a movie needs them in order.
        self._time = max(frame.time - self._start, self._time + _TICK)
        for sink in self._sinks:
            sink(file, frame, self._time)

    def video(self, name: str, make: Callable[[str, Frame], Pixels], **options: Any) -> Sink:
        """A video of pictures made of frames."""
        if options.get("codec") is None and self._sound is not None:
            options |= {"sound": SoundTrack(self.frames.path, self._start, self._sound)}
        writer = VideoWriter(
            self.folder.file(name),
            height=self.frames.height,
            width=self.frames.width,
            frame_rate=self.frame_rate,
            pixel_aspect=self.frames.pixel_aspect,
            colour=self.frames.colour,
            overwrite=True,
            **options,
        )
        self.stack.enter_context(writer)
        return lambda file, frame, time: writer.write(make(file, frame), time)

    def _threaded(self, sink: Sink) -> Sink:
        behind = self.stack.enter_context(WriteBehind(depth=_DEPTH))

        def timed(file: str, frame: Frame, time: Fraction) -> None:
            with self._clock.stage("videos"):
                sink(file, frame, time)

        return lambda file, frame, time: behind.do(timed, file, frame, time)


def _sinks(
    videos: Results, masks: bool, edit: bool, layers: str | None, exports: Sequence[str]
) -> list[Sink]:
    folder, frames = videos.folder, videos.frames

    def labels(file: str) -> Pixels:
        return read_labels(folder.written(f"masks/{file}"))

    def cutout(file: str, frame: Frame) -> Pixels:
        opacity = np.where(labels(file) > 0, 255, 0).astype(np.uint8)
        return np.dstack([frame.image, opacity])

    def layer(file: str, frame: Frame) -> Pixels:
        assert layers is not None
        return read_rgba(folder.written(layers.format(file)))

    def edited(file: str, frame: Frame) -> Pixels:
        return read_image(folder.written(f"frames/{file}"))

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
        sinks.append(lambda f, x, _: coco.write(labels(f), frame=x.index, name=x.file or f))
    return sinks
