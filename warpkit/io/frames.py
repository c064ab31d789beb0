"""Frames of a video file or of a folder of images, read lazily, one at a time.

`open_frames` gives a `Frames`: it can be iterated again and again, holds no frame itself, and
reads any single frame with `read`. Frames are upright uint8 RGB of the stored pixels; nothing is
ever resampled. `start`, `end` and `stride` select frames by their index in the original, and a
frame keeps that index.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.checks import require
from warpkit.io.images import IMAGE_SUFFIXES, image_size, read_image

__all__ = ["FolderFrames", "Frame", "Frames", "Selection", "natural_key", "open_frames"]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        index: number of the frame in the original video or folder, from 0.
        image: uint8 (H, W, 3), RGB, upright.
        time: seconds since the first frame of the original.
        name: name for files made from it: the image's name without suffix, or "00042".
    """

    index: int
    image: Image
    time: Fraction
    name: str


@dataclass(frozen=True)
class Selection:
    """Frames `start`, `start + stride`, ... before `end` (None = to the last one)."""

    start: int
    end: int | None
    stride: int

    def __post_init__(self) -> None:
        require(self.start >= 0, f"start must be 0 or more, got {self.start}")
        require(self.stride >= 1, f"stride must be 1 or more, got {self.stride}")
        require(
            self.end is None or self.end > self.start,
            f"end must be greater than start = {self.start}, got {self.end}",
        )

    def __contains__(self, index: int) -> bool:
        return (
            index >= self.start
            and (self.end is None or index < self.end)
            and (index - self.start) % self.stride == 0
        )

    def indices(self, total: int, path: Path) -> range:
        """The selected indices among `total` frames."""
        require(self.start < total, f"{path}: start={self.start}, but it has {total} frames only")
        return self.up_to(total)

    def up_to(self, total: int) -> range:
        """As `indices`, empty where the frames end before `start`."""
        return range(self.start, total if self.end is None else min(self.end, total), self.stride)


class Frames(ABC):
    """A selection of frames of a video or a folder.

    Attributes:
        path: the video file or folder.
        height: height of every frame in pixels, upright.
        width: width of every frame in pixels, upright.
        count: number of selected frames; None if only decoding the whole video would tell.
        about: number of selected frames, guessed from the duration where `count` is None; None if
            nothing tells.
        frame_rate: frames per second of the original, before `stride`.
        names: names of the selected frames (folders), or None (videos).
    """

    path: Path
    height: int
    width: int
    count: int | None
    about: int | None
    frame_rate: Fraction
    names: list[str] | None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """The selected frames in order; a new pass each time, one frame in memory.

        Raises:
            InputError: at the frame that cannot be read, and at the end of a file cut short.
        """

    @abstractmethod
    def read(self, index: int) -> Frame:
        """One selected frame by its index in the original; the same pixels as iteration gives.

        Raises:
            InputError: if the index is not selected, does not exist or cannot be decoded.
        """


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key under which `frame2` comes before `frame10`."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


class FolderFrames(Frames):
    """The images of a folder in natural order; other files and hidden files are ignored."""

    def __init__(self, path: Path, selection: Selection, frame_rate: Fraction) -> None:
        files = sorted(
            (
                file
                for file in path.iterdir()
                if file.suffix.lower() in IMAGE_SUFFIXES
                and not file.name.startswith(".")
                and file.is_file()
            ),
            key=lambda file: natural_key(file.name),
        )
        require(
            len(files) > 0,
            f"{path}: the folder holds no images: expected files such as 00000.png or 00000.jpg",
        )
        first = image_size(files[0])
        seen: dict[str, Path] = {}
        for file in files:
            size = image_size(file)
            require(
                size == first,
                f"{path}: all frames must have one size, but {files[0].name} is {first[0]} x"
                f" {first[1]} (height x width) and {file.name} is {size[0]} x {size[1]}",
            )
            require(
                file.stem not in seen,
                f"{path}: {seen.get(file.stem, file).name} and {file.name} would be the same"
                " frame: keep one kind of image in the folder",
            )
            seen[file.stem] = file
        self.path, self.frame_rate = path, frame_rate
        self.height, self.width = first
        self._files = files
        self._indices = selection.indices(len(files), path)
        self.count = self.about = len(self._indices)
        self.names = [files[index].stem for index in self._indices]

    def __iter__(self) -> Iterator[Frame]:
        for index in self._indices:
            yield self.read(index)

    def read(self, index: int) -> Frame:
        require(index in self._indices, f"{self.path}: frame {index} is not among those selected")
        file = self._files[index]
        image = read_image(file)
        require(
            image.shape[:2] == (self.height, self.width),
            f"{file}: expected {self.height} x {self.width} (height x width) as at the start, got"
            f" {image.shape[0]} x {image.shape[1]}: the file changed meanwhile",
        )
        return Frame(index, image, index / self.frame_rate, file.stem)


def open_frames(
    path: str | Path,
    *,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    frame_rate: Fraction | float | None = None,
) -> Frames:
    """Open a video file, an animated GIF, or a folder of images.

    Args:
        start: index of the first frame taken.
        end: index before which to stop; None, or beyond the end, takes all there are.
        stride: take every `stride`-th frame.
        frame_rate: frames per second of a folder of images, 24 unless given.

    Raises:
        InputError: if there is nothing at `path`, it is no video, a folder without images or
            with images of several sizes, or the selection is empty.
    """
    path = Path(path)
    selection = Selection(start, end, stride)
    require(path.exists(), f"{path}: no such file or folder")
    if not path.is_dir():
        require(
            frame_rate is None,
            f"{path}: a frame rate is given for a folder of images only; a video states its own",
        )
        from warpkit.io.video_frames import VideoFrames

        return VideoFrames(path, selection)
    rate = Fraction(24 if frame_rate is None else frame_rate).limit_denominator(100_000)
    require(rate > 0, f"frame_rate must be positive, got {frame_rate}")
    return FolderFrames(path, selection, rate)
