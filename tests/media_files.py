"""Videos of a test's own: plain ones, unknown or damaged sound, headers that lie."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from warpkit.render import RenderedFrame

RATE = 48_000


def tracks(path: Path, codecs: list[str], *, rate: int = RATE, layout: str = "mono") -> Path:
    """A second at 10 frames a second; track n holds a tone of 440 (n + 1) Hz."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        made = [container.add_stream(codec, rate=rate, layout=layout) for codec in codecs]
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i, np.uint8), "rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
            t = np.arange(i * rate // 10, (i + 1) * rate // 10)
            for n, sound in enumerate(made, start=1):
                wave = (8000 * np.sin(2 * np.pi * 440 * n * t / rate)).astype(np.int16)
                samples = np.repeat(wave[:, None], sound.codec_context.channels, axis=1)
                part = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", layout)
                part.sample_rate, part.pts, part.time_base = rate, int(t[0]), Fraction(1, rate)
                container.mux(sound.encode(part))
        for stream in (video, *made):
            container.mux(stream.encode(None))
    return path


def unknown(path: Path, code: bytes, count: int = 1) -> Path:
    """Let the first tracks of an MP4 file be of a codec that FFmpeg has no decoder for."""
    data, at = bytearray(path.read_bytes()), 0
    for _ in range(count):
        at = data.find(b"mp4a", max(at, data.find(b"moov")))
        data[at : at + 4] = code
        settings = data.find(b"esds", at)
        data[settings : settings + 4] = b"free"
    path.write_bytes(data)
    return path


def spoil(path: Path, keep: float) -> Path:
    """Overwrite the data of the first sound track, but for a share at its beginning."""
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        packets = [(p.pos, p.size) for p in container.demux(sound) if p.size]
    data = bytearray(path.read_bytes())
    for place, size in packets[round(keep * len(packets)) :]:
        data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def encoded(path: Path, clip: list[RenderedFrame], codec: str, pixels: str, *, rate: int) -> Path:
    """A clip as a video of a codec and a pixel format."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = clip[0].image.shape[:2]
        stream.pix_fmt = pixels
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, "rgb24")))
        container.mux(stream.encode())
    return path


def lying(path: Path, clip: list[RenderedFrame], announced: int) -> Path:
    """An AVI file whose header announces another number of frames."""
    encoded(path, clip, "mjpeg", "yuvj444p", rate=12)
    data = bytearray(path.read_bytes())
    for place in (data.find(b"strh") + 8 + 32, data.find(b"avih") + 8 + 16):
        data[place : place + 4] = announced.to_bytes(4, "little")
    path.write_bytes(data)
    return path
