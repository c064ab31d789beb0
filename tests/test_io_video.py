"""Videos out: exact sizes and times, lossless where promised, whole files or none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.io.frames import open_frames
from warpkit.io.video import VideoWriter

NTSC = Fraction(30000, 1001)


def smooth(index: int, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    wave = 127 + 60 * np.sin(x / width * 3 + y / height * 2 + index / 5)
    return np.stack([40 + 170 * x / width, 200 - 150 * y / height, wave], -1).astype(np.uint8)


def noise(index: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv"])
@pytest.mark.parametrize(("height", "width"), [(96, 128), (101, 67), (64, 33)])
def test_h264_round_trip(tmp_path: Path, name: str, height: int, width: int) -> None:
    images = [smooth(i, height, width) for i in range(4)]
    with VideoWriter(tmp_path / name, height=height, width=width, frame_rate=NTSC) as writer:
        for image in images:
            writer.write(image)
    frames = open_frames(tmp_path / name)
    assert (frames.height, frames.width, frames.frame_rate) == (height, width, NTSC)
    decoded = list(frames)
    assert len(decoded) == 4
    for frame, image in zip(decoded, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 2


@pytest.mark.parametrize(("height", "width"), [(96, 128), (101, 67)])
def test_colours_do_not_drift(tmp_path: Path, height: int, width: int) -> None:
    """Almost without compression, no channel is shifted by conversion there and back."""
    image = smooth(0, height, width)
    with VideoWriter(
        tmp_path / "v.mp4", height=height, width=width, frame_rate=24, crf=1
    ) as writer:
        writer.write(image)
    difference = open_frames(tmp_path / "v.mp4").read(0).image.astype(int) - image
    assert np.abs(difference).mean() < 0.8
    assert np.abs(difference.mean((0, 1))).max() < 0.7


def test_h264_is_tagged_and_starts_fast(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, height=48, width=64, frame_rate=24) as writer:
        writer.write(smooth(0, 48, 64))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", 1, 1)
        assert (frame.color_primaries, frame.color_trc) == (1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_quality_follows_crf(tmp_path: Path) -> None:
    sizes = []
    for crf in (10, 40):
        path = tmp_path / f"{crf}.mp4"
        with VideoWriter(path, height=48, width=64, frame_rate=24, crf=crf) as writer:
            writer.write(noise(0, 48, 64))
        sizes.append(path.stat().st_size)
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (101, 67), (2, 3)])
def test_ffv1_is_lossless(tmp_path: Path, height: int, width: int) -> None:
    images = [noise(i, height, width) for i in range(3)]
    path = tmp_path / "v.mkv"
    with VideoWriter(path, height=height, width=width, frame_rate=25, codec="ffv1") as writer:
        for image in images:
            writer.write(image)
    decoded = list(open_frames(path))
    assert len(decoded) == 3
    for frame, image in zip(decoded, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)


def test_constant_rate_gives_exact_times(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, height=48, width=64, frame_rate=24000 / 1001) as writer:
        for i in range(5):
            writer.write(smooth(i, 48, 64))
    assert [frame.time for frame in open_frames(path)] == [
        Fraction(1001 * i, 24000) for i in range(5)
    ]


def test_times_of_their_own_are_kept(tmp_path: Path) -> None:
    thousandth = Fraction(1, 1000)
    times = [Fraction(0), Fraction(1, 24), Fraction(5005, 24000), Fraction(1, 2), 777 * thousandth]
    for name in ("v.mp4", "v.mkv"):
        with VideoWriter(tmp_path / name, height=48, width=64, frame_rate=24) as writer:
            for i, time in enumerate(times):
                writer.write(smooth(i, 48, 64), time)
        read = [frame.time for frame in open_frames(tmp_path / name)]
        if name == "v.mp4":
            assert read == times
        else:
            assert all(abs(a - b) <= thousandth for a, b in zip(read, times, strict=True))


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "h264"), ("v.mkv", "h264"), ("v.mkv", "ffv1")]
)
def test_equal_frames_give_equal_files(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    files = []
    for _ in range(3):
        with VideoWriter(
            path, height=48, width=64, frame_rate=24, codec=codec, overwrite=True
        ) as writer:
            for i in range(10):
                writer.write(smooth(i, 48, 64))
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]


def test_exception_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    for before in ([], ["v.mp4"]):
        with (
            pytest.raises(RuntimeError, match="on purpose"),
            VideoWriter(path, height=48, width=64, frame_rate=24, overwrite=True) as writer,
        ):
            writer.write(smooth(0, 48, 64))
            raise RuntimeError("on purpose")
        assert [file.name for file in tmp_path.iterdir()] == before
        path.write_bytes(b"old")
    assert path.read_bytes() == b"old"


def test_existing_file_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="exists already"):
        VideoWriter(path, height=48, width=64, frame_rate=24)
    with VideoWriter(path, height=48, width=64, frame_rate=24, overwrite=True) as writer:
        writer.write(smooth(0, 48, 64))
        assert path.read_bytes() == b"old"
    assert open_frames(path).count == 1
    assert [file.name for file in tmp_path.iterdir()] == ["v.mp4"]


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="no frame was written"),
        VideoWriter(tmp_path / "v.mp4", height=48, width=64, frame_rate=24),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_bad_frames(tmp_path: Path) -> None:
    image = smooth(0, 48, 64)
    size = {"height": 48, "width": 64, "frame_rate": 24}
    with VideoWriter(tmp_path / "v.mp4", **size) as writer:
        with pytest.raises(InputError, match=r"frames are 48 x 64 .*, frame 0 is 64 x 48"):
            writer.write(smooth(0, 64, 48))
        with pytest.raises(InputError, match="frame must be a uint8 RGB array"):
            writer.write(image.astype(np.float32))
        with pytest.raises(InputError, match="times must start at 0 or later"):
            writer.write(image, -1)
        writer.write(image, 0.5)
        with pytest.raises(InputError, match=r"frame 1 is at 0\.5 s"):
            writer.write(image, 0.5)
        with pytest.raises(InputError, match="for every frame or for none"):
            writer.write(image)
    with pytest.raises(InputError, match="inside a `with` block"):
        writer.write(image)
    assert open_frames(tmp_path / "v.mp4").count == 1


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("v.mp4", {"codec": "h265"}, "unknown codec 'h265'"),
        ("v.mp4", {"codec": "ffv1"}, r"ffv1 video goes into \.mkv, not '\.mp4'"),
        ("v.avi", {}, r"h264 video goes into \.mp4, \.mov, \.mkv"),
        ("v.mp4", {"height": 1}, "at least 2 x 2 pixels, got 1 x 64"),
        ("v.mp4", {"frame_rate": 0}, "frame_rate must lie in"),
        ("v.mp4", {"crf": 60}, "crf must lie in"),
        ("none/v.mp4", {}, "does not exist: create it"),
    ],
)
def test_bad_settings(tmp_path: Path, name: str, change: dict[str, object], message: str) -> None:
    settings = {"height": 48, "width": 64, "frame_rate": 24} | change
    with pytest.raises(InputError, match=message):
        VideoWriter(tmp_path / name, **settings)


def test_a_file_with_frames_at_times_of_their_own_states_its_whole_length(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.2, 0.25, 0.65]
    with VideoWriter(tmp_path / "v.mp4", height=48, width=64, frame_rate=25) as writer:
        for k, time in enumerate(times):
            writer.write(np.full((48, 64, 3), 30 * k, np.uint8), time=time)
    with av.open(tmp_path / "v.mp4") as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        # The last frame is shown for one frame of the nominal rate.
        assert float(stream.duration * stream.time_base) == pytest.approx(0.69, abs=1e-3)
