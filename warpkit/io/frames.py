"""Frames of a video file or of a folder of images, read lazily, one at a time.

`open_frames` gives a `Frames`: it can be iterated again and again, holds no frame itself, and
reads any single frame with `read`. Frames are upright uint8 RGB of the stored pixels; nothing is
ever resampled. `start`, `end` and `stride` select frames by their index in the original, and a
frame keeps that index. Masks that lie among the images of a folder are no frames: `frame_files`.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from warpkit.checks import absent, check_file, is_dir, is_file, require
from warpkit.io.frame import Frame, Frames, Selection
from warpkit.io.images import IMAGE_SUFFIXES, image_mode, image_size, read_image
from warpkit.io.video_frames import VideoFrames

__all__ = [
    "FolderFrames",
    "few_names",
    "frame_files",
    "image_files",
    "is_apart",
    "natural_key",
    "open_frames",
]

_log = logging.getLogger("warpkit")
_MASK_NAME = re.compile(r"(?<![a-z])(masks?|annotations?|labels?)(?![a-z])", re.IGNORECASE)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key under which `frame2` comes before `frame10`."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order; hidden files are the leavings of file managers."""
    files = (
        file
        for file in (folder.iterdir() if is_dir(folder) else ())
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and is_file(file)
    )
    return sorted(files, key=lambda file: natural_key(file.name))


def frame_files(folder: Path, *, without: Collection[Path] = ()) -> tuple[list[Path], list[Path]]:
    """The images of a folder that are frames, in natural order, and those that are not.

    No frame is what the caller knows as none, and a mask: what is called so (`mask.png`,
    `00000_mask.png`) beside at least as many other images, and an indexed or black-and-white image
    of another kind of file than most, where those are neither.
    """
    files = image_files(folder)
    given = {path.resolve() for path in without}
    frames = [file for file in files if file.resolve() not in given]
    called = {file for file in frames if _MASK_NAME.search(file.stem)}
    if 2 * len(called) <= len(frames):
        frames = [file for file in frames if file not in called]
    kinds = Counter(file.suffix.lower() for file in frames)
    if len(kinds) > 1:
        # Of two kinds of equally many files that of the colour images is the frames'.
        flat = {file: image_mode(file) in ("1", "P") for file in frames}
        colour = Counter(file.suffix.lower() for file in frames if not flat[file])
        usual = max(kinds, key=lambda kind: (kinds[kind], colour[kind]))
        if colour[usual] == kinds[usual]:
            frames = [file for file in frames if file.suffix.lower() == usual or not flat[file]]
    return frames, [file for file in files if file not in set(frames)]


def _file_numbers(names: list[str]) -> list[int] | None:
    """The numbers in names that differ in nothing else; None where some differ in more."""
    parts = [re.split(r"(\d+)", name, flags=re.ASCII) for name in names]
    if len({(len(split), *split[::2]) for split in parts}) != 1 or len(parts[0]) == 1:
        return None
    columns = list(zip(*(split[1::2] for split in parts), strict=True))
    varying = [column for column in columns if len({int(n) for n in column}) > 1] or columns[-1:]
    numbers = [int(text) for text in varying[0]]
    return numbers if len(varying) == 1 and len(set(numbers)) == len(numbers) else None


def few_names(files: Sequence[Path]) -> str:
    """The names of the first files, and how many more there are."""
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(file.name for file in files[:3]) + more


def is_apart(file: Path, folder: Path, *, without: Collection[Path]) -> bool:
    """Whether an image lies in a folder of numbered frames but is none of the numbers.

    Args:
        without: files that are no frames either.
    """
    files, _ = frame_files(folder, without=without)
    others = [other.stem for other in files if other.resolve() != file.resolve()]
    return (
        0 < len(others) < len(files)
        and _file_numbers(others) is not None
        and _file_numbers([other.stem for other in files]) is None
    )


class FolderFrames(Frames):
    """The images of a folder in natural order; masks, other files and hidden files are ignored."""

    def __init__(
        self,
        path: Path,
        selection: Selection,
        frame_rate: Fraction,
        without: Collection[Path] = (),
    ) -> None:
        files, self.left_out = frame_files(path, without=without)
        if self.left_out:
            _log.info("%s: left out, since not a frame: %s", path, few_names(self.left_out))
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
        stems = [file.stem for file in files]
        self.numbered = all(re.fullmatch("[0-9]+", stem) for stem in stems) and any(
            int(stem) != index for index, stem in enumerate(stems)
        )

    def find(self, name: str) -> int:
        """By the file's name, its number, or the place in the folder, from 0: what fits first."""
        index = self.named(name)
        if index is not None:
            return index
        names = [file.name for file in self._files]
        if name in names:
            return names.index(name)
        # With zeros in front it is the name of a file, not a place.
        place = int(name) if re.fullmatch("0|[1-9][0-9]{,17}", name) else -1
        numbered = _file_numbers([file.stem for file in self._files])
        require(
            place >= 0 and (place < len(names) or not numbered),
            f"{self.path}: no frame is called '{name}': the first is {names[0]}",
        )
        return place

    def named(self, name: str) -> int | None:
        stems = [file.stem for file in self._files]
        if name in stems:
            return stems.index(name)
        number = int(name) if re.fullmatch("[0-9]{1,18}", name) else -1
        numbers = _file_numbers(stems) or []
        return numbers.index(number) if number in numbers else None

    def called(self, index: int) -> str:
        return self._files[index].name if index < len(self._files) else super().called(index)

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
        return Frame(index, image, index / self.frame_rate, file.stem, file.name)


def open_frames(
    path: str | Path,
    *,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    frame_rate: Fraction | float | None = None,
    without: Collection[Path] = (),
) -> Frames:
    """Open a video file, an animated GIF, or a folder of images.

    Args:
        start: index of the first frame taken.
        end: index before which to stop; None, or beyond the end, takes all there are.
        stride: take every `stride`-th frame.
        frame_rate: frames per second of a folder of images, 24 unless given.
        without: files that are no frames, should they lie in the folder.

    Raises:
        InputError: if there is nothing at `path`, it is no video, a folder without images or
            with images of several sizes, or the selection is empty.
    """
    path = Path(path)
    selection = Selection(start, end, stride)
    require(os.path.exists(path), absent(path, "file or folder"))  # noqa: PTH110 - long names
    if not is_dir(path):
        check_file(path)
        require(
            frame_rate is None,
            f"{path}: a frame rate is given for a folder of images only; a video states its own",
        )
        return VideoFrames(path, selection)
    rate = Fraction(24 if frame_rate is None else frame_rate).limit_denominator(100_000)
    require(rate > 0, f"frame_rate must be positive, got {frame_rate}")
    return FolderFrames(path, selection, rate, without)
