"""The frames of a clip carried into an output folder, chunk by chunk, so that a kill loses little.

In: the frames, a `Propagation`, the folder. Out: `masks/`, `frames/` and one row per frame in
`frames.jsonl`. Beside them, until the run ends: the state after the last whole chunk, and what was
carried back from the annotated frame ahead.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from warpkit.checks import require
from warpkit.io.frames import Frame, Frames
from warpkit.io.images import write_image
from warpkit.io.masks import write_labels
from warpkit.io.output import OutputFolder
from warpkit.jobs.carrier import Propagation
from warpkit.jobs.propagation_config import FrameResult
from warpkit.propagate.passes import Stretch

__all__ = ["ROWS", "Finished", "Reader", "carry_all"]

ROWS = "frames.jsonl"

_log = logging.getLogger("warpkit")
_STATE = "state.safetensors"
# A safetensors file needs a tensor; a run without label propagation has no state of its own.
_EMPTY = "nothing"
# Frames of a stretch are read in blocks from its end, each from the front of a video.
_BLOCK_BYTES = 256e6

Image = npt.NDArray[np.uint8]
Row = dict[str, Any]


@dataclass(frozen=True)
class Reader:
    """Frames by their position among those selected.

    Attributes:
        frames: the selection.
        start, stride: how it was selected.
    """

    frames: Frames
    start: int = 0
    stride: int = 1

    def one(self, position: int) -> Frame:
        return self.frames.read(self.start + position * self.stride)

    def span(self, position: int, stop: int | None) -> Iterator[Frame]:
        """The frames from a position on; those of a video before it are decoded."""
        if self.frames.names is None:
            yield from itertools.islice(iter(self.frames), position, stop)
        else:
            count = len(self.frames.names)
            yield from map(self.one, range(position, count if stop is None else min(stop, count)))


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


def carry_all(
    folder: OutputFolder, reader: Reader, run: Propagation, finished: Finished | None = None
) -> list[Row]:
    """Carry to every frame, writing as it goes; returns one row per frame.

    Args:
        finished: an earlier run whose results are taken over where they hold.
    """
    return _Carrying(folder, reader, run, finished).carry()


class _Carrying:
    """One pass through a clip; `rows` holds what is done, one per frame from the first on."""

    def __init__(
        self, folder: OutputFolder, reader: Reader, run: Propagation, finished: Finished | None
    ) -> None:
        self.folder, self.reader, self.run, self.finished = folder, reader, run, finished
        self.frames = reader.frames
        self.chunk = run.config.chunk
        self.rows, self._soft = _resume(folder)

    def carry(self) -> list[Row]:
        total, done = self.frames.count, len(self.rows)
        with tqdm(total=total, initial=done, desc="propagate", unit="frame", disable=None) as bar:
            self._bar = bar
            for stretch in self.run.stretches():
                self._given(stretch)
                if stretch.stop is not None and len(self.rows) >= stretch.stop:
                    pass  # done by the run that was interrupted
                elif self.finished is not None and stretch in self.finished.stretches:
                    self._take_over(stretch, self.finished)
                else:
                    self._carry(stretch)
                for start in range(stretch.first, stretch.stop or 0, self.chunk):
                    self._back_file(start).unlink(missing_ok=True)
        return self.rows

    def _given(self, stretch: Stretch) -> None:
        """The annotated frames before a stretch."""
        while len(self.rows) < stretch.first:
            position = len(self.rows)
            frame = self.reader.one(position)
            self._write([frame], [self.run.known_result(position, frame.image)])

    def _carry(self, stretch: Stretch) -> None:
        known = {p: self.reader.one(p).image for p in stretch.known if p > 0}
        if stretch.stop is not None:
            self._carry_back(stretch, stretch.stop, known)
        self.run.begin(stretch, known)
        done = len(self.rows)
        if done > stretch.first:
            self._restore(stretch, known)
        following = self.reader.span(done, stretch.stop)
        for start in itertools.count(done, self.chunk):
            frames = list(itertools.islice(following, self.chunk))
            if not frames:
                break
            back = None
            if stretch.stop is not None:
                back = load_file(self._back_file(start))["soft"]
            self._write(frames, self.run.advance([f.image for f in frames], back))
        require(
            stretch.stop is None or len(self.rows) == stretch.stop,
            f"there is no frame {stretch.stop} to annotate: {self.frames.path} has"
            f" {len(self.rows)} frames",
        )

    def _restore(self, stretch: Stretch, known: Mapping[int, Image]) -> None:
        """Bring the run to the last whole chunk of an interrupted one."""
        done = len(self.rows)
        needed = min(done - stretch.first, self.run.context_length)
        # The context is described in the chunks of the first run, so that it comes out the same.
        begin = stretch.first + (done - needed - stretch.first) // self.chunk * self.chunk
        again = self.reader.span(begin, done)
        context, images = [], []
        while chunk := [frame.image for frame in itertools.islice(again, self.chunk)]:
            images += chunk
            context += self.run.describe(chunk)
        skipped = len(context) - needed
        self.run.restore(self._soft, context[skipped:], images[skipped:], known, done)

    def _carry_back(self, stretch: Stretch, stop: int, known: Mapping[int, Image]) -> None:
        """Soft labels of the stretch from the annotated frame after it, in a file per chunk."""
        starts = list(range(stretch.first, stop, self.chunk))
        kept = list(itertools.takewhile(lambda s: self._back_file(s).is_file(), reversed(starts)))
        if len(kept) == len(starts) or len(self.rows) > stretch.first:
            return
        self.run.begin(stretch, known, backward=True)
        if kept:
            _log.info("going on before frame %d of an interrupted run", kept[-1])
            self._restore_back(kept[-1], stop, known)
        todo = starts[: len(starts) - len(kept)]
        each = self.frames.height * self.frames.width * 3 * self.chunk
        block = max(1, int(_BLOCK_BYTES / each))
        left = min(todo[-1] + self.chunk, stop) - stretch.first
        with tqdm(total=left, desc="backward", unit="frame", disable=None, leave=False) as bar:
            while todo:
                todo, last = todo[:-block], todo[-block:]
                end = min(last[-1] + self.chunk, stop)
                images = [frame.image for frame in self.reader.span(last[0], end)]
                for start in reversed(last):
                    part = images[start - last[0] : start - last[0] + self.chunk]
                    soft = self.run.carry_back(part)
                    state = self.run.state()["soft"]
                    _save({"soft": soft, "kept": state}, self._back_file(start), {})
                    bar.update(len(part))

    def _restore_back(self, start: int, stop: int, known: Mapping[int, Image]) -> None:
        needed = min(stop - start, self.run.context_length)
        end = min(start + -(-needed // self.chunk) * self.chunk, stop)
        images = [frame.image for frame in self.reader.span(start, end)]
        context = []
        for first in range(0, len(images), self.chunk):
            context += self.run.describe(images[first : first + self.chunk])
        self.run.restore(
            load_file(self._back_file(start))["kept"],
            context[:needed][::-1],
            images[:needed][::-1],
            known,
            start,
        )

    def _back_file(self, start: int) -> Path:
        return self.folder.file(f"backward-{start:06d}.safetensors", private=True)

    def _take_over(self, stretch: Stretch, finished: Finished) -> None:
        """Copy what an earlier run made of a stretch."""
        for row in finished.rows[len(self.rows) : stretch.stop]:
            for name in (f"masks/{row['frame']:05d}.png", f"frames/{row['frame']:05d}.png"):
                if (finished.folder / name).is_file():
                    _copy(finished.folder / name, self.folder.file(name))
            if "absent" in row:  # there may be an object more than there was
                absent = [i for i in self.run.object_ids if str(i) not in row["area"]]
                row = row | {"absent": absent}
            self._record([row])

    def _write(self, frames: list[Frame], results: list[FrameResult]) -> None:
        fresh = []
        for frame, result in zip(frames, results, strict=True):
            if result.labels is not None:
                write_labels(self.folder.file(f"masks/{frame.index:05d}.png"), result.labels)
            if result.edited is not None:
                write_image(self.folder.file(f"frames/{frame.index:05d}.png"), result.edited)
            fresh.append(_row(frame, result, self.run.object_ids))
        self._record(fresh)

    def _record(self, fresh: list[Row]) -> None:
        self.rows += fresh
        _save_state(self.folder, self.run, fresh, len(self.rows))
        self._bar.update(len(fresh))


def _resume(folder: OutputFolder) -> tuple[list[Row], torch.Tensor]:
    """Rows of an interrupted run and the labels that its last frames left as context."""
    path, table = folder.file(_STATE, private=True), folder.file(ROWS)
    if not path.is_file():
        table.unlink(missing_ok=True)
        return [], torch.zeros(0)
    with safe_open(str(path), framework="pt") as file:
        done = int((file.metadata() or {})["done"])
        soft = file.get_tensor("soft") if "soft" in file.keys() else torch.zeros(0)  # noqa: SIM118
    # Rows beyond the state belong to frames that are carried again.
    lines = table.read_text(encoding="utf-8").splitlines()[:done]
    rows: list[Row] = [json.loads(line) for line in lines]
    _replace(table, "".join(line + "\n" for line in lines).encode())
    _log.info("going on after frame %d of an interrupted run", rows[-1]["frame"])
    return rows, soft


def _save_state(folder: OutputFolder, run: Propagation, fresh: list[Row], done: int) -> None:
    """New rows first, then the state that counts them: a kill in between only repeats work."""
    with folder.file(ROWS).open("a", encoding="utf-8") as table:
        table.writelines(json.dumps(row) + "\n" for row in fresh)
    tensors = {k: v.cpu().contiguous() for k, v in run.state().items()}
    path = folder.file(_STATE, private=True)
    _save(tensors or {_EMPTY: torch.zeros(1)}, path, {"done": str(done)})


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    temporary = path.with_name(f".{path.name}")
    save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)  # noqa: PTH105 - atomic on every system


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105 - atomic on every system


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)  # noqa: PTH105 - atomic on every system


def _row(frame: Frame, result: FrameResult, object_ids: list[int]) -> Row:
    """One line of `frames.jsonl`: areas and mean confidence per object, who is absent, points."""
    row: Row = {"frame": frame.index, "name": frame.name, "time": str(frame.time)}
    if result.labels is not None and result.confidence is not None:
        ids = [int(i) for i in np.unique(result.labels) if i > 0]
        inside = {i: result.labels == i for i in ids}
        row["area"] = {str(i): int(inside[i].sum()) for i in ids}
        row["confidence"] = {
            str(i): round(float(result.confidence[inside[i]].mean()), 4) for i in ids
        }
        row["frame_confidence"] = round(result.frame_confidence or 0.0, 4)
        row["absent"] = [i for i in object_ids if i not in ids]
        row["given"] = result.given
    if result.points is not None:
        row["points"] = result.points.xy.round(3).tolist()
        row["visible"] = result.points.visible.tolist()
    return row
