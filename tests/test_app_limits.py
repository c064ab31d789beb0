"""What the page refuses, and paint between its canvas and arrays."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from long_videos import long_video
from PIL import Image

import warpkit
from warpkit.app.limits import Limits
from warpkit.app.pictures import (
    canvas_size,
    canvas_value,
    decode_labels,
    decode_layer,
    encode_labels,
)
from warpkit.checks import InputError
from warpkit.io.video_length import video_seconds


def test_an_image_of_10000_pixels_a_side_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    Image.new("1", (10_000, 10_000)).save(path, format="PNG")
    with pytest.raises(InputError, match=r"^big\.png has too many pixels: .* 16 megapixels"):
        Limits().check_image(path, "big.png")
    Image.new("1", (5000, 4000)).save(path, format="PNG")
    with pytest.raises(InputError, match=r"^big\.png is 5000 x 4000 pixels: .* 16 megapixels"):
        Limits().check_image(path, "big.png")


def test_images_within_limits_give_their_size(tmp_path: Path) -> None:
    Image.new("L", (31, 17)).save(tmp_path / "a.png")
    assert Limits().check_image(tmp_path / "a.png", "a") == (17, 31)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(InputError, match=r"^holiday\.png: not an image"):
        Limits().check_image(tmp_path / "b.png", "holiday.png")
    (tmp_path / "c.png").touch()
    with pytest.raises(InputError, match="c is an empty file"):
        Limits().check_image(tmp_path / "c.png", "c")
    with pytest.raises(InputError, match="has 0 MB: this page takes files of at most 0 MB"):
        Limits(upload_mb=0).check_image(tmp_path / "a.png", "a")


def test_a_video_of_two_hours_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long_video(tmp_path / "long.mp4")
    assert video_seconds(path) == pytest.approx(7200, abs=5)

    def decoded(*_: object) -> None:
        raise AssertionError("the video was opened for decoding")

    monkeypatch.setattr("warpkit.app.limits.open_frames", decoded)
    with pytest.raises(InputError, match=r"^film\.mp4 is 2:00:0\d long: .* at most 10:00"):
        Limits().check_video(path, "film.mp4")


def test_video_limits(files: Path, tmp_path: Path) -> None:
    frames = Limits().check_video(files / "clip.mp4", "clip")
    assert (frames.height, frames.width, frames.count) == (48, 80, 7)
    with pytest.raises(InputError, match="clip is 80 x 48 pixels"):
        Limits(video_megapixels=0.003).check_video(files / "clip.mp4", "clip")
    with pytest.raises(InputError, match=r"^clip: expected a video"):
        Limits().check_video(files / "text.png", "clip")
    with pytest.raises(InputError, match="no such file"):
        video_seconds(tmp_path / "none.mp4")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_length_of_a_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with warpkit.VideoWriter(path, height=16, width=16, frame_rate=10) as writer:
        for _ in range(25):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    assert video_seconds(path) == pytest.approx(2.5, abs=0.11)


def test_labels_survive_the_canvas() -> None:
    labels = np.zeros((37, 53), np.uint8)
    labels[5:20, 8:30], labels[22:30, 31:50] = 1, 3
    found = decode_labels(encode_labels(labels), height=37, width=53)
    assert np.array_equal(found, labels)


def test_labels_of_a_large_picture_are_smooth_and_never_blended() -> None:
    labels = np.zeros((1500, 2250), np.uint8)
    labels[300:900, 450:1200], labels[900:1300, 600:2000] = 1, 2
    assert canvas_size(1500, 2250) == (1024, 683)
    found = decode_labels(encode_labels(labels), height=1500, width=2250)
    assert found is not None
    assert set(np.unique(found)) == {0, 1, 2}
    assert (found != labels).mean() < 0.005


def test_paint_that_is_none() -> None:
    for text in ("", None):
        assert decode_labels(text, height=4, width=4) is None
        assert decode_layer(text, height=4, width=4) is None
    assert decode_labels(encode_labels(np.zeros((4, 4), np.uint8)), height=4, width=4) is None


@pytest.mark.parametrize(
    "text",
    [
        "rubbish",
        "data:image/png;base64,%%%",
        "data:image/png;base64,aGVsbG8=",
        "data:image/jpeg;base64,aGVsbG8=",
        7,
        {"a": 1},
        "data:image/png;base64,"
        + base64.b64encode(
            (lambda b: (Image.new("L", (5000, 5)).save(b, format="PNG"), b.getvalue())[1])(
                io.BytesIO()
            )
        ).decode(),
        encode_labels(np.full((5, 5), 200, np.uint8)),
    ],
)
def test_damaged_paint_is_refused(text: object) -> None:
    with pytest.raises(InputError, match="damaged: reload the page"):
        decode_labels(text, height=5, width=5)


def test_painted_colours_come_at_the_size_of_the_picture() -> None:
    rgba = np.zeros((6, 8, 4), np.uint8)
    rgba[2:4, 2:6] = (255, 0, 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, format="PNG")
    text = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    layer = decode_layer(text, height=12, width=16)
    assert layer is not None
    assert layer.shape == (12, 16, 4)
    assert layer[6, 8].tolist() == [255, 0, 0, 255]
    assert layer[0, 0, 3] == 0


def test_a_canvas_shows_a_small_copy_and_says_the_real_size(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500), (10, 200, 30)).save(tmp_path / "a.png")
    value = canvas_value(tmp_path / "a.png", picture="x", message="hello")
    assert (value["width"], value["height"], value["picture"]) == (3000, 1500, "x")
    shown = Image.open(io.BytesIO(base64.b64decode(value["image"].split(",")[1])))
    assert shown.size == (1024, 512)
    assert canvas_value(picture="x")["serial"] > value["serial"]
