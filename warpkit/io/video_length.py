"""How long a video is, without decoding any of it."""

from __future__ import annotations

from pathlib import Path

from warpkit.checks import InputError, require

__all__ = ["video_seconds"]


def video_seconds(path: str | Path) -> float:
    """Seconds from the first to the last frame, by the header or else the packets' times.

    Raises:
        InputError: no such file, no video, or one without any times.
    """
    import av

    path = Path(path)
    require(path.is_file(), f"{path}: no such file")
    try:
        # An absolute path is never taken for a protocol such as "concat:".
        with av.open(str(path.absolute())) as container:
            require(bool(container.streams.video), f"{path}: the file holds no video stream")
            stream = container.streams.video[0]
            stated = []
            if stream.duration and stream.time_base:
                stated.append(float(stream.duration * stream.time_base))
            if container.duration:
                stated.append(container.duration / av.time_base)
            if stated:
                return max(stated)
            ends = [
                float((packet.pts + (packet.duration or 0)) * packet.time_base)
                for packet in container.demux(stream)
                if packet.pts is not None and packet.time_base is not None
            ]
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: not a readable video ({error.strerror}): the file is damaged, cut short or of"
            " another kind"
        ) from error
    require(bool(ends), f"{path}: the video does not tell its times: convert it to .mp4")
    return max(ends)
