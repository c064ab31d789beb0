"""The selected frames of a clip by position, with the places where a new scene begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from warpkit.io.frame import Frame, Frames
from warpkit.propagate.cuts import CutFinder
from warpkit.runs.clock import Stopwatch

__all__ = ["Reader", "Shot"]


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame, and whether a new scene begins with it."""

    frame: Frame
    cut: bool


@dataclass(frozen=True)
class Reader:
    """Frames by their position among those selected.

    Attributes:
        frames: the selection.
        start, stride: how it was selected.
        cut_threshold: as in `PropagateSettings`; None does not look for scenes.
    """

    frames: Frames
    start: int = 0
    stride: int = 1
    cut_threshold: float | None = None

    def one(self, position: int) -> Frame:
        return self.frames.read(self.start + position * self.stride)

    def span(self, position: int, stop: int | None) -> Iterator[Frame]:
        """The frames from a position on; those of a video before it are decoded."""
        if self.frames.names is None:
            yield from itertools.islice(iter(self.frames), position, stop)
        else:
            count = len(self.frames.names)
            yield from map(self.one, range(position, count if stop is None else min(stop, count)))

    def shots(self, position: int, stop: int | None, clock: Stopwatch) -> Iterator[Shot]:
        """As `span`, each frame with whether it begins a new scene; seconds go to `decode`."""
        frames = self.span(max(0, position - 1), stop)
        finder = None
        if self.cut_threshold is not None:
            finder = CutFinder(threshold=self.cut_threshold)
        for place in itertools.count(max(0, position - 1)):
            with clock.stage("decode"):
                frame = next(frames, None)
                cut = frame is not None and finder is not None and finder.next(frame.image)
            if frame is None:
                return
            if place >= position:
                yield Shot(frame, cut)
