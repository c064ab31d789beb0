"""What the page takes: checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from warpkit.checks import InputError, require
from warpkit.io.frame import Frames
from warpkit.io.frames import open_frames
from warpkit.io.images import image_size
from warpkit.io.video_length import video_seconds

__all__ = ["Limits"]

_TOO_LARGE = (Image.DecompressionBombWarning, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest inputs of the page; the command line has none of these limits.

    Attributes:
        megapixels: of an image.
        video_megapixels: of a frame.
        video_seconds: length of a video.
        frames: frames that a run takes.
        upload_mb: size of an uploaded file.
        points: points of a click list.
        waiting: jobs that may wait at a time.
        own_waiting: of those, how many of one visitor.
        uploads: files that a visitor can have here at a time; the oldest go.
        idle_hours: a visitor's files go after this many hours without a request.
    """

    megapixels: float = 16.0
    video_megapixels: float = 9.0
    video_seconds: float = 600.0
    frames: int = 3000
    upload_mb: int = 300
    points: int = 100
    waiting: int = 100
    own_waiting: int = 64
    uploads: int = 24
    idle_hours: float = 6.0

    def check_image(self, path: Path, name: str) -> tuple[int, int]:
        """Height and width of an image file by its header.

        Args:
            name: what the visitor calls it.

        Raises:
            InputError: not an image, or too large.
        """
        self.check_bytes(path, name)
        try:
            height, width = image_size(path)
        except InputError as error:
            # Pillow's own limit comes first for the largest.
            if isinstance(error.__cause__, _TOO_LARGE):
                raise InputError(
                    f"{name} has too many pixels: this page takes images of at most"
                    f" {self.megapixels:g} megapixels. Scale it down first, or use the command line"
                ) from error
            raise InputError(_renamed(error, path, name)) from error
        require(
            height * width <= self.megapixels * 1e6,
            f"{name} is {width} x {height} pixels: this page takes images of at most"
            f" {self.megapixels:g} megapixels. Scale it down first, or use the command line",
        )
        require(min(height, width) >= 2, f"{name} has fewer than 2 x 2 pixels")
        return height, width

    def check_video(self, path: Path, name: str) -> Frames:
        """The video, opened, after its length was read.

        Raises:
            InputError: not a video, too long or too large.
        """
        self.check_bytes(path, name)
        try:
            seconds = video_seconds(path)
            require(
                seconds <= self.video_seconds,
                f"{name} is {_clock(seconds)} long: this page takes videos of at most"
                f" {_clock(self.video_seconds)}. Cut it first, or use the command line with"
                " --start and --end",
            )
            frames = open_frames(path)
        except InputError as error:
            raise InputError(_renamed(error, path, name)) from error
        require(
            frames.height * frames.width <= self.video_megapixels * 1e6,
            f"{name} is {frames.width} x {frames.height} pixels: this page takes frames of at most"
            f" {self.video_megapixels:g} megapixels. Scale it down first, or use the command line",
        )
        return frames

    def check_bytes(self, path: Path, name: str) -> None:
        """Raise unless the file is there, and small enough."""
        require(path.is_file(), f"{name}: the upload is gone; choose it again")
        size = path.stat().st_size
        require(size > 0, f"{name} is an empty file")
        require(
            size <= self.upload_mb * 1e6,
            f"{name} has {size / 1e6:.0f} MB: this page takes files of at most {self.upload_mb} MB",
        )


def _renamed(error: InputError, path: Path, name: str) -> str:
    """The message with the visitor's name of a file for the place where it lies."""
    return str(error).replace(str(path), name)


def _clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
