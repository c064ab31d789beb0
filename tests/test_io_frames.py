"""Frames in: videos and folders give the same upright frames lazily, again and at random."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from warpkit.checks import InputError
from warpkit.io.frame import Frames
from warpkit.io.frames import open_frames
from warpkit.io.images import write_image
from warpkit.io.video import VideoWriter

HEIGHT, WIDTH = 48, 64


def picture(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth, with a red level that tells the index: 20, 40, ..."""
    y, x = np.mgrid[0:height, 0:width]
    red = np.full((height, width), 20 * (index + 1))
    return np.stack([red % 256, 30 + 2 * y, 30 + 2 * x], -1).astype(np.uint8)


def encode(
    path: Path,
    *,
    count: int = 10,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    stream_options: dict[str, str] | None = None,
    file_options: dict[str, str] | None = None,
    rotation: tuple[int, bool] | None = None,
) -> Path:
    """A video as other programs write it: 24 frames per second, untagged BT.601."""
    # Without a macroblock tree x264 gives the same tiny video each time.
    defaults = {"mbtree": "0"} if codec == "libx264" else {"b": "4000000"}
    options = defaults | (stream_options or {})
    with av.open(str(path), "w", options=file_options or {}) as container:
        stream = container.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i), "rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_folder(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        write_image(folder / name, picture(i))
    return folder


def indices(frames: Frames) -> list[int]:
    return [frame.index for frame in frames]


def assert_read_equals_iteration(frames: Frames) -> None:
    decoded = list(frames)
    for frame in (*decoded[::-1], *decoded[::3]):
        again = frames.read(frame.index)
        np.testing.assert_array_equal(again.image, frame.image)
        assert (again.index, again.time, again.name) == (frame.index, frame.time, frame.name)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "count"),
    [
        ("v.mp4", "libx264", "yuv420p", 10),
        ("v.mov", "libx264", "yuv420p", 10),
        ("v.mkv", "libx264", "yuv420p", None),
        ("v.mp4", "libx264", "yuv420p10le", 10),
        ("v.webm", "libvpx-vp9", "yuv420p", None),
        ("v.avi", "mpeg4", "yuv420p", 10),
        ("v.ts", "libx264", "yuv420p", None),
        ("v.mkv", "ffv1", "bgr0", None),
    ],
)
def test_videos(tmp_path: Path, name: str, codec: str, pixels: str, count: int | None) -> None:
    frames = open_frames(encode(tmp_path / name, codec=codec, pixels=pixels))
    assert (frames.height, frames.width, frames.count) == (HEIGHT, WIDTH, count)
    assert frames.frame_rate == 24
    assert frames.names is None
    for _ in range(2):  # iterable again
        assert indices(frames) == list(range(10))
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert np.abs(frame.image.astype(int) - picture(frame.index)).mean() < 4
        assert abs(frame.time - Fraction(frame.index, 24)) <= Fraction(1, 1000)
        assert frame.name == f"0000{frame.index}"
    assert_read_equals_iteration(frames)


def test_lossless_pixels_of_odd_size(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with VideoWriter(path, height=101, width=67, frame_rate=25, codec="ffv1") as writer:
        for i in range(3):
            writer.write(picture(i, 101, 67))
    frames = open_frames(path)
    assert (frames.height, frames.width) == (101, 67)
    for frame in frames:
        np.testing.assert_array_equal(frame.image, picture(frame.index, 101, 67))


def test_random_access_across_key_frames(tmp_path: Path) -> None:
    for options in ({"g": "4"}, {"g": "6", "x264-params": "open-gop=1:bframes=3:keyint=6"}):
        path = encode(tmp_path / "v.mp4", count=20, stream_options=options)
        assert_read_equals_iteration(open_frames(path))


@pytest.mark.parametrize("kind", ["video", "folder"])
@pytest.mark.parametrize(
    ("start", "end", "stride", "expected"),
    [
        (0, None, 3, [0, 3, 6, 9]),
        (2, 8, 2, [2, 4, 6]),
        (9, None, 1, [9]),
        (1, 99, 5, [1, 6]),
    ],
)
def test_selection(
    tmp_path: Path, kind: str, start: int, end: int | None, stride: int, expected: list[int]
) -> None:
    if kind == "video":
        path = encode(tmp_path / "v.mp4")
    else:
        path = write_folder(tmp_path / "folder", [f"{i}.png" for i in range(10)])
    frames = open_frames(path, start=start, end=end, stride=stride)
    assert indices(frames) == expected
    assert frames.count == len(expected)
    last = frames.read(expected[-1])
    assert last.time == Fraction(expected[-1], 24)
    assert abs(int(last.image[0, 0, 0]) - 20 * (expected[-1] + 1)) <= 8
    with pytest.raises(InputError, match="frame 7 is not among those selected"):
        frames.read(7)


def test_bad_selections(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4")
    for arguments, message in (
        ({"start": -1}, "start must be 0 or more, got -1"),
        ({"stride": 0}, "stride must be 1 or more, got 0"),
        ({"start": 4, "end": 4}, "end must be greater than start = 4, got 4"),
        ({"start": 10}, "start=10, but it has 10 frames only"),
        ({"frame_rate": 10}, "a frame rate is given for a folder"),
    ):
        with pytest.raises(InputError, match=message):
            open_frames(path, **arguments)
    with pytest.raises(InputError, match="start=10, but it has 10 frames only"):
        list(open_frames(encode(tmp_path / "v.mkv"), start=10))
    with pytest.raises(InputError, match="there is no frame 12: the video has 10 frames"):
        open_frames(path).read(12)


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 24), Fraction(1, 10), Fraction(1, 2), Fraction(3, 4)]
    path = tmp_path / "v.mp4"
    with VideoWriter(path, height=HEIGHT, width=WIDTH, frame_rate=24) as writer:
        for i, time in enumerate(times):
            writer.write(picture(i), time)
    frames = open_frames(path)
    assert [frame.time for frame in frames] == times
    assert_read_equals_iteration(frames)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_display_matrix_is_applied(tmp_path: Path, degrees: int, flip: bool) -> None:
    """Counter-clockwise, as FFmpeg counts; a flip comes after the turn, left to right."""
    path = tmp_path / "v.mov"
    frames = open_frames(encode(path, codec="png", pixels="rgb24", rotation=(degrees, flip)))
    expected = np.rot90(picture(3), degrees // 90)
    shown = frames.read(3).image
    assert (frames.height, frames.width) == expected.shape[:2] == shown.shape[:2]
    np.testing.assert_array_equal(shown, expected[:, ::-1] if flip else expected)


def test_other_angles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a multiple of 90 degrees"):
        open_frames(encode(tmp_path / "v.mp4", rotation=(30, False)))


def test_edit_list_hides_frames(tmp_path: Path) -> None:
    """A trimmed phone video still counts the frames that its edit list hides."""
    source = encode(tmp_path / "v.mp4", count=20, stream_options={"g": "4"})
    path = tmp_path / "trimmed.mp4"
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as given, av.open(str(path), "w", options=options) as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        shift = round(7 / 24 / stream.time_base)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                made.mux(packet)
    frames = open_frames(path)
    assert frames.count == 13
    whole = list(open_frames(source))
    for frame in frames:
        np.testing.assert_array_equal(frame.image, whole[frame.index + 7].image)
    assert_read_equals_iteration(frames)


def test_gif(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    pictures = [Image.new("RGB", (WIDTH, HEIGHT), (40 * i, 0, 255)) for i in range(5)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    frames = open_frames(path)
    assert (frames.count, frames.frame_rate) == (5, 10)
    assert [frame.time for frame in frames] == [Fraction(i, 10) for i in range(5)]
    assert [frame.image[20, 30].tolist() for frame in frames] == [
        [40 * i, 0, 255] for i in range(5)
    ]
    assert_read_equals_iteration(frames)


def test_video_is_closed_when_iteration_stops_early(tmp_path: Path) -> None:
    frames = open_frames(encode(tmp_path / "v.mp4"))
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("open files are listed by Linux only")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        assert next(iter(frames)).index == 0
    gc.collect()
    assert len(list(descriptors.iterdir())) == before


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_mp4_cut_in_the_middle_keeps_what_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"movflags": "+faststart"}
    path = encode(tmp_path / "v.mp4", count=20, file_options=options, stream_options={"g": "5"})
    whole = list(open_frames(path))
    frames = open_frames(cut(path, 0.75))
    found = list(frames)
    assert 0 < len(found) < 20
    assert frames.count == len(found)
    said = (
        f"{path}: the header announces 20 frames, but the file holds {len(found)}: these are used"
    )
    assert lines(caplog) == [said]
    for frame in found:
        np.testing.assert_array_equal(frame.image, whole[frame.index].image)
    assert_read_equals_iteration(frames)


def test_mp4_without_its_index_is_not_a_readable_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a readable video"):
        open_frames(cut(encode(tmp_path / "v.mp4"), 0.5))


@pytest.mark.parametrize(("name", "codec"), [("v.mkv", "libx264"), ("v.webm", "libvpx-vp9")])
def test_matroska_cut_in_the_middle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, codec: str
) -> None:
    frames = open_frames(cut(encode(tmp_path / name, codec=codec, count=20), 0.7))
    for _ in range(2):  # said once
        assert 0 < len(list(frames)) < 20
    (said,) = lines(caplog)
    assert "longer by its header, but only" in said
    assert_read_equals_iteration(frames)


def test_gif_cut_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.gif"
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (48, 64), dtype=np.uint8)) for _ in range(6)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    found = list(open_frames(cut(path, 0.6)))
    assert len(found) == 4  # the last of them in part
    for frame, image in zip(found[:3], pictures, strict=False):
        np.testing.assert_array_equal(frame.image[..., 0], np.asarray(image))
    assert "cut short" in " ".join(lines(caplog))


def test_damaged_frames_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(
        tmp_path / "v.avi", codec="mjpeg", pixels="yuvj420p", stream_options={"strict": "-1"}
    )
    whole = list(open_frames(path))
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][6]
    data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    frames = open_frames(path)
    found = list(frames)
    assert [frame.time * 24 for frame in found] == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    for frame in found:
        np.testing.assert_array_equal(frame.image, whole[int(frame.time * 24)].image)
    (said,) = lines(caplog)
    assert said.startswith(f"{path}: it has 10 frames, but only 9 could be decoded (Invalid")
    assert_read_equals_iteration(frames)


def announce(path: Path, count: int) -> Path:
    """Let the headers of an AVI file announce another number of frames."""
    data = bytearray(path.read_bytes())
    for place in (data.find(b"strh") + 8 + 32, data.find(b"avih") + 8 + 16):
        data[place : place + 4] = count.to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("announced", [108, 11, 3])
def test_a_header_that_announces_other_frames_than_there_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, announced: int
) -> None:
    path = announce(encode(tmp_path / "v.avi", codec="mpeg4"), announced)
    frames = open_frames(path)
    assert (frames.count, frames.about) == (10, 10)
    assert lines(caplog) == [
        f"{path}: the header announces {announced} frames, but the file holds 10: these are used"
    ]
    assert indices(frames) == list(range(10))
    assert_read_equals_iteration(frames)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.ts", "mpeg2video"), ("v.webm", "libvpx")],
)
def test_a_stream_copy_that_begins_between_key_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, codec: str
) -> None:
    """What comes before the first key frame is lost; the rest keeps its pixels and its pace."""
    options = {"g": "8", "bf": "0", "sc_threshold": "0"}
    source = encode(tmp_path / name, codec=codec, count=20, stream_options=options)
    path = tmp_path / f"copy-{name}"
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.dts is not None]
        begin = packets[3].dts
        for packet in packets[3:]:
            packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
            packet.stream = copy
            made.mux(packet)
    whole = list(open_frames(source))
    caplog.clear()
    frames = open_frames(path)
    found = list(frames)
    assert len(found) == 12
    assert frames.count in (12, None)
    assert found[0].time == 0
    for frame in found:
        np.testing.assert_array_equal(frame.image, whole[frame.index + 8].image)
    assert lines(caplog) == [
        f"{path} begins between key frames: its first 0.21 s cannot be decoded and are left out"
    ]
    assert_read_equals_iteration(frames)


def test_what_is_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "fake.mp4").write_text("hello\n" * 100)
    (tmp_path / "notes.txt").write_text("hello\n" * 100)
    (tmp_path / "empty.mp4").touch()
    write_image(tmp_path / "one.png", picture(0))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    for name, message in (
        ("none.mp4", "no such file or folder"),
        ("fake.mp4", "not a readable video"),
        ("empty.mp4", "not a readable video"),
        ("one.png", "this is a single image"),
        ("sound.wav", "holds no video stream"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            open_frames(tmp_path / name)
        assert "\n" not in str(caught.value)
    # FFmpeg may or may not have been built with its reader of text.
    with pytest.raises(InputError, match=r"this is a text file|not a readable video"):
        open_frames(tmp_path / "notes.txt")


def test_folder_in_natural_order(tmp_path: Path) -> None:
    names = ["frame1.png", "frame2.webp", "Frame10.png", "frame11.PNG", "other.png"]
    folder = write_folder(tmp_path / "f", names)
    write_image(folder / ".hidden.png", picture(9))
    (folder / "notes.txt").write_text("ignored")
    (folder / "sub.png").mkdir()
    frames = open_frames(folder)
    assert frames.names == ["frame1", "frame2", "Frame10", "frame11", "other"]
    assert (frames.height, frames.width, frames.count) == (HEIGHT, WIDTH, 5)
    assert frames.frame_rate == 24
    for _ in range(2):
        for i, frame in enumerate(frames):
            np.testing.assert_array_equal(frame.image, picture(i))
            assert (frame.index, frame.time) == (i, Fraction(i, 24))
            assert frame.name == frames.names[i]
    assert_read_equals_iteration(frames)
    selected = open_frames(folder, start=1, stride=2, frame_rate=12.5)
    assert selected.names == ["frame2", "frame11"]
    assert [frame.time for frame in selected] == [Fraction(2, 25), Fraction(6, 25)]


def test_folder_sizes_respect_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "0.png", picture(0, 64, 48))
    Image.fromarray(picture(0)).save(tmp_path / "1.jpg", exif=exif)
    frames = open_frames(tmp_path)
    assert [frame.image.shape for frame in frames] == [(64, 48, 3)] * 2


def test_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder holds no images"):
        open_frames(tmp_path / "empty")
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    with pytest.raises(InputError, match="start=2, but it has 2 frames only"):
        open_frames(folder, start=2)
    with pytest.raises(InputError, match="frame_rate must be positive"):
        open_frames(folder, frame_rate=0)
    write_image(folder / "1.jpg", picture(1))
    with pytest.raises(InputError, match=r"1\.jpg and 1\.png would be the same frame"):
        open_frames(folder)
    (folder / "1.jpg").unlink()
    write_image(folder / "10.png", picture(0, 50, 70))
    message = r"0\.png is 48 x 64 \(height x width\) and 10\.png is 50 x 70"
    with pytest.raises(InputError, match=message):
        open_frames(folder)
    (folder / "10.png").write_text("broken")
    with pytest.raises(InputError, match=r"10\.png: not an image"):
        open_frames(folder)


def test_folder_that_changes_meanwhile(tmp_path: Path) -> None:
    frames = open_frames(write_folder(tmp_path / "f", ["0.png", "1.png"]))
    write_image(tmp_path / "f" / "1.png", picture(0, 50, 70))
    with pytest.raises(InputError, match="the file changed meanwhile"):
        list(frames)
