"""What the page can do, without the page: uploads in, jobs out, all of it plain Python."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from warpkit.app.examples import Example
from warpkit.app.kept import KeptDescriptors
from warpkit.app.limits import Limits
from warpkit.app.loaded_models import ModelShelf
from warpkit.app.pictures import MOST_OBJECTS, decode_labels
from warpkit.app.queue import Job, JobQueue
from warpkit.app.workspace import Upload, Workspace
from warpkit.arrays import Image, Labels
from warpkit.checks import InputError, one_of, require
from warpkit.describe.options import ModelOptions
from warpkit.image.foreground import ForegroundModel, Hints, find_object, load_foreground
from warpkit.image.inspect import InspectSettings, run_inspect
from warpkit.image.match import MatchSettings, run_match, similarity_at
from warpkit.image.transparency import seen_picture
from warpkit.io.images import image_size, write_image
from warpkit.io.masks import read_labels
from warpkit.io.pictures import read_picture, write_picture
from warpkit.match.matcher import asked_matcher
from warpkit.match.settings import MatchFilters
from warpkit.runs.progress import ProgressCallback
from warpkit.types import Describer
from warpkit.viz import draw_similarity

__all__ = ["Found", "LookResult", "PointsResult", "Service", "in_words", "safe_title"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class LookResult:
    """One pixel looked at: its picture and its match."""

    picture: Path
    point: tuple[float, float]
    match: tuple[float, float]
    similarity: float


@dataclass(frozen=True, eq=False)
class Found:
    """An object that was found.

    Attributes:
        labels: uint8 (H, W), 1 on the object.
        agreement: how sure it is, in [0, 1]; see `FoundObject`.
        doubts: what speaks against it, a phrase each.
    """

    labels: Labels
    agreement: float
    doubts: tuple[str, ...]


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
        self._device = options.device
        self._foreground: ForegroundModel | None = None
        self._finding = threading.Lock()

    def close(self) -> None:
        """Stop everything and remove the working folder."""
        self.queue.close()
        self.workspace.close()

    def leave(self, visitor: str) -> None:
        """A visitor has gone: jobs end, files go."""
        self.queue.forget(visitor)
        self.kept.drop(visitor)
        self.workspace.drop(visitor)

    def clean(self) -> None:
        """Forget visitors that have been idle for long."""
        for visitor in self.workspace.clean(idle_seconds=3600 * self.limits.idle_hours):
            self.queue.forget(visitor)
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

    @in_words
    def take_mask(self, visitor: str, picture: Any, path: Any, title: Any) -> Labels:
        """The object ids of an uploaded mask file, uint8 (H, W), as large as the picture.

        Args:
            picture: name of the upload that it is of.

        Raises:
            InputError: no mask, too many objects, or one of another size.
        """
        upload = self.workspace.session(visitor).upload(picture)
        return self.read_mask(path, title, height=upload.height, width=upload.width)

    def read_mask(self, path: Any, title: Any, *, height: int, width: int) -> Labels:
        """The object ids of an uploaded mask file of this size."""
        landed, name = self.landed(path), safe_title(title)
        size = self.limits.check_image(landed, name)
        require(
            size == (height, width),
            f"{name} is {size[1]} x {size[0]} pixels, the picture {width} x {height}: a mask is as"
            " large as its picture",
        )
        try:
            labels = read_labels(landed)
        except InputError as error:
            raise InputError(str(error).replace(str(landed), name)) from error
        require(bool(labels.any()), f"{name} is empty: no pixel of it belongs to an object")
        require(
            int(labels.max()) <= MOST_OBJECTS,
            f"{name} has an object {labels.max()}: this page takes ids up to {MOST_OBJECTS}",
        )
        return labels

    def example_pair(self, visitor: str, one: Example) -> tuple[Upload, Upload]:
        """Source and target of an example, lent to the visitor."""
        session = self.workspace.session(visitor)
        found = []
        for role in ("source", "target"):
            path = one.file(f"{role}.jpg")
            upload = Upload(f"example {one.name} {path.name}", path, one.name, *image_size(path))
            found.append(session.lend(upload))
        return found[0], found[1]

    @in_words
    def cut_out(self, visitor: str, picture: Any, box: Any) -> Found:
        """The object in a box of a picture, or the most prominent one where the box is None."""
        upload = self.workspace.session(visitor).upload(picture)
        return self.cut_out_of(seen_picture(read_picture(upload.path)), box)

    def cut_out_of(self, image: Image, box: Any) -> Found:
        """The object in a box that came from outside; None asks for the most prominent one."""
        hints = Hints()
        if box is not None:
            try:
                x1, y1, x2, y2 = (float(value) for value in box)
            except (TypeError, ValueError) as error:
                raise InputError("draw a box around the whole object") from error
            hints = Hints((x1, y1, x2, y2))
        with self._finding:
            if self._foreground is None:
                self._foreground = load_foreground(self._device)
            found = find_object(image, hints, model=self._foreground)
        return Found(found.mask.astype(np.uint8), found.agreement, found.doubts)

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
        settings, options = InspectSettings(layers=bool(layers)), self.models.options(model)
        folder = session.new_folder() / "results"
        images = []
        if picture is not None:
            upload = session.upload(picture)
            # Drawings call a picture by the name of its file.
            images.append(session.new_folder() / (upload.title.strip(".") or "picture"))
            shutil.copyfile(upload.path, images[0])

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
