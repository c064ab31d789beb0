"""The frames of a clip by position, with the places where a new scene begins.

In: a file, a folder, or any iterable of images. Out: frames. A pass from the front reads every
frame once; what has been passed is read again only where it is asked for.
"""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from warpkit.arrays import Image
from warpkit.checks import check_image, counted, require
from warpkit.io.frame import Frame, Frames
from warpkit.propagate.cuts import CutFinder
from warpkit.runs.clock import Stopwatch
from warpkit.runs.threads import ReadAhead

__all__ = ["Clip", "FileClip", "MemoryClip", "Shot"]

T = TypeVar("T")

# Frames that are read ahead of the computation: at most this many, and this much memory.
_AHEAD, _AHEAD_BYTES = 32, 128e6


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame, and whether a new scene begins with it."""

    frame: Frame
    cut: bool


class Clip(ABC):
    """Frames by their position among those taken.

    Attributes:
        name: in messages.
        about: how many there are, exactly or by the clip's own word; None if unknown.
        frame_bytes: memory of one image.
    """

    name: str
    about: int | None
    frame_bytes: int

    @abstractmethod
    def one(self, position: int) -> Frame:
        """One frame.

        Raises:
            InputError: the clip is not so long.
        """

    @abstractmethod
    def shots(self, position: int, stop: int | None) -> Generator[Shot, None, None]:
        """The frames from a position on, up to before `stop` or to the end."""

    def images(self, position: int, stop: int) -> list[Image]:
        """The images from a position up to before `stop`, as many as there are."""
        return [shot.frame.image for shot in self.shots(position, stop)]

    def ahead(self, items: Iterator[T]) -> Iterator[T]:
        """Items that are made of frames, made ahead where frames may be read by a thread."""
        return items

    def drop(self, before: int, keep: Collection[int]) -> None:  # noqa: B027 - nothing is held
        """Let go of frames that are done."""


class MemoryClip(Clip):
    """Images of an iterable: read when asked for, dropped when done with."""

    name, about = "the clip", None

    def __init__(self, images: Iterable[Image], cut_threshold: float | None) -> None:
        self._images = iter(images)
        self._finder = None if cut_threshold is None else CutFinder(threshold=cut_threshold)
        self._held: dict[int, Shot] = {}
        self._count = 0

    def has(self, position: int) -> bool:
        """Whether the clip is so long."""
        while self._count <= position:
            image = next(self._images, None)
            if image is None:
                return False
            image = check_image(image, f"frame {self._count}" if self._count else "the first frame")
            cut = self._finder is not None and self._finder.next(image)
            frame = Frame(self._count, image, Fraction(self._count), f"{self._count:05d}")
            self._held[self._count] = Shot(frame, cut)
            self.frame_bytes = image.nbytes
            self._count += 1
        return True

    def one(self, position: int) -> Frame:
        require(
            self.has(position),
            f"there is no frame {position} to annotate: the clip has"
            f" {counted(self._count, 'frame')}",
        )
        return self._held[position].frame

    def shots(self, position: int, stop: int | None) -> Generator[Shot, None, None]:
        while (stop is None or position < stop) and self.has(position):
            yield self._held[position]
            position += 1

    def drop(self, before: int, keep: Collection[int]) -> None:
        for position in [p for p in self._held if p < before and p not in keep]:
            del self._held[position]


class FileClip(Clip):
    """Selected frames of a video or a folder, decoded ahead by a thread.

    Args:
        frames: the selection.
        start, stride: how it was selected.
        cut_threshold: as in `PropagateSettings`; None does not look for scenes.
        clock: gets the seconds of `decode`.
    """

    def __init__(
        self,
        frames: Frames,
        *,
        start: int = 0,
        stride: int = 1,
        cut_threshold: float | None = None,
        clock: Stopwatch | None = None,
    ) -> None:
        self.frames, self.start, self.stride = frames, start, stride
        self.name, self.about = str(frames.path), frames.about
        self.frame_bytes = frames.height * frames.width * 3
        self._threshold, self._clock = cut_threshold, clock or Stopwatch()
        # A pass from the front: what comes next, and the frame that came last.
        self._passing: Iterator[Frame] = iter(())
        self._next = -1
        self._there = 0  # a position that is known to exist
        self._last: tuple[int, Frame] | None = None

    def position_of(self, index: int) -> int | None:
        """The position of the frame of that number; None if it is not among those taken.

        Raises:
            InputError: the video does not say how many frames it has, and this is not there.
        """
        position, rest = divmod(index - self.start, self.stride)
        count = self.frames.count
        if count is None and rest == 0 and position > self._there:
            self.frames.read(index)
            self._there = position
        taken = rest == 0 and position >= 0 and (count is None or position < count)
        return position if taken else None

    def selection(self) -> str:
        """Which frames are taken, in words."""
        count = self.frames.count
        words = "number of frames unknown" if count is None else counted(count, "frame")
        return f"(start {self.start}, stride {self.stride}, {words})"

    def one(self, position: int) -> Frame:
        if position == self._next or (self._last and position == self._last[0]):
            frame = self.passed(position)
            if frame is not None:
                return frame
        return self.frames.read(self.start + position * self.stride)

    def ahead(self, items: Iterator[T]) -> Iterator[T]:
        with ReadAhead(items, depth=1) as ahead:
            yield from ahead

    def passed(self, position: int) -> Frame | None:
        """The frame at a position of the pass; None after the last. Elsewhere a new pass begins."""
        if self._last is not None and position == self._last[0]:
            return self._last[1]
        if position != self._next:
            self._passing, self._next = self._span(position), position
        with self._clock.stage("decode"):
            frame = next(self._passing, None)
        if frame is not None:
            self._next, self._last = position + 1, (position, frame)
        return frame

    def shots(self, position: int, stop: int | None) -> Generator[Shot, None, None]:
        found = self._shots(position, stop)
        depth = min(_AHEAD, max(1, int(_AHEAD_BYTES / self.frame_bytes)))
        with ReadAhead(found, depth=depth) as ahead:
            yield from ahead

    def _shots(self, position: int, stop: int | None) -> Generator[Shot, None, None]:
        finder = None
        if self._threshold is not None:
            finder = CutFinder(threshold=self._threshold)
            before = self.passed(position - 1) if position else None
            if before is not None:
                finder.next(before.image)
        while stop is None or position < stop:
            frame = self.passed(position)
            if frame is None:
                return
            with self._clock.stage("decode"):
                cut = finder is not None and finder.next(frame.image)
            yield Shot(frame, cut)
            position += 1

    def images(self, position: int, stop: int) -> list[Image]:
        """Of a span of its own, which leaves the pass from the front where it is."""
        return [frame.image for frame in itertools.islice(self._span(position), stop - position)]

    def _span(self, position: int) -> Iterator[Frame]:
        """The frames from a position on; those of a video before it are decoded."""
        names = self.frames.names
        if names is None:
            yield from itertools.islice(iter(self.frames), position, None)
        else:
            for place in range(position, len(names)):
                yield self.frames.read(self.start + place * self.stride)

    def close(self) -> None:
        """Let go of the file."""
        close = getattr(self._passing, "close", None)
        with contextlib.suppress(ValueError):  # a generator that is running in a thread
            if close is not None:
                close()
