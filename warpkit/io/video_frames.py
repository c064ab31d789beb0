"""Frames of a video file or an animated GIF, decoded by PyAV one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warpkit.arrays import Image
from warpkit.checks import InputError, check_image, require
from warpkit.io.file_end import reaches_end
from warpkit.io.frame import Frame, Frames, Selection
from warpkit.io.images import picture_count

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["VideoFrames"]


# libswscale's SWS_BILINEAR | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND. Its default path is faster but
# darkens every channel by about one level.
_ACCURATE = 0x2 | 0x2000 | 0x40000


def _refuse_image(path: Path, *, is_text: bool) -> None:
    """Raise for what FFmpeg reads, though it is no video to it: images, animations, texts."""
    expected = f"{path}: expected a video or a folder of images, this is"
    require(not is_text, f"{expected} a text file")
    pictures = picture_count(path)
    require(pictures > 1, f"{expected} a single image")
    raise InputError(
        f"{expected} an image file of {pictures} pictures (an animated WebP or PNG, or pages of a"
        " TIFF), which is not read as a video: save its pictures into a folder, or convert it to"
        " .mp4 or .gif"
    )


class VideoFrames(Frames):
    """The frames of a video file or an animated GIF, decoded by PyAV.

    Turned upright by the container's display matrix. Pixels that the file declares non-square
    stay as stored. Videos without a colour tag are taken as BT.601, as FFmpeg does.
    """

    def __init__(self, path: Path, selection: Selection) -> None:
        self.path, self._selection, self.names = path, selection, None
        with self._open() as (container, stream):
            self._format = container.format.name
            self._total = self._announced(stream)
            rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
            duration = self._duration(container, stream)
            first = next(self._decode(container, stream), None)
        if first is None:
            raise InputError(f"{path}: not one frame of the video can be decoded")
        # Some containers state the resolution of their clock instead.
        usable = [Fraction(rate) for rate in rates if rate and rate <= 1000]
        require(len(usable) > 0, f"{path}: the video states no frame rate: convert it to .mp4")
        self.frame_rate = usable[0]
        self._matrix = self._orientation(first)
        self._first_pts, self._stored_size = first.pts, (first.height, first.width)
        self.height, self.width = check_image(self._image(first), str(path)).shape[:2]
        total = self._total
        self.count = None if total is None else len(selection.indices(total, path))
        self.about = self.count
        if total is None and duration is not None:
            self.about = len(selection.up_to(max(1, round(duration * self.frame_rate))))

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        with self._open() as (container, stream):
            for decoded in self._decode(container, stream):
                if index in self._selection:
                    yield self._frame(index, decoded)
                index += 1
                if index == self._selection.end:
                    return
        missing = self._total is not None and index < self._total
        announced = f"announces {self._total} frames" if missing else "is longer by its header"
        require(
            not missing and reaches_end(self.path, self._format),
            f"{self.path}: the video {announced}, but only {index} could be decoded: the file is"
            f" damaged or cut short (end={index} uses what is there)",
        )
        # Where the container states no count, only now is it known whether `start` exists.
        self._selection.indices(index, self.path)

    def read(self, index: int) -> Frame:
        require(index in self._selection, f"{self.path}: frame {index} is not among those selected")
        if self._timeline is not None and index < len(self._timeline):
            decoded = self._seek(self._timeline[index])
            if decoded is not None:
                return self._frame(index, decoded)
        count = 0
        with self._open() as (container, stream):
            for count, decoded in enumerate(self._decode(container, stream), start=1):
                if count > index:
                    return self._frame(index, decoded)
        raise InputError(f"{self.path}: there is no frame {index}: the video has {count} frames")

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        import av
        from av.stream import Disposition

        try:
            # An absolute path is never taken for a protocol such as "concat:".
            container = av.open(str(self.path.absolute()))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{self.path}: not a readable video ({error.strerror}): the file is damaged, cut"
                " short or of another kind"
            ) from error
        with container:
            name = container.format.name
            # FFmpeg also reads single images, and text files as films of a terminal.
            if name in ("tty", "image2", "apng") or name.endswith("_pipe"):
                _refuse_image(self.path, is_text=name == "tty")
            # The cover picture of a music file counts as a video stream of one frame.
            cover = Disposition.attached_pic
            stream = next((s for s in container.streams.video if not s.disposition & cover), None)
            if stream is None:
                raise InputError(f"{self.path}: the file holds no video stream")
            yield container, stream

    def _announced(self, stream: VideoStream) -> int | None:
        """Number of frames the container promises to show."""
        if "mp4" in self._format and stream.frames:
            # An edit list may hide frames that the plain count includes.
            shown = sum(not entry.is_discard for entry in stream.index_entries)
            return shown or stream.frames
        return stream.frames or None

    @staticmethod
    def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
        """Seconds by the header; None if it does not say."""
        if stream.duration is not None and stream.time_base is not None:
            return stream.duration * stream.time_base
        return None if container.duration is None else Fraction(container.duration, 1_000_000)

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        import av

        count = 0
        try:
            for packet in container.demux(stream):
                for frame in packet.decode():
                    yield frame
                    count += 1
        except av.error.FFmpegError as error:
            total = "" if self._total is None else f" of {self._total}"
            hint = f" (end={count} uses what is there)" if count else ""
            raise InputError(
                f"{self.path}: only {count}{total} frames could be decoded ({error.strerror}): the"
                f" file is damaged or cut short{hint}"
            ) from error

    def _orientation(self, frame: VideoFrame) -> tuple[int, int, int, int]:
        """Display matrix `(a, b, c, d)` of -1, 0, 1: x' = a x + c y, y' = b x + d y."""
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return (1, 0, 0, 1)
        values = np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]] / 65536
        a, b, c, d = (round(float(value)) for value in values)
        require(
            np.allclose(values, (a, b, c, d), atol=0.01)
            and (abs(a), abs(b), abs(c), abs(d)) in ((1, 0, 0, 1), (0, 1, 1, 0)),
            f"{self.path}: the video is to be shown turned by an angle that is not a multiple of"
            " 90 degrees: re-encode it upright",
        )
        return a, b, c, d

    def _image(self, frame: VideoFrame) -> Image:
        """Upright RGB pixels of a decoded frame."""
        image = frame.to_ndarray(format="rgb24", interpolation=_ACCURATE)
        a, b, c, d = self._matrix
        if a == 0:
            image, a, d = image.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def _frame(self, index: int, decoded: VideoFrame) -> Frame:
        hint = f" (end={index} uses the frames before it)" if index else ""
        require(not decoded.is_corrupt, f"{self.path}: frame {index} is damaged{hint}")
        require(
            (decoded.height, decoded.width) == self._stored_size,
            f"{self.path}: the size changes at frame {index} to {decoded.height} x"
            f" {decoded.width} (height x width){hint}",
        )
        time = index / self.frame_rate
        if decoded.pts is not None and self._first_pts is not None and decoded.time_base:
            time = (decoded.pts - self._first_pts) * Fraction(decoded.time_base)
        return Frame(index, self._image(decoded), time, f"{index:05d}")

    @cached_property
    def _timeline(self) -> list[int] | None:
        """Presentation time of every frame from the packets alone; None where they do not tell."""
        import av

        try:
            with self._open() as (container, stream):
                packets = container.demux(stream)
                stamps = [p.pts for p in packets if p.size and not p.is_discard]
        except av.error.FFmpegError:
            return None
        known = [stamp for stamp in stamps if stamp is not None]
        if self._first_pts is None or len(set(known)) < len(stamps):
            return None
        # Decoders drop what comes before the first frame they can show.
        shown = sorted(stamp for stamp in known if stamp >= self._first_pts)
        return shown if self._total in (None, len(shown)) else None

    def _seek(self, pts: int) -> VideoFrame | None:
        """The frame shown at `pts`, from the key frame before it; None if that went astray."""
        import av

        with self._open() as (container, stream):
            try:
                container.seek(pts, stream=stream)
                for number, frame in enumerate(self._decode(container, stream)):
                    astray = frame.pts is None or frame.pts > pts or frame.is_corrupt
                    if astray or (number == 0 and not frame.key_frame):
                        return None
                    if frame.pts == pts:
                        return frame
            except (av.error.FFmpegError, InputError):
                return None
        return None
