"""Where the results of a clip are kept: in memory, or in an output folder chunk by chunk.

In: the results of frames, and the state behind them. Out: `masks/`, `frames/`, `layers/`, one row
per frame in `frames.jsonl`, and the videos that are made while the frames pass. Beside them, until
the run ends: the state after the last whole chunk, where points are, and what was propagated
backward from annotated frames. Files are written by a thread; what a state counts is written
before it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import require
from warpkit.io.frame import Frame
from warpkit.io.images import write_image
from warpkit.io.masks import write_labels
from warpkit.io.points import PointQueries, PointTracks
from warpkit.io.tensors import read_tensors, write_tensors
from warpkit.io.whole import write_text, written_whole
from warpkit.propagate import EditLayer, TrackedPoints
from warpkit.propagate.passes import Stretch
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder
from warpkit.runs.frame_rows import ROWS, Row, read_rows, result_file
from warpkit.runs.progress import ProgressCallback
from warpkit.runs.threads import WriteBehind
from warpkit.video.clip import Clip, FileClip
from warpkit.video.config import FrameResult
from warpkit.video.results import Results
from warpkit.video.rows import frame_row

__all__ = ["Finished", "FolderStore", "Store"]

_log = logging.getLogger("warpkit")
_STATE = "state.safetensors"
# A safetensors file needs a tensor; a run without label propagation has no state of its own.
_EMPTY = "nothing"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Finished:
    """What an earlier run of the same task, but for its annotations, left in its folder.

    Attributes:
        folder: its output folder.
        rows: one per frame.
        stretches: those whose labels depend on nothing that has changed since.
    """

    folder: Path
    rows: list[Row]
    stretches: frozenset[Stretch]


class Store:
    """Keeps what a run makes; in memory, where results are the caller's, what went backward.

    Attributes:
        done: frames whose results are kept, from the first on.
        state: of the run behind them, where an earlier process left it.
        quiet: whether no progress is shown.
    """

    quiet: bool = True

    def __init__(self) -> None:
        self.done = 0
        self.state: Mapping[str, torch.Tensor] = {}
        self._back: dict[int, Tensors] = {}

    def keep(self, frames: Sequence[Frame], results: Sequence[FrameResult], state: Tensors) -> None:
        """Keep the results of the next frames, and the state of the run behind them."""
        self.done += len(frames)

    def keep_back(self, start: int, tensors: Tensors) -> None:
        """Keep what was propagated backward to the chunk that starts at a position."""
        self._back[start] = tensors

    def has_back(self, start: int) -> bool:
        """Whether that was done."""
        return start in self._back

    def back(self, start: int) -> Tensors:
        """What `keep_back` was given."""
        return self._back[start]

    def drop_back(self, start: int) -> None:
        """Let go of it."""
        self._back.pop(start, None)

    def wait(self) -> None:
        """Wait until all is kept."""

    def replay(self, clip: Clip, progress: ProgressCallback) -> None:
        """Let the frames that are done pass once more, for what is made of all frames together."""

    def take_over(
        self,
        stretch: Stretch,
        clip: Clip,
        object_ids: Sequence[int],
        progress: ProgressCallback,
    ) -> bool:
        """Take what an earlier run made of a stretch; False where there is nothing to take."""
        return False

    def points(self) -> TrackedPoints | None:
        """Where points are in the last frame that is done."""
        return None

    def points_back(self, start: int) -> dict[int, TrackedPoints] | None:
        """Where points were followed back to in the chunk that starts at a position; or None."""
        return None

    def keep_points_back(self, start: int, found: Mapping[int, TrackedPoints]) -> None:
        """Keep where points are in a chunk, on the way back, beside the caller."""


class FolderStore(Store):
    """Keeps results in an output folder; a context manager.

    Attributes:
        rows: one per frame that is done.

    Args:
        folder: gets the files; one that an interrupted run left is gone on with.
        finished: an earlier run whose results are taken over where they hold.
        layers: where the layers of an edit go, as in "layers/{}"; None keeps none.
        by_name: results are named as the frames, rather than by their numbers; what an earlier run
            named otherwise is gone on with as it is.
        results: makes the videos of the run.
        clock: gets the seconds of `write`.
    """

    quiet = False

    def __init__(
        self,
        folder: OutputFolder,
        *,
        finished: Finished | None,
        layers: str | None,
        by_name: bool,
        results: Results,
        object_ids: Sequence[int],
        clock: Stopwatch,
    ) -> None:
        self.folder, self.finished, self.layers = folder, finished, layers
        self._results, self._ids, self._clock = results, object_ids, clock
        self._writer = WriteBehind(depth=1)
        self._stack = ExitStack()
        self.rows, self.state = _resume(folder)
        self.done = len(self.rows)
        known = [*self.rows, *(finished.rows if finished else [])]
        self._by_name = by_name and all(result_file(row) == f"{row['name']}.png" for row in known)
        self._parts = _read_points(folder, self.done)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._results)
            stack.enter_context(self._writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def replay(self, clip: Clip, progress: ProgressCallback) -> None:
        for count, row in enumerate(self.rows if self._results.wanted else (), start=1):
            self._pass(clip, row)
            progress("writing videos", count, len(self.rows))

    def _pass(self, clip: Clip, row: Row) -> None:
        """Let a frame whose results are files pass to the videos."""
        if self._results.wanted:
            assert isinstance(clip, FileClip)
            frame = clip.passed((row["frame"] - clip.start) // clip.stride)
            require(
                frame is not None and frame.index == row["frame"],
                f"{clip.name} changed while it was read",
            )
            assert frame is not None
            self._writer.do(self._results.add, frame, result_file(row))

    def keep(self, frames: Sequence[Frame], results: Sequence[FrameResult], state: Tensors) -> None:
        for frame, result in zip(frames, results, strict=True):
            self._writer.do(self._write, frame, result)
        points = [result.points for result in results if result.points is not None]
        if points:
            self._parts |= {self.done + n: found for n, found in enumerate(points)}
            path = self._points_file("forward", self.done)
            self._writer.do(write_tensors, path, _stack(points), {})
        rows = [
            frame_row(frame, result, self._ids, self._file(frame))
            for frame, result in zip(frames, results, strict=True)
        ]
        self._record(rows, state)

    def _file(self, frame: Frame) -> str:
        return f"{frame.name}.png" if self._by_name else f"{frame.index:05d}.png"

    def _write(self, frame: Frame, result: FrameResult) -> None:
        file = self._file(frame)
        with self._clock.stage("write"):
            if result.labels is not None:
                write_labels(self.folder.file(f"masks/{file}"), result.labels)
            if result.edited is not None:
                write_image(self.folder.file(f"frames/{file}"), result.edited)
            if result.layer is not None and self.layers is not None:
                layer = _straight(result.layer)
                write_image(self.folder.file(self.layers.format(file)), layer)
        self._results.add(frame, file)

    def _record(self, rows: list[Row], state: Tensors) -> None:
        self.rows += rows
        self.done += len(rows)
        # The state as it is now: the next chunk changes it while this one is written.
        tensors = {k: v.cpu().contiguous() for k, v in state.items()}
        self._writer.do(_save_state, self.folder, tensors, rows, self.done)

    def wait(self) -> None:
        self._writer.wait()

    def take_over(
        self,
        stretch: Stretch,
        clip: Clip,
        object_ids: Sequence[int],
        progress: ProgressCallback,
    ) -> bool:
        if self.finished is None or stretch not in self.finished.stretches:
            return False
        for row in self.finished.rows[self.done : stretch.stop]:
            file = result_file(row)
            copies = {f"{part}/{file}": f"{part}/{file}" for part in ("masks", "frames")}
            if self.layers is not None:
                copies[f"layers/{file}"] = self.layers.format(file)
            for old, new in copies.items():
                if (self.finished.folder / old).is_file():
                    self._writer.do(_copy, self.finished.folder / old, self.folder.file(new))
            if "absent" in row:  # there may be an object more than there was
                row = row | {"absent": [i for i in object_ids if str(i) not in row["area"]]}
            self._pass(clip, row)
            self._record([row], {})
            progress("propagating", self.done, clip.about)
        return True

    def keep_back(self, start: int, tensors: Tensors) -> None:
        self._writer.do(write_tensors, self._back_file(start), tensors, {})

    def has_back(self, start: int) -> bool:
        return self._back_file(start).is_file()

    def back(self, start: int) -> Tensors:
        return read_tensors(self._back_file(start))[0]

    def drop_back(self, start: int) -> None:
        self._writer.do(self._back_file(start).unlink, True)

    def _back_file(self, start: int) -> Path:
        return self.folder.file(f"backward-{start:06d}.safetensors", private=True)

    def points(self) -> TrackedPoints | None:
        return self._parts.get(self.done - 1)

    def points_back(self, start: int) -> dict[int, TrackedPoints] | None:
        path = self._points_file("backward", start)
        return _load_points(path, start) if path.is_file() else None

    def keep_points_back(self, start: int, found: Mapping[int, TrackedPoints]) -> None:
        points = [found[position] for position in sorted(found)]
        self._writer.do(write_tensors, self._points_file("backward", start), _stack(points), {})

    def _points_file(self, way: str, start: int) -> Path:
        return self.folder.file(f"points-{way}-{start:06d}.safetensors", private=True)

    def tracks(
        self,
        queries: PointQueries,
        positions: npt.NDArray[np.int64],
        back: Mapping[int, TrackedPoints],
    ) -> PointTracks:
        """The points in every frame: followed back before their own frame, on from it."""
        shape = len(positions), self.done
        xy = np.zeros((*shape, 2), np.float32)
        visible, similarity = np.zeros(shape, np.bool_), np.zeros(shape, np.float32)
        for place in range(self.done):
            for found, chosen in ((back, positions > place), (self._parts, positions <= place)):
                if chosen.any():
                    xy[chosen, place] = found[place].xy[chosen]
                    visible[chosen, place] = found[place].visible[chosen]
                    similarity[chosen, place] = found[place].similarity[chosen]
        frames = np.array([row["frame"] for row in self.rows], np.int64)
        times = np.array([float(Fraction(row["time"])) for row in self.rows])
        return PointTracks(queries, frames, times, xy, visible, similarity)


def _stack(points: Sequence[TrackedPoints]) -> Tensors:
    return {
        "xy": torch.from_numpy(np.stack([found.xy for found in points])),
        "visible": torch.from_numpy(np.stack([found.visible for found in points])),
        "similarity": torch.from_numpy(np.stack([found.similarity for found in points])),
    }


def _load_points(path: Path, start: int) -> dict[int, TrackedPoints]:
    found = {name: tensor.numpy() for name, tensor in read_tensors(path)[0].items()}
    columns = zip(found["xy"], found["visible"], found["similarity"], strict=True)
    return {start + n: TrackedPoints(*values) for n, values in enumerate(columns)}


def _read_points(folder: OutputFolder, done: int) -> dict[int, TrackedPoints]:
    """The points of the frames that are done, by position."""
    found: dict[int, TrackedPoints] = {}
    while len(found) < done:
        path = folder.file(f"points-forward-{len(found):06d}.safetensors", private=True)
        if not path.is_file():
            return {}  # there are none
        found |= _load_points(path, len(found))
    return found


def _straight(layer: EditLayer) -> npt.NDArray[np.uint8]:
    """A layer as RGBA bytes (H, W, 4), colours not multiplied by the opacity."""
    values = layer.premultiplied
    alpha = values[..., 3:]
    colours = np.divide(values[..., :3], alpha, out=np.zeros_like(values[..., :3]), where=alpha > 0)
    both = np.concatenate([colours.clip(0, 1), alpha], axis=2)
    return np.asarray(np.rint(both * 255), np.uint8)


def _resume(folder: OutputFolder) -> tuple[list[Row], dict[str, torch.Tensor]]:
    """Rows of an interrupted run and the state that its last frames left."""
    path, table = folder.file(_STATE, private=True), folder.file(ROWS)
    if not path.is_file():
        table.unlink(missing_ok=True)
        return [], {}
    state, metadata = read_tensors(path)
    done = int(metadata["done"])
    # Rows beyond the state belong to frames that are computed again.
    rows = read_rows(table, count=done)
    write_text(table, "".join(json.dumps(row) + "\n" for row in rows))
    _log.info("going on after frame %d of an interrupted run", rows[-1]["frame"])
    return rows, state


def _save_state(
    folder: OutputFolder, tensors: dict[str, torch.Tensor], fresh: Iterable[Row], done: int
) -> None:
    """New rows first, then the state that counts them: a kill in between only repeats work."""
    with folder.file(ROWS).open("a", encoding="utf-8") as table:
        table.writelines(json.dumps(row) + "\n" for row in fresh)
    path = folder.file(_STATE, private=True)
    write_tensors(path, tensors or {_EMPTY: torch.zeros(1)}, {"done": str(done)})


def _copy(source: Path, target: Path) -> None:
    with written_whole(target) as partial:
        shutil.copyfile(source, partial)
