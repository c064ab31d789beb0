"""What a video and a folder of images have in common: frames, their selection, their reader."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from warpkit.arrays import Image
from warpkit.checks import counted, require

__all__ = ["Colour", "Frame", "Frames", "Selection"]


@dataclass(frozen=True)
class Colour:
    """How a video's RGB values are to be shown, by the numbers of ITU-T H.273.

    Attributes:
        primaries: what red, green and blue are: 1 for BT.709, 9 for BT.2020.
        transfer: what the values stand for: 1 for BT.709, 16 for PQ, 18 for HLG.
        matrix: how a file mixes them: 1 for BT.709, 9 for BT.2020.
    """

    primaries: int = 1
    transfer: int = 1
    matrix: int = 1


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        index: number of the frame in the original video or folder, from 0.
        image: uint8 (H, W, 3), RGB, upright.
        time: seconds since the first frame of the original.
        name: name for files made from it: the image's name without suffix, or "00042".
        file: the image's file name; None in a video.
    """

    index: int
    image: Image
    time: Fraction
    name: str
    file: str | None = None

    @property
    def shown(self) -> str:
        """How messages call it: by its number, in a folder by its file's name too."""
        return f"{self.index}" if self.file is None else f"{self.index} ({self.file})"


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
        require(
            self.start < total,
            f"{path}: start={self.start}, but it has {counted(total, 'frame')} only",
        )
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
        pixel_aspect: width of a pixel by its height, upright: 1 for square ones.
        colour: how the values are to be shown, where that is not as usual (BT.709); None where it
            is.
        names: names of the selected frames (folders), or None (videos).
        numbered: whether names are numbers, and others than those counted from 0.
        left_out: images of the folder that are no frames, such as masks.
    """

    path: Path
    height: int
    width: int
    count: int | None
    about: int | None
    frame_rate: Fraction
    pixel_aspect: Fraction
    colour: Colour | None
    names: list[str] | None
    numbered: bool = False
    left_out: Sequence[Path] = ()

    def find(self, name: str) -> int:
        """The index of the frame that a user calls so, whether it is selected or not.

        Raises:
            InputError: it names none.
        """
        number = re.fullmatch("[0-9]{1,18}", name)
        require(number is not None, f"{self.path}: a frame of a video is a number, got '{name}'")
        return int(name)

    def named(self, name: str) -> int | None:
        """The index of the frame whose file has this name, or number; None where none has."""
        return None

    def called(self, index: int) -> str:
        """What a user calls a frame: its file's name, or its number."""
        return str(index)

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

    def decodings(self, index: int) -> list[Image]:
        """One selected frame as other programs decode it: people paint on what these show.

        Returns:
            uint8 (H, W, 3) each, upright; none where all programs agree, as on images.
        """
        return []
