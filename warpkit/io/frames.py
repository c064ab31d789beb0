"""Frames of a video file or of a folder of images, read lazily, one at a time.

`open_frames` gives a `Frames`: it can be iterated again and again, holds no frame itself, and
reads any single frame with `read`. Frames are upright uint8 RGB of the stored pixels; nothing is
ever resampled. `start`, `end` and `stride` select frames by their index in the original, and a
frame keeps that index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from warpkit.checks import absent, check_file, require
from warpkit.io.frame import Frame, Frames, Selection
from warpkit.io.images import IMAGE_SUFFIXES, image_size, read_image
from warpkit.io.video_frames import VideoFrames

__all__ = ["FolderFrames", "natural_key", "open_frames"]


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
        self.pixel_aspect, self.colour = Fraction(1), None
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
    require(path.exists(), absent(path, "file or folder"))
    if not path.is_dir():
        check_file(path)
        require(
            frame_rate is None,
            f"{path}: a frame rate is given for a folder of images only; a video states its own",
        )
        return VideoFrames(path, selection)
    rate = Fraction(24 if frame_rate is None else frame_rate).limit_denominator(100_000)
    require(rate > 0, f"frame_rate must be positive, got {frame_rate}")
    return FolderFrames(path, selection, rate)
