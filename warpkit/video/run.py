"""Propagate through a video file or frame folder and write the results into a folder.

In: a video, masks of any of its frames and/or an edit of its first and/or points of any. Out:
`masks/`, `overlay.mp4`, `frames/`, `edited.mp4`, `points.*`, `frames.jsonl`, `report.*`,
`run.json`, and exports on request. A killed run goes on where it was and ends with the same files.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from warpkit.checks import (
    InputError,
    OutputError,
    check_points,
    is_file,
    one_of,
    require,
)
from warpkit.describe.options import ModelOptions
from warpkit.io.config import to_dict
from warpkit.io.frames import is_apart, open_frames
from warpkit.io.points import PointQueries, PointTracks, read_tracks, write_tracks
from warpkit.io.whole import write_json
from warpkit.match.matcher import asked_matcher
from warpkit.propagate import colormap_layer
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.frame_rows import Row, result_file
from warpkit.runs.progress import Bar, ProgressCallback, no_progress
from warpkit.runs.task import accept_unfinished, file_identity, input_files
from warpkit.types import Describer
from warpkit.version import __version__
from warpkit.video.annotations import MasksByFrame, by_index, read_annotations
from warpkit.video.clip import FileClip
from warpkit.video.config import PropagateSettings
from warpkit.video.driver import follow_back, propagate_clip
from warpkit.video.edits import read_edit
from warpkit.video.inputs import ClipInputs
from warpkit.video.propagation import Propagation
from warpkit.video.report import absences, edit_models, write_quality
from warpkit.video.results import Results, check_exports
from warpkit.video.store import Finished, FolderStore
from warpkit.video.stretches import require_label_memory
from warpkit.video.update import finished_run, plan_of

__all__ = ["run_propagate"]

_log = logging.getLogger("warpkit")
_NAMES = ("auto", "frames", "number")


def run_propagate(
    video: Path | str,
    output: Path | str,
    *,
    mask: Path | str | MasksByFrame | None = None,
    edit: Path | str | None = None,
    colormap: bool = False,
    points: PointQueries | npt.NDArray[np.float32] | None = None,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    export: Sequence[str] = (),
    names: Literal["auto", "frames", "number"] = "auto",
    settings: PropagateSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
    update: bool = False,
    describer: Describer | None = None,
    progress: ProgressCallback = no_progress,
) -> Path:
    """Propagate masks, an edit and points through a clip.

    Args:
        video: video file or folder of frames.
        output: folder to fill. If an earlier run with the same inputs and configuration was
            interrupted, it is continued.
        mask: object ids of the first frame (any kind of mask file), or of the later frame of a
            folder whose name the file has; or files by the frame that they belong to: its index,
            from 0, or as text what a user calls it (`Frames.find`).
        edit: the first frame edited (the difference is propagated), or a picture with transparency
            of the frame's size (propagated as a layer).
        colormap: propagate a position-coded colour map over the mask instead of an edit.
        points: points of any frames; an array (N, 2) is of the first frame.
        start: first frame, end: frame to stop before, stride: take every `stride`-th frame.
        export: further files: `png` (cut-outs and layers as RGBA), `prores`, `ffv1` (the same as
            video with opacity), `coco` (masks as run lengths).
        names: of results: as the `frames`, by `number` from 0 in five digits, or `auto`, which is
            as the frames where the names of these are other numbers.
        update: the output folder holds a finished run of the same task with other masks: propagate
            again only the frames that the change concerns, and replace its results.
        settings: how things are propagated.
        options: the model, and the engine that searches dense fields.
        describer: that model, where it is loaded already.
        progress: hears of every chunk of frames.

    Returns:
        The output folder.

    Raises:
        InputError: inputs that cannot be used, or an output folder that holds something.
    """
    settings, options = settings or PropagateSettings(), options or ModelOptions()
    replaces = overwrite or update
    OutputFolder(output, overwrite=replaces).check()
    masks: MasksByFrame = {Path(mask): mask} if isinstance(mask, Path | str) else mask or {}
    given = [Path(file) for file in masks.values()]
    if edit is not None and is_apart(Path(edit), Path(video), without=given):
        given.append(Path(edit))
    job = _Job(Path(video), start, end, stride, settings, options, given)
    job.name(one_of(names, _NAMES, "kind of names"))
    job.give(masks=masks, edit=edit, colormap=colormap, points=points, export=export, update=update)
    # Everything is checked before the folder is touched: a mistyped option drops no earlier work.
    finished = job.load(describer, Path(output) if update else None)
    read = [*input_files(video), *job.masks.values(), edit]
    with OutputFolder(output, overwrite=replaces, resume=True, inputs=read) as folder:
        accept_unfinished(folder, job.task(), drop_others=replaces)
        try:
            rows, tracks = job.propagate(folder, finished, progress)
        except OutputError:
            raise  # a full disk can be mended: the work done so far is kept
        except InputError:
            # Running again would meet the same input: nothing to continue.
            folder.abandon()
            raise
        with job.clock.stage("write report"):
            job.write(folder, rows, tracks)
        facts = job.facts(rows)
        record = run_record("propagate", (options, settings), job.clock.seconds, facts)
        write_json(folder.file("run.json"), record)
    return Path(output)


class _Job:
    """What is to be done, step by step; `clock` holds seconds by step, `stages` in all threads."""

    def __init__(
        self,
        video: Path,
        start: int,
        end: int | None,
        stride: int,
        settings: PropagateSettings,
        options: ModelOptions,
        given: Sequence[Path],
    ) -> None:
        self.options, self.settings = options, settings
        self.clock, self.stages = Stopwatch(), Stopwatch()
        self.frames = open_frames(video, start=start, end=end, stride=stride, without=given)
        self.clip = FileClip(
            self.frames,
            start=start,
            stride=stride,
            cut_threshold=settings.threshold,
            clock=self.stages,
        )
        first = self.clip.passed(0)
        require(first is not None, f"{video} has no frames")
        assert first is not None
        self.first = first
        self.inputs: dict[str, Any] = {
            "video": file_identity(video, without=self.frames.left_out),
            "start": start,
            "end": end,
            "stride": stride,
        }
        self.files = {
            "aggregator": None if options.aggregator is None else file_identity(options.aggregator),
            "model": file_identity(options.model) if is_file(options.model) else None,
        }
        self.plan: list[dict[str, Any]] = []
        self.tracks: PointTracks | None = None

    def name(self, names: str) -> None:
        """Choose the names of results."""
        self.by_name = names == "frames" or (names == "auto" and self.frames.numbered)
        if names != "auto":  # runs of before there was a choice are gone on with
            self.inputs["names"] = names

    def give(
        self,
        *,
        masks: MasksByFrame,
        edit: Path | str | None,
        colormap: bool,
        points: PointQueries | npt.NDArray[np.float32] | None,
        export: Sequence[str],
        update: bool,
    ) -> None:
        """Read and check what is to be propagated."""
        start = self.clip.start
        self.masks = by_index(masks, self.frames, start=start)
        annotations = read_annotations(self.masks, self.clip, self.first)
        require(not (colormap and edit is not None), "give --edit or --colormap, not both")
        require(not colormap or 0 in annotations, "--colormap needs --mask: what it should cover")
        layer = None if edit is None else read_edit(edit, self.frames, self.first)
        if colormap:
            layer = colormap_layer(annotations[0] > 0)
        if isinstance(points, np.ndarray):
            points = PointQueries(np.full(len(points), start, np.int64), points)
        self.queries, self.edit = points, layer is not None
        require(
            bool(self.masks) or self.edit or points is not None,
            "nothing to propagate: give a mask, an edit or points",
        )
        require(not update or bool(self.masks), "--update is for runs with masks: give --mask")
        self.exports = check_exports(export)
        positions = None if points is None else _positions(points, self.clip)
        if points is not None and self.frames.numbered and (points.frames != start).any():
            _log.info("the frames of points are counted from 0, not by the numbers of their files")
        self.given = ClipInputs.checked(
            self.first.image,
            labels=None,
            annotations=annotations,
            edit=layer,
            points=None if points is None else points.xy,
            positions=positions,
            mode=self.settings.mode,
        )
        listed = None if points is None else np.column_stack([points.frames, points.xy]).tolist()
        files = {str(index): file_identity(path) for index, path in sorted(self.masks.items())}
        self.inputs |= {
            "mask": files or None,
            "edit": None if edit is None else file_identity(edit),
            "colormap": colormap,
            "points": listed,
            "export": self.exports,
            # An interrupted update is continued by an update alone: it copies part of its frames.
            "update": update,
        }

    def load(self, describer: Describer | None, update: Path | None) -> Finished | None:
        """Load the model and get ready; what a finished run in the folder to update has to give."""
        self.tracks = None if update is None else self._kept_tracks(update)
        if self.tracks is not None:
            self.given = self.given.without_points()
        if describer is None:
            height, width = self.first.image.shape[:2]
            require_label_memory(
                self.given,
                self.settings,
                cells=self.options.least_cells(height=height, width=width),
                channels=1,
                frames=self.clip.about,
                device=self.options.torch_device(),
            )
        with self.clock.stage("load model"):
            describer = describer or self.options.load_extractor()
        self.run = Propagation(
            self.first.image,
            self.given,
            describer=describer,
            settings=self.settings,
            matcher=asked_matcher(self.options.engine),
            frames=self.clip.about,
        )
        self.plan = plan_of(self.run)
        if update is None:
            return None
        layers = self._layers is not None
        finished = finished_run(update, self.task(), self.run, self.plan, layers=layers)
        # Points that are followed anew need every frame.
        anew = self.given.points is not None
        return replace(finished, stretches=frozenset()) if anew else finished

    def _kept_tracks(self, update: Path) -> PointTracks | None:
        """Those of the finished run: points depend on no mask, where the clip's end does not."""
        path = update / "points.npz"
        if self.queries is None or self.settings.cuts == "stop" or not path.is_file():
            return None
        return read_tracks(path)

    def task(self) -> dict[str, Any]:
        """What an interrupted run must agree in to be continued."""
        return {
            "inputs": self.inputs,
            "config": to_dict((self.options, self.settings)),
            **self.files,
            "version": __version__,
        }

    @property
    def _layers(self) -> str | None:
        """Where the layers of an edit go; hidden among the results unless they are asked for."""
        if not self.edit or not set(self.exports) - {"coco"}:
            return None
        return "layers/{}" if "png" in self.exports else "layer-{}"

    def propagate(
        self, folder: OutputFolder, finished: Finished | None, progress: ProgressCallback
    ) -> tuple[list[Row], PointTracks | None]:
        """One row per frame, and the tracks of the points."""
        results = Results(
            folder,
            self.frames,
            self.first,
            masks=bool(self.masks),
            edit=self.edit,
            layers=self._layers,
            exports=self.exports,
            frame_rate=self.frames.frame_rate / self.clip.stride,
            clock=self.stages,
        )
        store = FolderStore(
            folder,
            finished=finished,
            layers=self._layers,
            by_name=self.by_name,
            results=results,
            object_ids=self.run.object_ids,
            clock=self.stages,
        )
        tracks = self.tracks
        with self.clock.stage("propagate"), closing(self.clip), store:
            bar = Bar(total=self.clip.about, desc="propagate", unit="frame")
            with bar:
                bar.update(store.done)
                for _ in propagate_clip(self.run, self.clip, store, progress=progress):
                    bar.update(store.done - bar.n)
                bar.update(store.done - bar.n)
            if self.given.points is not None and self.queries is not None:
                _check_reached(self.queries, self.given.positions, store.rows)
                back = follow_back(self.run, self.clip, store, progress=progress)
                tracks = store.tracks(self.queries, self.given.positions, back)
        return store.rows, tracks

    def write(self, folder: OutputFolder, rows: list[Row], tracks: PointTracks | None) -> None:
        """Tracks and the report."""
        if self._layers is not None:
            for row in rows:
                folder.file(
                    self._layers.format(result_file(row)), private="png" not in self.exports
                )
        if tracks is not None:
            for suffix in ("json", "csv", "npz"):
                write_tracks(folder.file(f"points.{suffix}"), tracks)
        write_quality(folder, self.frames, rows, tracks, masks=bool(self.masks))

    def facts(self, rows: list[Row]) -> dict[str, Any]:
        """What `run.json` says beside the configuration."""
        seconds = dict(self.stages.seconds)
        for name, spent in self.run.clock.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + spent
        for i, spans in absences(rows).items():
            places = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)
            _log.info("object %s is absent from frames %s", i, places)
        for i, entry in edit_models(rows).items():
            taken = ", ".join(f"{model} {count}" for model, count in entry["frames"].items())
            if self.settings.edit_mode == "track":
                _log.info("the edit of object %s moves as (frames): %s", i, taken)
            for first, last in entry["lost"]:
                _log.warning("the edit of object %s is lost in frames %d to %d", i, first, last)
        return {
            "inputs": self.inputs,
            "frames": len(rows),
            **self.files,
            "stretches": self.plan,
            "absent": absences(rows),
            "cuts": [row["frame"] for row in rows if row.get("cut")],
            "edit": edit_models(rows),
            # Of the work in all threads: beside each other, so that they add up to more.
            "stages": {name: round(spent, 4) for name, spent in sorted(seconds.items())},
        }


def _positions(queries: PointQueries, clip: FileClip) -> npt.NDArray[np.int64]:
    """The place of every point's frame among those taken; checks the points."""
    clip.position_of(int(queries.frames.max()))
    places = [clip.position_of(int(index)) for index in queries.frames]
    for index, place in zip(queries.frames, places, strict=True):
        require(
            place is not None,
            f"a point is of frame {index}, which is not among the frames taken {clip.selection()}",
        )
    check_points(queries.xy, height=clip.frames.height, width=clip.frames.width)
    return np.array(places, np.int64)


def _check_reached(
    queries: PointQueries, positions: npt.NDArray[np.int64], rows: Sequence[Row]
) -> None:
    """Raise where a point is of a frame behind the end."""
    beyond = queries.frames[positions >= len(rows)]
    require(
        not len(beyond),
        f"a point is of frame {beyond[0] if len(beyond) else ''}, but the clip is followed up to"
        f" frame {rows[-1]['frame']} alone",
    )
