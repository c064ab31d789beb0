"""Videos with sound of another file, and with opacity."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.io.audio import SoundTrack
from warpkit.io.video import VideoWriter

RATE = 48_000


def film(path: Path, codec: str, video_codec: str = "libx264", *, layout: str = "mono") -> Path:
    """Two seconds at 10 frames a second: silence, then a tone from one second on."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=RATE)
        sound.codec_context.layout = layout
        channels = sound.codec_context.channels
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i, np.uint8), "rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
            t = np.arange(i * RATE // 10, (i + 1) * RATE // 10)
            wave = (8000 * np.sin(2 * np.pi * 440 * t / RATE) * (t >= RATE)).astype(np.int16)
            samples = np.repeat(wave[:, None], channels, axis=1).reshape(1, -1)
            part = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
            part.sample_rate, part.pts, part.time_base = RATE, int(t[0]), Fraction(1, RATE)
            container.mux(sound.encode(part))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def onset(path: Path) -> tuple[str, float, float]:
    """Codec of the sound, when the tone begins, how long the sound is; seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        name, begin, end = stream.codec_context.name, None, 0.0
        for frame in container.decode(stream):
            samples = np.abs(frame.to_ndarray().astype(float)).ravel()
            loud = np.flatnonzero(samples > 0.3 * (8000 if samples.max() > 2 else 8000 / 32768))
            end = float(frame.time) + frame.samples / frame.sample_rate
            if begin is None and len(loud):
                begin = float(frame.time) + loud[0] / frame.sample_rate
    assert begin is not None
    return name, begin, end


@pytest.mark.parametrize(
    ("name", "codec", "video", "expected"),
    [
        ("a.mp4", "aac", "libx264", "aac"),
        ("b.mkv", "pcm_s16le", "libx264", "aac"),  # .mp4 would not play it
        ("c.webm", "libopus", "libvpx", "opus"),
        ("d.mov", "pcm_s16le", "libx264", "aac"),
    ],
)
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 2)])
def test_sound_stays_with_the_picture(
    tmp_path: Path, name: str, codec: str, video: str, expected: str, start: Fraction
) -> None:
    source = film(tmp_path / name, codec, video)
    out = tmp_path / "out.mp4"
    with VideoWriter(
        out, height=48, width=64, frame_rate=10, sound=SoundTrack(source, start)
    ) as writer:
        for i in range(12):
            writer.write(np.zeros((48, 64, 3), np.uint8), Fraction(i, 10))
    found, begin, end = onset(out)
    assert found == expected
    assert begin == pytest.approx(1 - float(start), abs=0.04)
    assert end == pytest.approx(1.2, abs=0.12)  # to the end of the last frame, by whole packets
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


def test_a_film_without_sound_gives_none(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "mute.mp4", height=48, width=64, frame_rate=10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    sound = SoundTrack(tmp_path / "mute.mp4")
    with VideoWriter(
        tmp_path / "out.mp4", height=48, width=64, frame_rate=10, sound=sound
    ) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize(("name", "codec"), [("v.mov", "prores"), ("v.mkv", "ffv1")])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (31, 47)])
def test_opacity_comes_back(tmp_path: Path, name: str, codec: str, height: int, width: int) -> None:
    image = np.zeros((height, width, 4), np.uint8)
    image[..., 0], image[: height // 2, :, 1] = 200, 90
    image[..., 3] = np.linspace(0, 255, width).astype(np.uint8)
    path = tmp_path / name
    with VideoWriter(
        path, height=height, width=width, frame_rate=24, codec=codec, alpha=True
    ) as writer:
        for _ in range(2):
            writer.write(image)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == codec
        frames = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
        profile = container.streams.video[0].profile
    assert len(frames) == 2
    assert profile == ("4444" if codec == "prores" else None)
    allowed = 2 if codec == "prores" else 0  # prores is nearly lossless, ffv1 is
    assert np.abs(frames[1].astype(int) - image).max() <= allowed


def test_opacity_that_does_not_fit(tmp_path: Path) -> None:
    size = {"height": 48, "width": 64, "frame_rate": 24}
    with pytest.raises(InputError, match="h264 video holds no opacity"):
        VideoWriter(tmp_path / "v.mp4", **size, alpha=True)
    with VideoWriter(tmp_path / "v.mkv", **size, codec="ffv1", alpha=True) as writer:
        with pytest.raises(InputError, match="frames with opacity are"):
            writer.write(np.zeros((48, 64, 3), np.uint8))
        writer.write(np.zeros((48, 64, 4), np.uint8))
