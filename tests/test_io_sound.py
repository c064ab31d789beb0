"""Videos with sound of another file, and with opacity."""

from __future__ import annotations

import contextlib
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import RATE, spoil, tracks, unknown

from warpkit.checks import InputError
from warpkit.io.audio import SoundTrack, usable_sound
from warpkit.io.video import VideoWriter


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


def brought_along(source: Path) -> tuple[str, int, int] | None:
    """Codec, channels and the loudest pitch in Hz of the sound that a new video gets of a file."""
    out = source.with_name("out.mp4")
    with VideoWriter(
        out, height=48, width=64, frame_rate=10, sound=SoundTrack(source), overwrite=True
    ) as writer:
        for i in range(10):
            writer.write(np.zeros((48, 64, 3), np.uint8), Fraction(i, 10))
    parts = []
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10
    with av.open(str(out)) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.FFmpegError):
                parts += [frame.to_ndarray().astype(float)[0] for frame in packet.decode()]
        name, channels = stream.codec_context.name, stream.codec_context.channels
        rate = stream.codec_context.sample_rate
    wave = np.concatenate(parts)
    pitch = (np.abs(np.fft.rfft(wave))[1:].argmax() + 1) * rate / len(wave)
    return name, channels, round(pitch / 20) * 20


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "warpkit"]


@pytest.mark.parametrize("code", [b"ac-4", b"mhm1", b"apac", b"enca"])
def test_sound_that_no_decoder_knows_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: bytes
) -> None:
    source = unknown(tracks(tmp_path / "v.mp4", ["aac"]), code)
    assert brought_along(source) is None
    (line,) = said(caplog)
    assert line.startswith(f"the sound of {source} cannot be used")


@pytest.mark.parametrize("kind", ["unknown", "damaged"])
def test_a_later_track_that_can_be_read_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    source = tracks(tmp_path / "v.mp4", ["aac", "aac"])
    source = unknown(source, b"ac-4") if kind == "unknown" else spoil(source, 0)
    assert brought_along(source) == ("aac", 1, 880)
    (line,) = said(caplog)
    assert line.endswith("track 2 goes along instead")


def test_no_track_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert brought_along(unknown(tracks(tmp_path / "v.mp4", ["aac", "aac"]), b"mha1", 2)) is None
    assert len(said(caplog)) == 1


@pytest.mark.parametrize("place", [20, 28])
def test_sound_without_channels_or_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    """Of a track that says neither, nothing can be made; nor does it harm."""
    source = tracks(tmp_path / "v.mp4", ["aac"])
    data = bytearray(source.read_bytes())
    at = data.find(b"mp4a")
    data[at + place : at + place + 2] = bytes(2)
    settings = data.find(b"esds", at)
    data[settings : settings + 4] = b"free"
    source.write_bytes(data)
    if brought_along(source) is None:
        assert len(said(caplog)) == 1


def test_sound_that_is_damaged_later_goes_along_as_far_as_it_can(tmp_path: Path) -> None:
    assert brought_along(spoil(tracks(tmp_path / "v.mp4", ["aac"]), 0.6)) == ("aac", 1, 440)


def test_damage_is_said_once_for_all_videos(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tracks(tmp_path / "v.mpg", ["mp2"], rate=32000)
    data = bytearray(source.read_bytes())
    start, end = len(data) * 3 // 4, len(data) * 19 // 20
    data[start:end] = np.random.default_rng(0).bytes(end - start)
    source.write_bytes(data)
    sound = usable_sound(source, "mp4")
    assert sound is not None and not sound.copied
    for name in ("a.mp4", "b.mp4"):
        track = SoundTrack(source, sound=sound)
        with VideoWriter(
            tmp_path / name, height=48, width=64, frame_rate=10, sound=track
        ) as writer:
            for i in range(10):
                writer.write(np.zeros((48, 64, 3), np.uint8), Fraction(i, 10))
    (line,) = said(caplog)
    assert line.startswith(f"a part of the sound of {source} is damaged: ")


def test_a_broadcast_with_a_hole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its packets become those of an MP4 file one by one, which not every one can."""
    source = tracks(tmp_path / "v.ts", ["aac"], layout="stereo")
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(37 * i % 256 for i in range(3000))
    source.write_bytes(data)
    assert brought_along(source) == ("aac", 2, 440)
    assert len(said(caplog)) <= 1


def test_what_mp4_takes_at_some_rates_alone_is_encoded(tmp_path: Path) -> None:
    source = tracks(tmp_path / "v.mkv", ["libmp3lame"], rate=8000)
    assert brought_along(source) == ("aac", 1, 440)


@pytest.mark.parametrize(("codec", "then"), [("mp2", "mono"), ("ac3", "5.1")])
def test_a_broadcast_that_changes_its_channels(tmp_path: Path, codec: str, then: str) -> None:
    first = tracks(tmp_path / "a.ts", [codec], layout="stereo")
    second = tracks(tmp_path / "b.ts", [codec], layout=then)
    (tmp_path / "v.ts").write_bytes(first.read_bytes() + second.read_bytes())
    found = brought_along(tmp_path / "v.ts")
    assert found is not None
    assert found[2] == 440


def test_subtitles_are_no_sound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, path = tracks(tmp_path / "a.mp4", ["aac"]), tmp_path / "v.mkv"
    (tmp_path / "t.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    with (
        av.open(str(tmp_path / "t.srt")) as text,
        av.open(str(source)) as given,
        av.open(str(path), "w") as made,
    ):
        streams = [*text.streams, *given.streams]
        copies = {stream: made.add_stream_from_template(stream) for stream in streams}
        for packet in itertools.chain(text.demux(), given.demux()):
            if packet.dts is not None:
                packet.stream = copies[packet.stream]
                made.mux(packet)
    with av.open(str(path)) as container:
        assert {stream.type for stream in container.streams} == {"subtitle", "video", "audio"}
    assert brought_along(path) == ("aac", 1, 440)
    assert said(caplog) == []


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
