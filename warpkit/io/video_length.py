"""How long a video is, without decoding any of it."""

from __future__ import annotations

from pathlib import Path

from warpkit.checks import InputError, require
from warpkit.io.streams import open_media, picture_stream, stream_seconds

__all__ = ["video_seconds"]


def video_seconds(path: str | Path) -> float:
    """Seconds from the first to the last frame, by the header or else the packets' times.

    Raises:
        InputError: no such file, no video, or one without any times.
    """
    import av

    path = Path(path)
    with open_media(path) as container:
        stream = picture_stream(container, path)
        stated = [float(stream_seconds(stream) or 0), (container.duration or 0) / av.time_base]
        if any(stated):
            return max(stated)
        try:
            ends = [
                float((packet.pts + (packet.duration or 0)) * packet.time_base)
                for packet in container.demux(stream)
                if packet.pts is not None and packet.time_base is not None
            ]
        except av.error.FFmpegError as error:
            raise InputError(f"{path}: the video is damaged ({error.strerror})") from error
    require(bool(ends), f"{path}: the video does not tell its times: convert it to .mp4")
    return max(ends)
