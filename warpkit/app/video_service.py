"""Videos on the page: a clip in, a run with progress, frames to look at, corrections."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.app.examples import Example
from warpkit.app.pictures import decode_labels, decode_layer
from warpkit.app.queue import Job
from warpkit.app.service import Found, Labels, Service, in_words, safe_title
from warpkit.app.workspace import Session, Upload, Workspace
from warpkit.checks import InputError, counted, require
from warpkit.describe.options import ModelOptions
from warpkit.io.frames import open_frames
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.points import read_tracks
from warpkit.runs.frame_rows import ROWS, Row, read_rows, result_file
from warpkit.runs.progress import ProgressCallback
from warpkit.video.edits import read_edit
from warpkit.video.predicted import assess
from warpkit.video.run import run_propagate
from warpkit.viz import draw_points, overlay_labels

__all__ = ["VideoRun", "VideoService"]


@dataclass
class VideoRun:
    """A finished run: what it was told, and where its results are.

    Attributes:
        name: under which it is asked for.
        clip: the video.
        folder: the results of `warpkit propagate`.
        archive: all of them in one file.
        masks: mask files by the number of their frame.
        start, end: the first frame, and the one to stop before.
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
    start: int
    end: int
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

    def first_to_correct(self) -> int | None:
        """Position of the frame whose correction would gain most; None where none stands out."""
        correction = assess(self.rows).correction
        return None if correction is None else self.frames.index(correction.frame)

    def video(self) -> Path | None:
        """The video to show: edited if there was an edit, else with the masks drawn in."""
        names = ("edited.mp4", "overlay.mp4")
        return next((self.folder / n for n in names if (self.folder / n).is_file()), None)


class VideoService:
    """Jobs on videos, beside those of a `Service`."""

    def __init__(self, service: Service) -> None:
        self.service = service

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

    def example_clip(self, visitor: str, one: Example) -> Upload:
        """The clip of an example, lent to the visitor."""
        path = one.file("clip.mp4")
        frames = open_frames(path)
        upload = Upload(
            *(f"example {one.name} {path.name}", path, one.name),
            *(frames.height, frames.width, frames.count or 0),
        )
        return self.service.workspace.session(visitor).lend(upload)

    @in_words
    def frame(self, visitor: str, clip: Any, index: Any = 0) -> tuple[Path, float]:
        """A frame of a clip as a picture, and its time in seconds."""
        session = self.service.workspace.session(visitor)
        path = session.new_file(".png")
        frame = open_frames(session.upload(clip, "a video").path).read(_whole(index, "frame"))
        write_image(path, frame.image)
        return path, float(frame.time)

    @in_words
    def cut_out(self, visitor: str, clip: Any, box: Any, *, frame: Any = 0) -> Found:
        """The object in a box of a frame, or the most prominent one where the box is None."""
        upload = self.service.workspace.session(visitor).upload(clip, "a video")
        image = open_frames(upload.path).read(_whole(frame, "frame")).image
        return self.service.cut_out_of(image, box)

    @in_words
    def take_mask(self, visitor: str, clip: Any, path: Any, title: Any) -> Labels:
        """The object ids of an uploaded mask file, uint8 (H, W), as large as the clip's frames."""
        upload = self.service.workspace.session(visitor).upload(clip, "a video")
        return self.service.read_mask(path, title, height=upload.height, width=upload.width)

    @in_words
    def take_edit(
        self, visitor: str, clip: Any, path: Any, title: Any, *, frame: Any = 0
    ) -> tuple[Upload, npt.NDArray[np.uint8]]:
        """Take an uploaded edit of a frame: the frame edited elsewhere, or a layer over it.

        Returns:
            The upload, and the layer that it is, uint8 RGBA (H, W, 4).

        Raises:
            InputError: no image, one of another size, or one that changes nothing.
        """
        service = self.service
        session = service.workspace.session(visitor)
        upload = session.upload(clip, "a video")
        landed, name = service.landed(path), safe_title(title)
        height, width = service.limits.check_image(landed, name)
        require(
            (height, width) == (upload.height, upload.width),
            f"{name} is {width} x {height} pixels, the video {upload.width} x {upload.height}: an"
            " edit is as large as a frame",
        )
        kept = session.new_file(landed.suffix)
        shutil.copyfile(landed, kept)
        frames = open_frames(upload.path)
        try:
            layer = read_edit(kept, frames, frames.read(_whole(frame, "frame"))).premultiplied
        except InputError as error:
            kept.unlink()
            raise InputError(str(error).replace(str(kept), name)) from error
        straight = layer.copy()
        straight[..., :3] /= np.maximum(layer[..., 3:], 1 / 255)
        rgba = np.rint(255 * straight).clip(0, 255).astype(np.uint8)
        return session.add(Upload(kept.name, kept, name, height, width)), rgba

    @in_words
    def propagate(
        self,
        visitor: str,
        model: str,
        *,
        clip: str,
        labels: str = "",
        layer: str = "",
        edit: Any = None,
        points: Any = None,
        start: Any = 0,
        last: Any = None,
        stride: Any = 1,
    ) -> Job:
        """Propagate what was drawn on the first frame through a clip.

        Args:
            clip: name of the upload.
            labels: painted object ids as a canvas sends them.
            layer: painted colours as a canvas sends them.
            edit: name of an uploaded edit, which is taken as it is instead of the colours.
            points: clicked points.
            start: number of the first frame.
            last: number of the last frame; None takes all that there are.
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
        begin = _whole(start, "first frame")
        # A container that tells no number of frames is read up to the limit alone.
        known = upload.frames or begin + limits.frames * step
        end = known if last is None else min(known, _whole(last, "last frame") + 1)
        require(
            begin < end,
            f"the first frame {begin} must come before the last one"
            + (f"; the video has frames 0 to {upload.frames - 1}" if upload.frames else ""),
        )
        taken = -(-(end - begin) // step)
        require(
            taken <= limits.frames,
            f"{taken} frames of {upload.title}: this page takes at most {limits.frames}. Take every"
            f" {-(-(end - begin) // limits.frames)}th frame or a part, or use the command line",
        )
        size = {"height": upload.height, "width": upload.width}
        found, colours = decode_labels(labels, **size), decode_layer(layer, **size)
        xy = np.array(service.check_points(points), np.float32) if points else None
        require(
            found is not None or colours is not None or edit or xy is not None,
            "nothing to propagate: paint an object or colours on the first frame, or click points",
        )
        masks: dict[int, Path] = {}
        if found is not None:
            masks[begin] = _written(session, found)
        edited = None
        if edit:
            edited = session.upload(edit, "an edit").path
        elif colours is not None:
            edited = session.new_file(".png")
            write_image(edited, colours)
        home = session.new_folder()
        run = VideoRun(
            home.name,
            upload,
            home / "results",
            service.models.options(model),
            masks,
            edited,
            xy,
            begin,
            end,
            step,
        )
        return service.submit(visitor, model, "video", lambda w: self._run(session, run, model, w))

    @in_words
    def correct(self, visitor: str, model: str, *, run: Any, frame: Any, labels: str) -> Job:
        """Annotate another frame of a finished run, and compute anew what that changes.

        Args:
            run: name of the run.
            frame: its number in the video.
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
        require(frame in known.frames, f"this run has no frame {frame!r}: open one of its frames")
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
        """One frame with its result drawn in."""
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
        """Number, picture and tracked mask of a frame."""
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
        try:
            run_propagate(
                run.clip.path,
                run.folder,
                mask=run.masks or None,
                edit=run.edit,
                points=run.points,
                start=run.start,
                end=run.end,
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
            text=summary(rows, run.masks),
        )
        session.runs[run.name] = finished
        return finished


def summary(rows: list[Row], masks: Mapping[int, Path]) -> str:
    """A sentence about a run."""
    words = counted(len(rows), "frame")
    if masks:
        words += f", {len(masks)} of them annotated"
    sentence = assess(rows).sentence
    return f"{words}; {sentence}" if sentence else words


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
