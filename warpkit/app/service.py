"""What the page can do, without the page: uploads in, jobs out, all of it plain Python."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from warpkit.app.kept import KeptDescriptors
from warpkit.app.limits import Limits
from warpkit.app.loaded_models import ModelShelf
from warpkit.app.pictures import decode_labels
from warpkit.app.queue import Job, JobQueue
from warpkit.app.workspace import Upload, Workspace
from warpkit.arrays import Image, Labels
from warpkit.checks import InputError, one_of, require
from warpkit.describe.options import ModelOptions
from warpkit.image.foreground import ForegroundModel, Hints, find_object, load_foreground
from warpkit.image.inspect import InspectSettings, run_inspect
from warpkit.image.match import MatchSettings, run_match, similarity_at
from warpkit.image.transparency import seen_picture
from warpkit.io.images import write_image
from warpkit.io.pictures import read_picture, write_picture
from warpkit.match.matcher import asked_matcher
from warpkit.match.settings import MatchFilters
from warpkit.render import CLIPS, render_frame
from warpkit.runs.progress import ProgressCallback
from warpkit.types import Describer
from warpkit.viz import draw_similarity

__all__ = ["LookResult", "PointsResult", "Service", "in_words", "safe_title"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class LookResult:
    """One pixel looked at: its picture and its match."""

    picture: Path
    point: tuple[float, float]
    match: tuple[float, float]
    similarity: float


@dataclass(frozen=True)
class PointsResult:
    """Matched points: a picture, the JSON of `warpkit match`, and its content."""

    picture: Path
    json: Path
    found: dict[str, Any]


def safe_title(title: Any) -> str:
    """What a visitor calls a file, as far as it is shown: no folders, no odd characters, short."""
    name = str(title or "the file").replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in name if c.isprintable() and c not in "<>&\"'")
    return kept[-60:] or "the file"


def in_words(
    method: Callable[Concatenate[Any, str, P], T],
) -> Callable[Concatenate[Any, str, P], T]:
    """A method for a visitor whose errors name files as the visitor does, not by their places."""

    @functools.wraps(method)
    def told(self: Any, visitor: str, *args: P.args, **options: P.kwargs) -> T:
        try:
            return method(self, visitor, *args, **options)
        except InputError as error:
            raise InputError(self.workspace.words(visitor, str(error))) from error

    return told


class Service:
    """The page's jobs.

    Args:
        workspace: where files are.
        options: model at the start and device.
        limits: of what is taken.
    """

    def __init__(
        self, workspace: Workspace, options: ModelOptions, limits: Limits | None = None
    ) -> None:
        self.workspace = workspace
        self.limits = limits or Limits()
        self.models = ModelShelf(options)
        self.queue = JobQueue(waiting=self.limits.waiting, own_waiting=self.limits.own_waiting)
        self.kept = KeptDescriptors()
        self.drawing = threading.Lock()
        self._device = options.device
        self._foreground: ForegroundModel | None = None
        self._finding = threading.Lock()
        self._examples: dict[str, list[tuple[Image, Labels]]] = {}

    def close(self) -> None:
        """Stop everything and remove the working folder."""
        self.queue.close()
        self.workspace.close()

    def leave(self, visitor: str) -> None:
        """A visitor has gone: jobs end, files go."""
        self.queue.cancel_all(visitor)
        self.kept.drop(visitor)
        self.workspace.drop(visitor)

    def clean(self) -> None:
        """Forget visitors that have been idle for long."""
        for visitor in self.workspace.clean(idle_seconds=3600 * self.limits.idle_hours):
            self.queue.cancel_all(visitor)
            self.kept.drop(visitor)

    def submit(
        self, visitor: str, model: str, tag: str, work: Callable[[ProgressCallback], Any]
    ) -> Job:
        """Put work of a kind into a model's queue."""
        self.models.options(model)

        def told(progress: ProgressCallback) -> Any:
            try:
                return work(progress)
            except InputError as error:
                raise InputError(self.workspace.words(visitor, str(error))) from error

        return self.queue.submit(model, told, owner=visitor, tag=tag)

    # Uploads

    @in_words
    def take_picture(self, visitor: str, path: Any, title: Any) -> Upload:
        """Take an uploaded image after checking it.

        Args:
            path: where the upload landed.
            title: the visitor's name of it.

        Raises:
            InputError: a path outside the working folder, no image, or too large a one.
        """
        landed, name = self.landed(path), safe_title(title)
        height, width = self.limits.check_image(landed, name)
        try:
            picture = read_picture(landed)
        except InputError as error:
            raise InputError(str(error).replace(str(landed), name)) from error
        session = self.workspace.session(visitor)
        kept = session.new_file(".png")
        write_picture(kept, picture.channels, picture.profile)
        return session.add(Upload(kept.name, kept, name, height, width))

    def example_pair(
        self, visitor: str, name: str
    ) -> tuple[tuple[Upload, Labels], tuple[Upload, Labels]]:
        """A rendered pair with its exact masks."""
        one_of(name, CLIPS, "example")
        session = self.workspace.session(visitor)
        with self.drawing:
            if name not in self._examples:
                # Drawn for two seconds, then kept for the next visitor.
                spec = replace(CLIPS[name], supersampling=2)
                frames = (
                    render_frame(spec, 0, edited=True),
                    render_frame(spec, 3 * spec.frames // 4),
                )
                self._examples[name] = [
                    (frame.image, (frame.labels > 0).astype(np.uint8)) for frame in frames
                ]
        found = []
        for image, labels in self._examples[name]:
            kept = session.new_file(".png")
            write_image(kept, image)
            upload = Upload(kept.name, kept, f"{name} (rendered)", *labels.shape)
            found.append((session.add(upload), labels))
        return found[0], found[1]

    @in_words
    def cut_out(self, visitor: str, picture: str, box: Any, *, label: int = 1) -> Labels:
        """The object in a box, as object ids of the picture's size."""
        upload = self.workspace.session(visitor).upload(picture)
        return self.cut_out_of(seen_picture(read_picture(upload.path)), box, label=label)

    def cut_out_of(self, image: Image, box: Any, *, label: int) -> Labels:
        """The object in a box that came from outside."""
        try:
            x1, y1, x2, y2 = (float(value) for value in box)
        except (TypeError, ValueError) as error:
            raise InputError("draw a box around the whole object") from error
        with self._finding:
            if self._foreground is None:
                self._foreground = load_foreground(self._device)
            found = find_object(image, Hints((x1, y1, x2, y2)), model=self._foreground)
        return found.mask.astype(np.uint8) * label

    def landed(self, path: Any) -> Path:
        """Where an upload is; whatever is not an upload is refused."""
        require(isinstance(path, str) and bool(path), "no file came: choose one")
        landed = self.workspace.inside(path)
        # What lies elsewhere in the working folder is another visitor's, or a result.
        require(
            landed.is_relative_to(self.workspace.uploads) and landed.is_file(),
            "that file was not uploaded to this page: refused",
        )
        return landed

    # Jobs

    @in_words
    def look(
        self,
        visitor: str,
        model: str,
        *,
        source: str,
        target: str,
        point: Any,
        target_labels: str = "",
    ) -> Job:
        """The match of one source pixel and its similarity to all of the target.

        Returns:
            A job whose result is `LookResult`.
        """
        session = self.workspace.session(visitor)
        pictures = session.pair(source, target)
        (xy,) = self.check_points([point])
        mask = decode_labels(target_labels, height=pictures[1].height, width=pictures[1].width)
        matcher = asked_matcher(self.models.options(model).engine)
        drawing = session.new_file(".png")

        def work(progress: ProgressCallback) -> LookResult:
            describer = self.describer(visitor, model, progress)
            progress("comparing", 1, 2)
            first, second = (read_picture(upload.path) for upload in pictures)
            found = similarity_at(
                first.channels,
                second.channels,
                xy,
                describer=describer,
                target_mask=None if mask is None else mask > 0,
                matcher=matcher,
            )
            seen = seen_picture(first), seen_picture(second)
            drawn = draw_similarity(*seen, found.source_xy, found.target_xy, found.map)
            write_image(drawing, drawn)
            x, y = found.target_xy.tolist()
            return LookResult(drawing, (xy[0], xy[1]), (x, y), found.similarity)

        return self.submit(visitor, model, "look", work)

    @in_words
    def points(
        self,
        visitor: str,
        model: str,
        *,
        source: str,
        target: str,
        points: Any,
        filters: MatchFilters,
    ) -> Job:
        """Match clicked points.

        Returns:
            A job whose result is `PointsResult`.
        """
        session = self.workspace.session(visitor)
        pictures = session.pair(source, target)
        checked = np.array(self.check_points(points), np.float32)
        drawing, table = session.new_file(".png"), session.new_file(".json")

        def work(progress: ProgressCallback) -> PointsResult:
            describer = self.describer(visitor, model, progress)
            progress("matching", 1, 2)
            found = run_match(
                pictures[0].path,
                pictures[1].path,
                checked,
                output=table,
                picture=drawing,
                settings=MatchSettings(filters=filters),
                options=self.models.options(model),
                describer=describer,
            )
            return PointsResult(drawing, table, found)

        return self.submit(visitor, model, "points", work)

    @in_words
    def inspect(self, visitor: str, model: str, *, picture: str | None, layers: bool) -> Job:
        """Mixing weights of a single model, and the directions of a picture's descriptors.

        Returns:
            A job whose result is the list of pictures that `warpkit inspect` writes.
        """
        require(bool(model), "choose a model first")
        one_of(model, self.models.single_names(), "single model")
        session = self.workspace.session(visitor)
        images = [] if picture is None else [session.upload(picture).path]
        settings, options = InspectSettings(layers=bool(layers)), self.models.options(model)
        folder = session.new_folder() / "results"

        def work(progress: ProgressCallback) -> list[Path]:
            extractor = self._loaded(model, progress)
            return run_inspect(
                images,
                folder,
                settings=settings,
                options=options,
                extractor=extractor,
                progress=progress,
            )

        return self.submit(visitor, model, "inspect", work)

    def describer(self, visitor: str, model: str, progress: ProgressCallback) -> Describer:
        """A model that describes no picture twice for a visitor, and is loaded only if it must."""

        def load() -> Describer:
            loaded: Describer = self._loaded(model, progress)
            progress("describing", 0, None)
            return loaded

        return self.kept.describer(visitor, model, load)

    def _loaded(self, model: str, progress: ProgressCallback) -> Any:
        progress("loading the model", 0, None)
        return self.models.load(model)

    def check_points(self, points: Any) -> list[list[float]]:
        """Points that came from outside: pairs of finite numbers, not too many."""
        try:
            array = np.asarray(points, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError("points are pairs x, y: click into the picture") from error
        require(
            array.ndim == 2 and array.shape[1] == 2 and len(array) > 0,
            "no point was given: click into the first picture",
        )
        require(bool(np.isfinite(array).all()), "points are pairs of finite numbers")
        require(
            len(array) <= self.limits.points,
            f"{len(array)} points: this page takes at most {self.limits.points} at a time",
        )
        found: list[list[float]] = array.tolist()
        return found
