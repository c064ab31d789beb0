"""The frames of a clip carried into an output folder, chunk by chunk, so that a kill loses little.

In: the frames, a `Propagation`, the folder. Out: `masks/`, `frames/`, `layers/` and one row per
frame in `frames.jsonl`. Beside them, until the run ends: the state after the last whole chunk, and
what was carried back from the annotated frame ahead. Frames are read ahead by a thread, results
written by another; what a state counts is written before it.
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tqdm import tqdm

from warpkit.checks import require
from warpkit.io.frame import Frame
from warpkit.io.images import write_image
from warpkit.io.masks import write_labels
from warpkit.io.tensors import write_tensors
from warpkit.io.whole import write_text, written_whole
from warpkit.propagate import EditLayer
from warpkit.propagate.passes import Stretch
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder
from warpkit.runs.progress import ProgressCallback, no_progress
from warpkit.runs.threads import ReadAhead, WriteBehind
from warpkit.video.carrier import Propagation
from warpkit.video.config import FrameResult
from warpkit.video.frames import Reader, Shot

__all__ = ["ROWS", "Finished", "carry_all"]

ROWS = "frames.jsonl"

_log = logging.getLogger("warpkit")
_STATE = "state.safetensors"
# A safetensors file needs a tensor; a run without label propagation has no state of its own.
_EMPTY = "nothing"
# Frames of a stretch are read in blocks from its end, each from the front of a video.
_BLOCK_BYTES = 256e6
# Frames that are read ahead of the computation, beside a chunk.
_AHEAD_BYTES = 128e6

Image = npt.NDArray[np.uint8]
Row = dict[str, Any]


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
    folder: OutputFolder,
    reader: Reader,
    run: Propagation,
    finished: Finished | None = None,
    clock: Stopwatch | None = None,
    layers: str | None = None,
    progress: ProgressCallback = no_progress,
) -> list[Row]:
    """Carry to every frame, writing as it goes; returns one row per frame.

    Args:
        layers: where the layers of an edit go by the number of the frame, as in
            "layers/{:05d}.png"; None keeps none.
        finished: an earlier run whose results are taken over where they hold.
        clock: gets the seconds of the threads, `decode` and `write`.
        progress: hears of every chunk of frames.
    """
    with WriteBehind(depth=1) as writer:
        carrying = _Carrying(folder, reader, run, finished, writer, clock or Stopwatch(), layers)
        carrying.progress = progress
        return carrying.carry()


class _Carrying:
    """One pass through a clip; `rows` holds what is done, one per frame from the first on."""

    progress: ProgressCallback = staticmethod(no_progress)

    def __init__(
        self,
        folder: OutputFolder,
        reader: Reader,
        run: Propagation,
        finished: Finished | None,
        writer: WriteBehind,
        clock: Stopwatch,
        layers: str | None,
    ) -> None:
        self.folder, self.reader, self.run, self.finished = folder, reader, run, finished
        self.writer, self.clock, self.layers = writer, clock, layers
        self.frames = reader.frames
        self.chunk = run.chunk
        self.rows, self._state = _resume(folder)

    def carry(self) -> list[Row]:
        total, done = self.frames.about, len(self.rows)
        with tqdm(total=total, initial=done, desc="propagate", unit="frame", disable=None) as bar:
            self._bar = bar
            for stretch in self.run.stretches():
                self._given(stretch)
                if stretch.stop is not None and len(self.rows) >= stretch.stop:
                    pass  # done by the run that was interrupted
                elif self.finished is not None and stretch in self.finished.stretches:
                    self._take_over(stretch, self.finished)
                elif not self._carry(stretch):
                    break
                for start in range(stretch.first, stretch.stop or 0, self.chunk):
                    self.writer.do(self._back_file(start).unlink, True)
        return self.rows

    def _given(self, stretch: Stretch) -> None:
        """The annotated frames before a stretch."""
        while len(self.rows) < stretch.first:
            position = len(self.rows)
            frame = self.reader.one(position)
            self._write([frame], [self.run.known_result(position, frame.image)])

    def _carry(self, stretch: Stretch) -> bool:
        """Carry through a stretch; False if the run is to end at a scene cut in it."""
        known = {p: self.reader.one(p).image for p in stretch.known if p > 0}
        if stretch.stop is not None:
            self._carry_back(stretch, stretch.stop, known)
        self.run.begin(stretch, known)
        done = len(self.rows)
        if done > stretch.first:
            self._restore(stretch, known)
        depth = int(_AHEAD_BYTES / (self.frames.height * self.frames.width * 3))
        shots = self.reader.shots(done, stretch.stop, self.clock)
        with ReadAhead(shots, depth=min(2 * self.chunk, max(1, depth))) as ahead:
            following = iter(ahead)
            for start in itertools.count(done, self.chunk):
                chunk = list(itertools.islice(following, self.chunk))
                if not chunk:
                    break
                if self._advance(chunk, start, stretch):
                    return False
        require(
            stretch.stop is None or len(self.rows) == stretch.stop,
            f"there is no frame {stretch.stop} to annotate: {self.frames.path} has"
            f" {len(self.rows)} frames",
        )
        return True

    def _advance(self, chunk: list[Shot], start: int, stretch: Stretch) -> bool:
        """Carry to a chunk of frames; True if the run is to end at a scene cut in it."""
        back = None
        if stretch.stop is not None:
            back = load_file(self._back_file(start))["soft"]
        cuts = [shot.cut for shot in chunk]
        stops = self.run.settings.cuts == "stop" and any(cuts)
        count = cuts.index(True) if stops else len(chunk)
        for shot in chunk[: count + stops]:
            if shot.cut:
                self._tell(shot.frame.index, stops)
        frames = [shot.frame for shot in chunk[:count]]
        if frames:
            images = [frame.image for frame in frames]
            back = None if back is None else back[:count]
            self._write(frames, self.run.advance(images, back, cuts[:count]))
        return stops

    def _tell(self, index: int, stops: bool) -> None:
        if stops:
            _log.warning(
                "a new scene begins with frame %d: the run ends before it; carry on with a mask of"
                " it (--start %d --mask PNG), or through it with --cuts reanchor or ignore",
                *(index, index),
            )
        else:
            _log.warning(
                "a new scene begins with frame %d: from there on objects are found from the"
                " annotated frames alone; a mask of it (--mask %d=PNG) helps",
                *(index, index),
            )

    def _restore(self, stretch: Stretch, known: Mapping[int, Image]) -> None:
        """Bring the run to the last whole chunk of an interrupted one."""
        done = len(self.rows)
        soft = self._state.get("soft", torch.zeros(0))
        needed = len(soft)
        # The context is described in the chunks of the first run, so that it comes out the same.
        begin = stretch.first + (done - needed - stretch.first) // self.chunk * self.chunk
        again = self.reader.span(begin, done)
        context, images = [], []
        while chunk := [frame.image for frame in itertools.islice(again, self.chunk)]:
            images += chunk
            context += self.run.describe(chunk)
        skipped = len(context) - needed
        self.run.restore(soft, context[skipped:], images[skipped:], known, done)
        if self.run.needs_last_frame:
            self.run.restore_edit(self._state, self.reader.one(done - 1).image)

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
        left = min(todo[-1] + self.chunk, stop) - stretch.first
        with (
            tqdm(total=left, desc="backward", unit="frame", disable=None, leave=False) as bar,
            ReadAhead(self._blocks(todo, stop), depth=1) as blocks,
        ):
            for start, shots, cut_after in blocks:
                cuts = [*(shot.cut for shot in shots[1:]), cut_after]
                soft = self.run.carry_back([shot.frame.image for shot in shots], cuts)
                state = self.run.state()["soft"]
                tensors = {"soft": soft, "kept": state}
                self.writer.do(write_tensors, self._back_file(start), tensors, {})
                bar.update(len(shots))
                self.progress("carrying back", int(bar.n), left)
        self.writer.wait()  # the files are read next

    def _blocks(self, starts: list[int], stop: int) -> Iterator[tuple[int, list[Shot], bool]]:
        """Chunks from the last to the first, and whether a new scene begins after each."""
        each = self.frames.height * self.frames.width * 3 * self.chunk
        block = max(1, int(_BLOCK_BYTES / each))
        cut_after: bool | None = None
        while starts:
            starts, last = starts[:-block], starts[-block:]
            end = min(last[-1] + self.chunk, stop)
            # One frame more tells whether a scene begins after the last block.
            more = 1 if cut_after is None else 0
            shots = list(self.reader.shots(last[0], end + more, self.clock))
            if cut_after is None:
                cut_after = shots[-1].cut if len(shots) > end - last[0] else False
            for start in reversed(last):
                part = shots[start - last[0] : min(start + self.chunk, end) - last[0]]
                yield start, part, cut_after
                cut_after = part[0].cut

    def _restore_back(self, start: int, stop: int, known: Mapping[int, Image]) -> None:
        kept = load_file(self._back_file(start))["kept"]
        needed = len(kept)
        end = min(start + -(-needed // self.chunk) * self.chunk, stop)
        images = [frame.image for frame in self.reader.span(start, end)]
        context = []
        for first in range(0, len(images), self.chunk):
            context += self.run.describe(images[first : first + self.chunk])
        self.run.restore(kept, context[:needed][::-1], images[:needed][::-1], known, start)

    def _back_file(self, start: int) -> Path:
        return self.folder.file(f"backward-{start:06d}.safetensors", private=True)

    def _take_over(self, stretch: Stretch, finished: Finished) -> None:
        """Copy what an earlier run made of a stretch."""
        for row in finished.rows[len(self.rows) : stretch.stop]:
            file = f"{row['frame']:05d}.png"
            copies = {f"{part}/{file}": f"{part}/{file}" for part in ("masks", "frames")}
            if self.layers is not None:
                copies[f"layers/{file}"] = self.layers.format(row["frame"])
            for old, new in copies.items():
                if (finished.folder / old).is_file():
                    self.writer.do(_copy, finished.folder / old, self.folder.file(new))
            if "absent" in row:  # there may be an object more than there was
                absent = [i for i in self.run.object_ids if str(i) not in row["area"]]
                row = row | {"absent": absent}
            self._record([row])

    def _write(self, frames: list[Frame], results: list[FrameResult]) -> None:
        for frame, result in zip(frames, results, strict=True):
            self.writer.do(self._write_frame, frame.index, result)
        self._record(
            [
                _row(frame, result, self.run.object_ids)
                for frame, result in zip(frames, results, strict=True)
            ]
        )

    def _write_frame(self, index: int, result: FrameResult) -> None:
        with self.clock.stage("write"):
            file = f"{index:05d}.png"
            if result.labels is not None:
                write_labels(self.folder.file(f"masks/{file}"), result.labels)
            if result.edited is not None:
                write_image(self.folder.file(f"frames/{file}"), result.edited)
            if result.layer is not None and self.layers is not None:
                write_image(self.folder.file(self.layers.format(index)), _straight(result.layer))

    def _record(self, fresh: list[Row]) -> None:
        self.rows += fresh
        # The state as it is now: the next chunk changes it while this one is written.
        tensors = {k: v.cpu().contiguous() for k, v in self.run.state().items()}
        self.writer.do(_save_state, self.folder, tensors, fresh, len(self.rows))
        self._bar.update(len(fresh))
        self.progress("propagating", len(self.rows), self.frames.about)


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
    with safe_open(str(path), framework="pt") as file:
        done = int((file.metadata() or {})["done"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    # Rows beyond the state belong to frames that are carried again.
    lines = table.read_text(encoding="utf-8").splitlines()[:done]
    rows: list[Row] = [json.loads(line) for line in lines]
    write_text(table, "".join(line + "\n" for line in lines))
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


def _row(frame: Frame, result: FrameResult, object_ids: list[int]) -> Row:
    """One line of `frames.jsonl`: areas and mean confidence per object, who is absent, cuts."""
    row: Row = {"frame": frame.index, "name": frame.name, "time": str(frame.time)}
    if result.cut:
        row["cut"] = True
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
    return row
