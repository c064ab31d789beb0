"""Frames of a video file or an animated GIF, decoded by PyAV one at a time."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import InputError, check_image, counted, require
from warpkit.io.file_end import reaches_end
from warpkit.io.frame import Colour, Frame, Frames, Selection
from warpkit.io.images import picture_count
from warpkit.io.streams import open_media, picture_stream, shown_from, stream_seconds

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["VideoFrames"]

_log = logging.getLogger("warpkit")

# ITU-T H.273: what is not shown as BT.709 is; the rest hardly differs from it.
_WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_TRANSFERS = {14: "BT.2020", 15: "BT.2020", 16: "PQ", 18: "HLG"}

# libswscale's SWS_BILINEAR | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND. Its default path is faster but
# darkens every channel by about one level.
_ACCURATE = 0x2 | 0x2000 | 0x40000
# What other programs ask of it: PyAV, OpenCV and ffmpeg, the last two with more accuracy.
_WAYS = (0x2, 0x4, 0x4 | 0x40000, 0x4 | 0x2000 | 0x40000)


def _refuse_image(path: Path, *, is_text: bool) -> None:
    """Raise for what FFmpeg reads, though it is no video to it: images, animations, texts."""
    expected = f"{path}: expected a video or a folder of images, this is"
    require(not is_text, f"{expected} a text file")
    try:
        pictures = picture_count(path)
    except InputError as error:
        raise InputError(f"{path}: expected a video or a folder of images: {error}") from error
    require(pictures > 1, f"{expected} a single image")
    raise InputError(
        f"{expected} an image file of {pictures} pictures (an animated WebP or PNG, or pages of a"
        " TIFF), which is not read as a video: save its pictures into a folder, or convert it to"
        " .mp4 or .gif"
    )


class VideoFrames(Frames):
    """The frames of a video file or an animated GIF, decoded by PyAV.

    Turned upright by the container's display matrix. Pixels that the file declares non-square
    stay as stored, and so do the values of high dynamic range. Videos without a colour tag are
    taken as BT.601, as FFmpeg does.

    The frames are those that can be decoded, and numbered so, whatever the header announces; where
    that differs, one line says so.
    """

    def __init__(self, path: Path, selection: Selection) -> None:
        self.path, self._selection, self.names = path, selection, None
        self._reason = ""  # of the last packet that could not be decoded
        self._passed: list[int | None] = []  # presentation times of the frames of a pass
        self._told = False
        with self._open() as (container, stream):
            self._format = container.format.name
            announced, whole = self._promised(stream)
            rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
            duration = stream_seconds(stream)
            if duration is None and container.duration is not None:
                duration = Fraction(container.duration, 1_000_000)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            others = len(container.streams.video) > 1
            first = next(self._decode(container, stream), None)
            # AVI files know in which order frames are stored, not when reordered ones are shown.
            self._ordered = self._format != "avi" or not stream.codec_context.has_b_frames
            late = (shown_from(stream, first) - shown_from(stream, None)) * self._ordered
        if first is None:
            raise InputError(f"{path}: not one frame of the video can be decoded")
        # Some containers state the resolution of their clock instead.
        usable = [Fraction(rate) for rate in rates if rate and rate <= 1000]
        require(len(usable) > 0, f"{path}: the video states no frame rate: convert it to .mp4")
        self.frame_rate = usable[0]
        self._matrix = self._orientation(first)
        self.pixel_aspect = aspect if self._matrix[0] else 1 / aspect
        self.colour = _colour(first)
        self._first_pts, self._stored_size = first.pts, (first.height, first.width)
        self.height, self.width = check_image(self._image(first), str(path)).shape[:2]
        late = late if 2 * late * self.frame_rate > 1 else Fraction(0)
        # A header may be wrong, and what comes before the first key frame is not shown.
        self._announced, self._total, total = announced, announced, announced
        if announced is not None and (late or not whole):
            self._total = total = self._held()
        self.count = None if total is None else len(selection.indices(total, path))
        self.about = self.count
        if total is None and duration is not None:
            frames = max(1, round((duration - late) * self.frame_rate))
            self.about = len(selection.up_to(frames))
        self._tell_at_open(late, others=others)

    def _tell_at_open(self, late: Fraction, *, others: bool) -> None:
        """Say what of the file is left out or guessed, as far as it is known before decoding."""
        if others:
            _log.warning(
                "%s holds several videos: that of %d x %d pixels is taken",
                *(self.path, self.width, self.height),
            )
        if late:
            _log.warning(
                "%s begins between key frames: its first %.2f s cannot be decoded and are left out",
                *(self.path, float(late)),
            )
        elif self._announced != self._total:
            _log.warning(
                "%s: the header announces %s, but the file holds %d: these are used",
                *(self.path, counted(self._announced or 0, "frame"), self._total),
            )
        if self.colour is not None:
            _log.warning(
                "%s is of high dynamic range or wide colour (%s): values are taken as they are"
                " coded, not tone-mapped, and videos made of them are tagged alike",
                *(self.path, _colour_name(self.colour)),
            )

    def __iter__(self) -> Iterator[Frame]:
        index, damaged = 0, 0
        with self._open() as (container, stream):
            for decoded in self._decode(container, stream):
                size = (decoded.height, decoded.width)
                if size != self._stored_size:
                    self._tell(
                        f"the size changes at frame {index} to {size[0]} x {size[1]} (height x"
                        " width): the frames before it are used"
                    )
                    self._total = None
                    break
                damaged += decoded.is_corrupt
                if index == len(self._passed):
                    self._passed.append(decoded.pts)
                if index in self._selection:
                    yield self._frame(index, decoded)
                index += 1
                if index == self._selection.end:
                    return
        self._tell_at_end(index, damaged)
        # Where the container states no count, only now is it known whether `start` exists.
        self._selection.indices(index, self.path)

    def _tell_at_end(self, count: int, damaged: int) -> None:
        """Say where a pass found other frames than the file holds by its own word."""
        reason = f" ({self._reason})" if self._reason else ""
        if self._total is not None and count < self._total:
            self._tell(
                f"it has {counted(self._total, 'frame')}, but only {count} could be decoded"
                f"{reason}: the file is damaged or cut short, and these are used"
            )
        elif not reaches_end(self.path, self._format):
            self._tell(
                f"the video is longer by its header, but only {counted(count, 'frame')} could be"
                " decoded: the file is cut short, and these are used"
            )
        elif self._reason and self._announced == self._total:  # or it is told already
            self._tell(
                f"parts of the video could not be decoded{reason}: {counted(count, 'frame')} used"
            )
        elif damaged:
            self._tell(
                f"damaged: {damaged} of {counted(count, 'frame')}, used as they were decoded"
            )

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            _log.warning("%s: %s", self.path, text)

    def read(self, index: int) -> Frame:
        require(index in self._selection, f"{self.path}: frame {index} is not among those selected")
        stamp = self._stamp(index)
        decoded = None if stamp is None else self._seek(stamp)
        if decoded is not None:
            return self._frame(index, decoded)
        count = 0
        with self._open() as (container, stream):
            for count, decoded in enumerate(self._decode(container, stream), start=1):
                if count > index:
                    return self._frame(index, decoded)
        raise InputError(
            f"{self.path}: there is no frame {index}: the video has {counted(count, 'frame')}"
        )

    def decodings(self, index: int) -> list[Image]:
        with self._open() as (container, stream):
            decoded = next(itertools.islice(self._decode(container, stream), index, None), None)
        require(decoded is not None, f"{self.path}: there is no frame {index}")
        assert decoded is not None
        return [
            self._upright(
                decoded.to_ndarray(format="rgb24", interpolation=way, src_colorspace=matrix)
            )
            for way in _WAYS
            for matrix in (None, "ITU709", "ITU601")
        ]

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        with open_media(self.path) as container:
            name = container.format.name
            # FFmpeg also reads single images, and text files as films of a terminal.
            if name in ("tty", "image2", "apng") or name.endswith("_pipe"):
                _refuse_image(self.path, is_text=name == "tty")
            yield container, picture_stream(container, self.path)

    def _promised(self, stream: VideoStream) -> tuple[int | None, bool]:
        """Number of frames that the header promises to show, and whether that is reliable."""
        if "mp4" in self._format and stream.frames:
            # An edit list may hide frames that the plain count includes.
            shown = [entry for entry in stream.index_entries if not entry.is_discard]
            size = self.path.stat().st_size
            return len(shown) or stream.frames, all(e.pos + e.size <= size for e in shown)
        return stream.frames or None, False

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet | None]:
        """The packets up to the end or to damage, and last what empties the decoder."""
        import av

        try:
            yield from container.demux(stream)
        except av.error.FFmpegError as error:
            self._reason = error.strerror or type(error).__name__
            yield None

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """All frames that can be decoded, without a damaged one at the very end: a cut one."""
        import av

        begun, held = False, None
        for packet in self._packets(container, stream):
            try:
                frames = stream.decode(packet)
            except av.error.FFmpegError as error:
                if begun:  # nothing before the first key frame can be decoded
                    self._reason = error.strerror or type(error).__name__
                continue
            for frame in frames:
                begun = True
                if held is not None:
                    yield held
                held = frame if frame.is_corrupt else None
                if held is None:
                    yield frame
        if held is not None:
            self._reason = "its last frame is cut short"

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
        return self._upright(frame.to_ndarray(format="rgb24", interpolation=_ACCURATE))

    def _upright(self, image: npt.NDArray[Any]) -> Image:
        a, b, c, d = self._matrix
        if a == 0:
            image, a, d = image.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def _frame(self, index: int, decoded: VideoFrame) -> Frame:
        hint = f" (end={index} uses the frames before it)" if index else ""
        require(
            (decoded.height, decoded.width) == self._stored_size,
            f"{self.path}: the size changes at frame {index} to {decoded.height} x"
            f" {decoded.width} (height x width){hint}",
        )
        time = index / self.frame_rate
        if decoded.pts is not None and self._first_pts is not None and decoded.time_base:
            time = (decoded.pts - self._first_pts) * Fraction(decoded.time_base)
        return Frame(index, self._image(decoded), time, f"{index:05d}")

    def _stamp(self, index: int) -> int | None:
        """Presentation time of a frame; None where nothing tells."""
        if index < len(self._passed):
            stamp = self._passed[index]
            return stamp if self._passed.count(stamp) == 1 else None
        timeline = self._timeline
        return timeline[index] if timeline is not None and index < len(timeline) else None

    @cached_property
    def _stamps(self) -> list[int | None]:
        """Presentation times of the packets that are to be shown, in the order stored."""
        with self._open() as (container, stream):
            packets = self._packets(container, stream)
            found = [p for p in packets if p is not None and p.size and not p.is_discard]
        # The last packet of a file that was cut short is not whole.
        whole = found[:-1] if found and found[-1].is_corrupt else found
        return [packet.pts for packet in whole]

    @cached_property
    def _shown(self) -> list[int] | None:
        """Those of the frames, in order, from the packets alone; None where they do not tell."""
        known = [stamp for stamp in self._stamps if stamp is not None]
        if self._first_pts is None or len(set(known)) < len(self._stamps) or not self._ordered:
            return None
        # Decoders drop what comes before the first frame they can show.
        return sorted(stamp for stamp in known if stamp >= self._first_pts)

    @property
    def _timeline(self) -> list[int] | None:
        shown = self._shown
        return shown if shown is not None and self._total in (None, len(shown)) else None

    def _held(self) -> int:
        """Number of frames by the packets that are there."""
        return len(self._stamps if self._shown is None else self._shown)

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


def _colour(frame: VideoFrame) -> Colour | None:
    """How a frame's values are to be shown; None where that is BT.709 or much like it."""
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    if primaries not in _WIDE and transfer not in _TRANSFERS:
        return None
    wide = primaries == 9 or transfer in _TRANSFERS
    # 2: not stated.
    return Colour(
        9 if primaries == 2 and wide else primaries,
        1 if transfer == 2 else transfer,
        9 if wide else 1,
    )


def _colour_name(colour: Colour) -> str:
    names = (_TRANSFERS.get(colour.transfer), _WIDE.get(colour.primaries))
    return ", ".join(dict.fromkeys(name for name in names if name))
