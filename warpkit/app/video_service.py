"""Videos on the page: a clip in, a run with progress, frames to look at, corrections."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.app.pictures import decode_labels, decode_layer
from warpkit.app.queue import Job
from warpkit.app.service import Labels, Service, in_words, safe_title
from warpkit.app.workspace import Session, Upload, Workspace
from warpkit.checks import InputError, require
from warpkit.describe.options import ModelOptions
from warpkit.io.frames import open_frames
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.points import read_tracks
from warpkit.io.video import VideoWriter
from warpkit.render import CLIPS, render_frame
from warpkit.runs.frame_rows import ROWS, Row, read_rows, result_file
from warpkit.runs.progress import ProgressCallback
from warpkit.video.run import run_propagate
from warpkit.viz import draw_points, overlay_labels

__all__ = ["VideoRun", "VideoService"]

_EXAMPLE = "turtle"
_EXAMPLE_FRAMES = 12


@dataclass
class VideoRun:
    """A finished run: what it was told, and where its results are.

    Attributes:
        name: under which it is asked for.
        clip: the video.
        folder: the results of `warpkit propagate`.
        archive: all of them in one file.
        masks: mask files by the number of their frame.
        rows: what the run says of every frame, in order.
        text: a sentence about it.
    """

    name: str
    clip: Upload
    folder: Path
    options: ModelOptions
    masks: dict[int, Path]
    edit: Path | None
    points: npt.NDArray[np.float32] | None
    stride: int
    archive: Path | None = None
    rows: list[Row] = field(default_factory=list)
    text: str = ""

    @property
    def frames(self) -> list[int]:
        """Numbers of the frames, in order."""
        return [row["frame"] for row in self.rows]

    def result(self, kind: str, index: int) -> Path:
        """A frame's file in `masks` or `frames`, by the frame's number."""
        return self.folder / kind / result_file(self.rows[self.frames.index(index)])

    def video(self) -> Path | None:
        """The video to show: edited if there was an edit, else with the masks drawn in."""
        names = ("edited.mp4", "overlay.mp4")
        return next((self.folder / n for n in names if (self.folder / n).is_file()), None)


class VideoService:
    """Jobs on videos, beside those of a `Service`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._example: list[tuple[npt.NDArray[np.uint8], Labels]] = []

    @property
    def workspace(self) -> Workspace:
        return self.service.workspace

    @in_words
    def take_clip(self, visitor: str, path: Any, title: Any) -> Upload:
        """Take an uploaded video after checking its length and size.

        Raises:
            InputError: a path outside the working folder, no video, too long or too large.
        """
        service = self.service
        landed, name = service.landed(path), safe_title(title)
        session = service.workspace.session(visitor)
        frames = service.limits.check_video(landed, name)
        kept = session.new_file(landed.suffix)
        shutil.copyfile(landed, kept)
        count = frames.count or 0
        return session.add(Upload(kept.name, kept, name, frames.height, frames.width, count))

    def example_clip(self, visitor: str) -> tuple[Upload, Labels]:
        """A short rendered clip with the mask of its first frame."""
        service = self.service
        session = service.workspace.session(visitor)
        with service.drawing:
            if not self._example:
                spec = dataclasses.replace(CLIPS[_EXAMPLE], supersampling=1)
                for t in range(_EXAMPLE_FRAMES):
                    frame = render_frame(spec, 2 * t)
                    self._example.append((frame.image, (frame.labels > 0).astype(np.uint8)))
        kept = session.new_file(".mp4")
        height, width = self._example[0][1].shape
        with VideoWriter(kept, height=height, width=width, frame_rate=Fraction(12)) as writer:
            for image, _ in self._example:
                writer.write(image)
        upload = Upload(kept.name, kept, f"{_EXAMPLE} (rendered)", height, width, _EXAMPLE_FRAMES)
        return session.add(upload), self._example[0][1]

    @in_words
    def first_frame(self, visitor: str, clip: str) -> Path:
        """The first frame of a clip as a picture."""
        session = self.service.workspace.session(visitor)
        path = session.new_file(".png")
        write_image(path, open_frames(session.upload(clip, "a video").path).read(0).image)
        return path

    @in_words
    def cut_out(
        self, visitor: str, clip: str, box: Any, *, frame: int = 0, label: int = 1
    ) -> Labels:
        """The object in a box of a frame."""
        upload = self.service.workspace.session(visitor).upload(clip, "a video")
        image = open_frames(upload.path).read(frame).image
        return self.service.cut_out_of(image, box, label=label)

    @in_words
    def propagate(
        self,
        visitor: str,
        model: str,
        *,
        clip: str,
        labels: str = "",
        layer: str = "",
        points: Any = None,
        stride: Any = 1,
    ) -> Job:
        """Carry what was drawn on the first frame through a clip.

        Args:
            clip: name of the upload.
            labels: painted object ids as a canvas sends them.
            layer: painted colours as a canvas sends them.
            points: clicked points.
            stride: take every `stride`-th frame.

        Returns:
            A job whose result is a `VideoRun`.

        Raises:
            InputError: nothing was drawn, too many frames, or a full queue.
        """
        service, limits = self.service, self.service.limits
        session = service.workspace.session(visitor)
        upload = session.upload(clip, "a video")
        step = _whole(stride, "step", least=1)
        taken = -(-upload.frames // step)
        require(
            taken <= limits.frames,
            f"{upload.title} has {upload.frames} frames: this page takes at most {limits.frames}."
            f" Take every {-(-upload.frames // limits.frames)}th frame, or use the command line",
        )
        size = {"height": upload.height, "width": upload.width}
        found, colours = decode_labels(labels, **size), decode_layer(layer, **size)
        xy = np.array(service.check_points(points), np.float32) if points else None
        require(
            found is not None or colours is not None or xy is not None,
            "nothing to propagate: paint an object or colours on the first frame, or click points",
        )
        masks: dict[int, Path] = {}
        if found is not None:
            masks[0] = _written(session, found)
        edit = None
        if colours is not None:
            edit = session.new_file(".png")
            write_image(edit, colours)
        home = session.new_folder()
        run = VideoRun(
            home.name,
            upload,
            home / "results",
            service.models.options(model),
            masks,
            edit,
            xy,
            step,
        )
        return service.submit(visitor, model, "video", lambda w: self._run(session, run, model, w))

    @in_words
    def correct(self, visitor: str, model: str, *, run: Any, position: Any, labels: str) -> Job:
        """Annotate another frame of a finished run, and carry what that changes.

        Args:
            run: name of the run.
            position: of the frame among those taken.
            labels: painted object ids as a canvas sends them.

        Returns:
            A job whose result is the `VideoRun`, with new results.
        """
        session = self.service.workspace.session(visitor)
        known = self.run(visitor, run)
        require(
            known.options.model == model,
            f"this run was with the model {known.options.model}: choose it again for corrections",
        )
        require(bool(known.masks), "corrections are masks: propagate a painted object first")
        frame = self._frame(known, position)
        size = {"height": known.clip.height, "width": known.clip.width}
        found = decode_labels(labels, **size)
        if found is None:
            found = np.zeros((known.clip.height, known.clip.width), np.uint8)
        masks = {**known.masks, frame: _written(session, found)}
        changed = dataclasses.replace(known, masks=masks)
        return self.service.submit(
            visitor, model, "video", lambda w: self._run(session, changed, model, w, update=True)
        )

    def run(self, visitor: str, name: Any) -> VideoRun:
        """A finished run of a visitor.

        Raises:
            InputError: another name, a path among them.
        """
        session = self.service.workspace.session(visitor)
        if not isinstance(name, str) or name not in session.runs:
            raise InputError("there is no finished run: propagate first")
        found: VideoRun = session.runs[name]
        return found

    @in_words
    def frame_picture(self, visitor: str, run: Any, position: Any) -> Path:
        """One frame with what was carried to it drawn in."""
        known = self.run(visitor, run)
        index = self._frame(known, position)
        edited, mask = known.result("frames", index), known.result("masks", index)
        if edited.is_file():
            image = read_image(edited)
        else:
            image = open_frames(known.clip.path).read(index).image
            if mask.is_file():
                image = overlay_labels(image, read_labels(mask))
        points = known.folder / "points.npz"
        if points.is_file():
            tracks, place = read_tracks(points), known.frames.index(index)
            image = draw_points(image, tracks.xy[:, place], tracks.visible[:, place])
        path = self.service.workspace.session(visitor).new_file(".jpg")
        write_image(path, image)
        return path

    @in_words
    def frame_to_correct(self, visitor: str, run: Any, position: Any) -> tuple[int, Path, Labels]:
        """Number, picture and carried mask of a frame."""
        known = self.run(visitor, run)
        require(bool(known.masks), "corrections are masks: propagate a painted object first")
        index = self._frame(known, position)
        path = self.service.workspace.session(visitor).new_file(".png")
        write_image(path, open_frames(known.clip.path).read(index).image)
        return index, path, read_labels(known.result("masks", index))

    def _frame(self, run: VideoRun, position: Any) -> int:
        place = _whole(position, "frame")
        require(
            place < len(run.frames), f"there is no frame {place}: the last is {len(run.frames) - 1}"
        )
        return run.frames[place]

    def _run(
        self,
        session: Session,
        run: VideoRun,
        model: str,
        progress: ProgressCallback,
        *,
        update: bool = False,
    ) -> VideoRun:
        """The job itself, in the model's thread."""
        service = self.service
        progress("loading the model", 0, None)
        describer = service.models.load(model)
        # A container that tells no number of frames is read up to the limit alone.
        end = service.limits.frames * run.stride
        try:
            run_propagate(
                run.clip.path,
                run.folder,
                mask=run.masks or None,
                edit=run.edit,
                points=run.points,
                end=end,
                stride=run.stride,
                options=run.options,
                update=update,
                describer=describer,
                progress=progress,
            )
        except BaseException:
            # What was begun is not gone on with; results of an earlier run stay.
            for left in run.folder.parent.iterdir():
                if left != run.folder:
                    shutil.rmtree(left, ignore_errors=True)
            raise
        rows = read_rows(run.folder / ROWS)
        archive = shutil.make_archive(str(run.folder.parent / "results"), "zip", run.folder)
        finished = dataclasses.replace(
            run,
            archive=Path(archive),
            rows=rows,
            text=_summary(rows, run.masks),
        )
        session.runs[run.name] = finished
        return finished


def _summary(rows: list[Row], masks: Mapping[int, Path]) -> str:
    """A sentence about a run."""
    words = f"{len(rows)} frames"
    sure = [(row["frame_confidence"], row["frame"]) for row in rows if "frame_confidence" in row]
    if sure:
        value, frame = min(sure)
        words += f", {len(masks)} of them annotated; least sure: frame {frame} ({value:.2f})"
    return words


def _written(session: Session, labels: Labels) -> Path:
    path = session.new_file(".png")
    write_labels(path, labels)
    return path


def _whole(value: Any, what: str, *, least: int = 0) -> int:
    require(
        isinstance(value, int | float) and value >= least and float(value).is_integer(),
        f"a {what} is a whole number from {least}, got {value!r}",
    )
    return int(value)
