"""Points followed from the frames they were given in to both ends of a clip.

In: the frames, the points. Out: where each is in every frame. One pass goes forward from the first
frame that holds a point, another backward from the last. What was followed is kept chunk by chunk,
so that a killed run goes on where it was.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from warpkit.checks import InputError, check_points
from warpkit.io.points import PointQueries, PointTracks
from warpkit.io.tensors import write_tensors
from warpkit.match.matcher import Matcher
from warpkit.propagate import PointTracker, TrackedPoints
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder
from warpkit.runs.progress import ProgressCallback, no_progress
from warpkit.runs.threads import ReadAhead
from warpkit.types import Describer, DescriptorMap
from warpkit.video.config import PropagateSettings
from warpkit.video.frames import Reader, Shot

__all__ = ["PointTracking"]

_log = logging.getLogger("warpkit")

Image = npt.NDArray[np.uint8]
# Frames held at a time on the way back; those of a video before them are decoded for each block.
_BLOCK_BYTES = 256e6
_CPU_CHUNK, _GPU_CHUNK = 4, 16


@dataclass(frozen=True, eq=False)
class _Part:
    """What was followed in some frames, in the order of the clip."""

    first: int
    frames: npt.NDArray[np.float64]  # (n, 2): number and seconds
    xy: npt.NDArray[np.float32]  # (n, N, 2)
    visible: npt.NDArray[np.bool_]
    similarity: npt.NDArray[np.float32]

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "frames": torch.from_numpy(self.frames),
            "xy": torch.from_numpy(self.xy),
            "visible": torch.from_numpy(self.visible),
            "similarity": torch.from_numpy(self.similarity),
        }

    @classmethod
    def load(cls, first: int, path: Path) -> _Part:
        found = {name: tensor.numpy() for name, tensor in load_file(path).items()}
        return cls(first, found["frames"], found["xy"], found["visible"], found["similarity"])

    def points(self, place: int) -> TrackedPoints:
        return TrackedPoints(self.xy[place], self.visible[place], self.similarity[place])


class PointTracking:
    """Points to be followed through a clip; `track` does it.

    Args:
        reader: the frames.
        queries: of frames that the reader selects.
        describer: what describes images.
        settings: how; the settings of masks and edits are not used.
        matcher: matching engine; None picks one.
        clock: gets seconds by stage.
        progress: hears of every chunk of frames.

    Raises:
        InputError: a point outside its frame, or of a frame that is not among those taken.
    """

    def __init__(
        self,
        reader: Reader,
        queries: PointQueries,
        *,
        describer: Describer,
        settings: PropagateSettings,
        matcher: Matcher | None = None,
        clock: Stopwatch | None = None,
        progress: ProgressCallback = no_progress,
    ) -> None:
        self.reader, self.queries = reader, queries
        self.describer, self.settings, self.matcher = describer, settings, matcher
        self.clock, self.progress = clock or Stopwatch(), progress
        self.positions = _positions(queries, reader)
        self.folder: OutputFolder | None = None
        self.chunk = 0

    def track(self, folder: OutputFolder, *, stop: int | None = None) -> PointTracks:
        """Follow the points.

        Args:
            folder: keeps what is followed until the run ends.
            stop: position before which to end; None goes to the end, or to a scene cut if
                `settings.cuts` is "stop".

        Raises:
            InputError: a point of a frame behind the end.
        """
        self.folder = folder
        begin, last = int(self.positions.min()), int(self.positions.max())
        first = self._describe([self.reader.one(begin).image])[0]
        on_gpu = first.data.device.type == "cuda"
        self.chunk = self.settings.chunk or (_GPU_CHUNK if on_gpu else _CPU_CHUNK)
        forward = list(self._forward(begin, stop))
        end = forward[-1].first + len(forward[-1].frames) if forward else begin
        beyond = self.positions >= end
        if beyond.any():
            raise InputError(
                f"a point is of frame {self.queries.frames[beyond][0]}, but the clip is followed"
                f" up to frame {self.reader.start + (end - 1) * self.reader.stride} alone"
            )
        return self._merge(forward, list(self._backward(last)))

    def _forward(self, begin: int, stop: int | None) -> Iterator[_Part]:
        tracker = PointTracker(self.settings.point, len(self.positions), self.matcher)
        place = begin
        while (path := self._file("forward", place)).is_file():
            part = _Part.load(place, path)
            place += len(part.frames)
            yield part
        if place > begin:
            _log.info("points go on after frame %d of an interrupted run", int(part.frames[-1, 0]))
            given = (self.positions >= begin) & (self.positions < place)
            self._restore(tracker, given, part.points(-1), place - 1)
            if (place - begin) % self.chunk:
                return  # the last chunk was a short one: the clip has ended
        about = self.reader.frames.about
        total = None if about is None else about - begin
        shots = self.reader.shots(place, stop, self.clock)
        done = place - begin
        with (
            tqdm(total=total, initial=done, desc="points", unit="frame", disable=None) as bar,
            ReadAhead(shots, depth=2 * self.chunk) as ahead,
        ):
            for chunk in _chunks(ahead, self.chunk, stops=self.settings.cuts == "stop"):
                cuts = [shot.cut for shot in chunk]
                part = self._follow(tracker, chunk, place, cuts)
                write_tensors(self._file("forward", place), part.tensors(), {})
                place += len(chunk)
                bar.update(len(chunk))
                self.progress("following points", int(bar.n), total)
                yield part

    def _backward(self, last: int) -> Iterator[_Part]:
        """Frames before `last`, from the last to the first, of points that are given later."""
        if last == 0:
            return
        tracker = PointTracker(self.settings.point, len(self.positions), self.matcher)
        starts = list(range(0, last + 1, self.chunk))
        kept = 0
        for start in reversed(starts):
            path = self._file("backward", start)
            if not path.is_file():
                break
            part = _Part.load(start, path)
            kept += 1
            yield part
        if kept:
            self._restore(tracker, self.positions >= part.first, part.points(0), part.first)
        todo = starts[: len(starts) - kept]
        each = self.reader.frames.height * self.reader.frames.width * 3 * self.chunk
        block = max(1, int(_BLOCK_BYTES / each))
        left = min(todo[-1] + self.chunk, last + 1) if todo else 0
        with tqdm(total=left, desc="backward", unit="frame", disable=None, leave=False) as bar:
            while todo:
                todo, some = todo[:-block], todo[-block:]
                end = min(some[-1] + self.chunk, last + 1)
                # One frame more, to know whether a scene begins after these.
                shots = list(self.reader.shots(some[0], end + 1, self.clock))
                for start in reversed(some):
                    stop = min(start + self.chunk, end)
                    part_of = shots[start - some[0] : stop - some[0]]
                    following = shots[start + 1 - some[0] : stop + 1 - some[0]]
                    cuts = [shot.cut for shot in following]
                    cuts += [False] * (len(part_of) - len(cuts))
                    part = self._follow(tracker, part_of, start, cuts, back=True)
                    write_tensors(self._file("backward", start), part.tensors(), {})
                    bar.update(len(part_of))
                    self.progress("following points back", int(bar.n), left)
                    yield part

    def _follow(
        self,
        tracker: PointTracker,
        shots: list[Shot],
        first: int,
        cuts: list[bool],
        *,
        back: bool = False,
    ) -> _Part:
        """Follow the points through frames; `cuts` tells between which neighbours scenes change."""
        maps = self._describe([shot.frame.image for shot in shots])
        order = range(len(shots))
        found: dict[int, TrackedPoints] = {}
        with self.clock.stage("points"):
            for n in reversed(order) if back else order:
                image = shots[n].frame.image
                tracker.step(maps[n], image, cut=cuts[n])
                given = np.flatnonzero(self.positions == first + n)
                if len(given):
                    self._join(tracker, given, image)
                found[n] = tracker.now
        numbers = [(shot.frame.index, float(shot.frame.time)) for shot in shots]
        return _Part(
            first,
            np.array(numbers, np.float64),
            np.stack([found[n].xy for n in order]),
            np.stack([found[n].visible for n in order]),
            np.stack([found[n].similarity for n in order]),
        )

    def _join(self, tracker: PointTracker, which: npt.NDArray[np.int64], image: Image) -> None:
        # Described alone, in a resumed run too, so that nothing depends on what shares its batch.
        tracker.join(which, self.queries.xy[which], self._describe([image])[0], image)

    def _restore(
        self, tracker: PointTracker, given: npt.NDArray[np.bool_], now: TrackedPoints, place: int
    ) -> None:
        """Bring a tracker to where it was after the frame at a place."""
        for position in sorted({int(p) for p in self.positions[given]}):
            which = np.flatnonzero(given & (self.positions == position))
            self._join(tracker, which, self.reader.one(position).image)
        tracker.restore(now, self.reader.one(place).image)

    def _describe(self, images: list[Image]) -> list[DescriptorMap]:
        with self.clock.stage("describe"):
            return self.describer.describe(images)

    def _file(self, way: str, place: int) -> Path:
        assert self.folder is not None
        return self.folder.file(f"points-{way}-{place:06d}.safetensors", private=True)

    def _merge(self, forward: list[_Part], backward: list[_Part]) -> PointTracks:
        """The way back before the frame of a point, the way on from it."""
        begin = forward[0].first
        parts = sorted(backward, key=lambda part: part.first)
        back = {part.first + n: (part, n) for part in parts for n in range(len(part.frames))}
        ahead = {part.first + n: (part, n) for part in forward for n in range(len(part.frames))}
        end = max(ahead) + 1
        count = len(self.positions)
        xy = np.zeros((count, end, 2), np.float32)
        visible = np.zeros((count, end), np.bool_)
        similarity = np.zeros((count, end), np.float32)
        numbers = np.zeros((end, 2))
        for place in range(end):
            for found, chosen in ((back, self.positions > place), (ahead, self.positions <= place)):
                if place not in found:
                    continue
                part, n = found[place]
                numbers[place] = part.frames[n]
                xy[chosen, place] = part.xy[n][chosen]
                visible[chosen, place] = part.visible[n][chosen]
                similarity[chosen, place] = part.similarity[n][chosen]
        assert begin == 0 or set(range(begin)) <= set(back)
        frames, times = numbers[:, 0].astype(np.int64), numbers[:, 1]
        return PointTracks(self.queries, frames, times, xy, visible, similarity)


def _chunks(shots: ReadAhead[Shot], size: int, *, stops: bool) -> Iterator[list[Shot]]:
    """Lists of `size` frames; the last is shorter. With `stops` up to the first scene cut."""
    following = iter(shots)
    if stops:
        following = itertools.takewhile(lambda shot: not shot.cut, following)
    while chunk := list(itertools.islice(following, size)):
        yield chunk


def _positions(queries: PointQueries, reader: Reader) -> npt.NDArray[np.int64]:
    """The place of every point's frame among those selected; checks the points."""
    places, rest = np.divmod(queries.frames - reader.start, reader.stride)
    count = reader.frames.count
    bad = (rest != 0) | (places < 0)
    if count is not None:
        bad |= places >= count
    if bad.any():
        raise InputError(
            f"a point is of frame {queries.frames[bad][0]}, which is not among the frames taken"
            f" (start {reader.start}, stride {reader.stride}, {count or 'unknown'} frames)"
        )
    check_points(queries.xy, height=reader.frames.height, width=reader.frames.width)
    return np.asarray(places, np.int64)
