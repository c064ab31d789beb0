"""Which stream of a file is the picture, how it is to be shown, and what is no file at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from conftest import Ran
from PIL import Image

import warpkit
from warpkit.checks import InputError
from warpkit.io.audio import SoundTrack
from warpkit.io.frame import Colour
from warpkit.io.frames import open_frames
from warpkit.io.masks import read_labels
from warpkit.io.video import VideoWriter
from warpkit.io.video_length import video_seconds

Cli = Callable[..., Ran]
Sizes = list[tuple[int, int, int, int]]


def several(path: Path, streams: Sizes, *, default: int | None = None) -> Path:
    """A file of several videos: width, height, frames and gray level of each."""
    with av.open(str(path), "w") as container:
        made = []
        for index, (width, height, _, _) in enumerate(streams):
            stream = container.add_stream("mpeg4" if path.suffix == ".mov" else "ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            if default is not None:
                stream.disposition = Disposition.default if index == default else Disposition(0)
            made.append(stream)
        for stream, (width, height, count, level) in zip(made, streams, strict=True):
            for i in range(count):
                image = np.full((height, width, 3), level, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "streams", "default", "level"),
    [
        ("preview.mov", [(32, 24, 6, 50), (64, 48, 6, 150)], None, 150),
        ("preview-default.mkv", [(32, 24, 6, 50), (64, 48, 6, 150)], 0, 150),
        ("second-is-small.mkv", [(64, 48, 6, 150), (32, 24, 6, 50)], 1, 150),
        ("equal.mkv", [(64, 48, 6, 50), (64, 48, 6, 150)], 1, 150),
        ("still.mov", [(128, 96, 1, 50), (64, 48, 6, 150)], None, 150),
    ],
)
def test_the_best_video_is_taken(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    streams: Sizes,
    default: int | None,
    level: int,
) -> None:
    path = several(tmp_path / name, streams, default=default)
    frames = open_frames(path)
    assert (frames.height, frames.width) == (48, 64)
    found = list(frames)
    assert len(found) == 6
    assert abs(int(found[0].image[20, 20, 0]) - level) <= 2
    assert video_seconds(path) == pytest.approx(0.6, abs=0.11)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"{path} holds several videos: that of 64 x 48 pixels is taken"]


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = several(tmp_path / "a.mov", [(64, 48, 6, 150)])
    with av.open(str(path)) as given, av.open(str(tmp_path / "c.mp4"), "w") as made:
        cover = made.add_stream("mjpeg", rate=10)
        cover.width, cover.height, cover.pix_fmt = 256, 256, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        copy = made.add_stream_from_template(given.streams.video[0])
        image = av.VideoFrame.from_ndarray(np.zeros((256, 256, 3), np.uint8), "rgb24")
        made.mux(cover.encode(image))
        made.mux(cover.encode(None))
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                made.mux(packet)
    assert open_frames(tmp_path / "c.mp4").width == 64


RATIOS = [Fraction(16, 11), Fraction(8, 9), Fraction(4, 3)]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(
    ("name", "codec", "alpha"),
    [
        ("v.mp4", "h264", False),
        ("v.mov", "h264", False),
        ("v.mkv", "h264", False),
        ("v.mov", "prores", True),
        ("v.mkv", "ffv1", True),
        ("v.mkv", "ffv1", False),
    ],
)
def test_pixels_that_are_not_square_stay_so(
    tmp_path: Path, name: str, codec: str, alpha: bool, ratio: Fraction
) -> None:
    path = tmp_path / name
    image = np.random.default_rng(0).integers(0, 256, (72, 88, 3 + alpha), dtype=np.uint8)
    with VideoWriter(
        path, height=72, width=88, frame_rate=10, codec=codec, alpha=alpha, pixel_aspect=ratio
    ) as writer:
        for _ in range(3):
            writer.write(image)
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == ratio
    frames = open_frames(path)
    assert frames.pixel_aspect == ratio
    found = list(frames)
    assert len(found) == 3
    if codec == "ffv1":
        np.testing.assert_array_equal(found[2].image, image[..., :3])


def test_a_pixel_that_is_turned_with_the_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        stream.set_display_rotation(90)
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = open_frames(tmp_path / "v.mp4")
    assert (frames.width, frames.height, frames.pixel_aspect) == (48, 64, Fraction(11, 16))


def test_every_result_has_the_shape_of_the_original(cli: Cli, files: Path, tmp_path: Path) -> None:
    with VideoWriter(
        tmp_path / "v.mp4", height=48, width=80, frame_rate=12, pixel_aspect=Fraction(16, 11)
    ) as writer:
        for frame in list(open_frames(files / "clip.mp4"))[:3]:
            writer.write(frame.image)
    task = ("--mask", files / "mask.png", "--edit", files / "layer.png")
    out = tmp_path / "out"
    exports = ("--export", "prores,ffv1")
    ran = cli("propagate", tmp_path / "v.mp4", *task, *exports, "-o", out)
    assert ran.code == 0, ran.err
    shapes = {path.name: open_frames(path).pixel_aspect for path in sorted(out.glob("*.m*"))}
    assert shapes == dict.fromkeys(
        ["cutout.mkv", "cutout.mov", "edited.mp4", "layer.mkv", "layer.mov", "overlay.mp4"],
        Fraction(16, 11),
    )


def tagged(path: Path, primaries: int, transfer: int, matrix: int, pixels: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, 48, pixels
        context = stream.codec_context
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, 1
        for i in range(2):
            image = np.full((48, 80, 3), (200, 90, 40), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
                format=pixels, dst_colorspace="BT2020" if matrix == 9 else "ITU709"
            )
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("numbers", "pixels", "said"),
    [
        ((9, 16, 9), "yuv420p10le", "(PQ, BT.2020)"),
        ((9, 18, 9), "yuv420p10le", "(HLG, BT.2020)"),
        ((9, 14, 9), "yuv420p10le", "(BT.2020)"),
        ((12, 1, 1), "yuv420p", "(Display P3)"),
        ((1, 1, 1), "yuv420p", None),
        ((6, 6, 1), "yuv420p", None),
    ],
)
def test_high_dynamic_range_is_tagged_as_it_was(
    cli: Cli,
    files: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    numbers: tuple[int, int, int],
    pixels: str,
    said: str | None,
) -> None:
    path = tagged(tmp_path / "v.mp4", *numbers, pixels)
    frames = open_frames(path)
    assert frames.colour == (None if said is None else Colour(*numbers))
    shown = next(iter(frames)).image
    assert np.abs(shown.astype(int) - (200, 90, 40)).max() <= 4
    caplog.clear()
    out = tmp_path / "out"
    ran = cli("propagate", path, "--mask", files / "mask.png", "--export", "prores", "-o", out)
    assert ran.code == 0, ran.err
    lines = [record.getMessage() for record in caplog.records if "coded" in record.getMessage()]
    assert len(lines) == (said is not None)
    assert all(said in line for line in lines)
    expected = (1, 1, 1) if said is None else numbers
    for name in ("overlay.mp4", "cutout.mov"):
        with av.open(str(out / name)) as container:
            frame = next(container.decode(video=0))
            assert (frame.color_primaries, frame.color_trc, int(frame.colorspace)) == expected
    background = next(iter(open_frames(out / "overlay.mp4"))).image[0, 0]
    assert np.abs(background.astype(int) - (200, 90, 40)).max() <= 6


@pytest.mark.parametrize(
    "call",
    [
        lambda path: open_frames(path),
        video_seconds,
        warpkit.read_image,
        read_labels,
        lambda path: SoundTrack(path).open(None, "mp4"),
    ],
)
def test_what_cannot_be_read_twice_is_not_opened(
    tmp_path: Path, call: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for path, kind in (
            (tmp_path / "clip.mp4", "pipe"),  # nobody writes: opening it would wait for ever
            (Path(f"/dev/fd/{reading}"), "pipe"),
            (tmp_path / "s", "socket"),
            (Path("/dev/zero"), "device"),
        ):
            message = f"{path}: expected a file, this is a {kind}, which cannot be read twice"
            with pytest.raises(InputError, match=message):
                call(path)
    os.close(reading)
    os.close(writing)


def test_a_pipe_is_refused_by_the_commands(cli: Cli, files: Path, tmp_path: Path) -> None:
    pipe, clip, mask = tmp_path / "p", files / "clip.mp4", files / "mask.png"
    image = files / "frames/000.png"
    os.mkfifo(pipe)
    for command in (
        ("propagate", pipe, "--mask", mask),
        ("propagate", clip, "--mask", pipe),
        ("propagate", clip, "--edit", pipe),
        ("warp", pipe, image),
        ("warp", image, image, "--source-mask", pipe),
    ):
        ran = cli(*command, "-o", tmp_path / "out")
        assert (ran.code, len(ran.messages)) == (2, 1), ran.err
        assert f"{pipe}: expected a file, this is a pipe" in ran.messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_an_animated_avif_is_its_frames_and_not_its_still(tmp_path):
    tones = (40, 120, 200)
    first, *others = (Image.new("RGB", (64, 48), (tone, tone, tone)) for tone in tones)
    path = tmp_path / "moving.avif"
    first.save(path, save_all=True, append_images=others, duration=100, quality=95)
    read = [frame.image.mean() for frame in open_frames(path)]
    np.testing.assert_allclose(read, tones, atol=3)
