"""Media files opened, and which of their streams is the picture.

In: a path. Out: an open container, and the video stream that people mean: not a cover picture, a
preview or a single still beside it.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from warpkit.checks import InputError, check_file, require

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["open_media", "picture_stream", "shown_from", "stream_seconds"]


def open_media(path: Path, what: str = "not a readable video") -> InputContainer:
    """Open a media file for reading.

    Args:
        what: what it then is, in words, to begin the message.

    Raises:
        InputError: no such file, a pipe or a device, or nothing that FFmpeg knows.
    """
    import av

    check_file(path)
    try:
        # An absolute path is never taken for a protocol such as "concat:".
        return av.open(str(path.absolute()))
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: {what} ({error.strerror}): the file is damaged, cut short or of another kind"
        ) from error


def stream_seconds(stream: VideoStream) -> Fraction | None:
    """How long a stream is by the header; None if that does not say."""
    if stream.duration is None or stream.time_base is None:
        return None
    return stream.duration * stream.time_base


def picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The video stream with the most pixels, of those that go on for as long as the longest.

    Of equal ones that of several frames, then that which the file marks as its default, then the
    first. Cover pictures are none.

    Raises:
        InputError: no video stream, or none that can be decoded.
    """
    from av.stream import Disposition

    stills = Disposition.attached_pic | Disposition.timed_thumbnails
    found = [s for s in container.streams.video if not s.disposition & stills]
    require(bool(found), f"{path}: the file holds no video stream")
    # PyAV gives a stream without a decoder no context, whatever its types say.
    usable = [s for s in found if s.codec_context is not None]
    require(
        bool(usable),
        f"{path}: there is no decoder for its video: convert it to H.264 (.mp4) first",
    )
    lengths = [stream_seconds(s) for s in usable]
    longest = max((length for length in lengths if length is not None), default=Fraction(0))
    # A still beside a clip may be larger than its frames.
    lasting = [
        stream
        for stream, length in zip(usable, lengths, strict=True)
        if length is None or 2 * length >= longest
    ]
    return max(
        lasting,
        key=lambda s: (
            s.codec_context.width * s.codec_context.height,
            s.frames > 1,  # an animated AVIF holds a still beside its frames
            bool(s.disposition & Disposition.default),
            -s.index,
        ),
    )


def shown_from(stream: VideoStream, first: VideoFrame | None) -> Fraction:
    """When a stream's first frame that can be decoded is shown, in seconds of the file's clock."""
    stamp = stream.start_time if first is None or first.pts is None else first.pts
    return Fraction(stamp or 0) * Fraction(stream.time_base or 1)
