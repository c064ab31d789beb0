"""Images: every kind of file becomes upright uint8 RGB, and what is written is written whole."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from warpkit.checks import InputError
from warpkit.io.images import image_size, read_image, read_rgba, write_image

HEIGHT, WIDTH = 5, 7


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 30, y * 40, x + y], -1).astype(np.uint8)


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF says of each orientation: where the stored row 0 and column 0 belong."""
    turned = np.swapaxes(stored, 0, 1)
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: turned,
        6: turned[:, ::-1],
        7: turned[::-1, ::-1],
        8: turned[::-1],
    }[orientation]


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(picture()).save(path, exif=exif, **options)
    image = read_image(path)
    np.testing.assert_array_equal(image, upright(picture(), orientation))
    assert image_size(path) == image.shape[:2]


def test_jpeg_orientation_and_size(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(48, 64)).save(path, exif=exif)
    assert read_image(path).shape == (64, 48, 3)
    assert image_size(path) == (64, 48)


def test_gray_and_gray_with_alpha(tmp_path: Path) -> None:
    gray = picture()[..., 0]
    alpha = picture()[..., 1]
    Image.fromarray(gray).save(tmp_path / "l.png")
    Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    for name, opacity in (("l.png", np.full_like(gray, 255)), ("la.png", alpha)):
        rgba = read_rgba(tmp_path / name)
        np.testing.assert_array_equal(rgba, np.stack([gray, gray, gray, opacity], -1))


def test_alpha_is_dropped_and_hidden_colours_are_kept(tmp_path: Path) -> None:
    rgba = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture())
    np.testing.assert_array_equal(read_rgba(tmp_path / "a.png"), rgba)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    index = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3).astype(np.uint8)
    image = Image.fromarray(index)
    image.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    image.save(tmp_path / "p.png", transparency=transparency)
    rgba = read_rgba(tmp_path / "p.png")
    assert rgba[0, 0].tolist() == [10, 20, 30, 255]
    assert rgba[0, 1].tolist() == [200, 100, 50, 0]
    assert rgba[0, 2].tolist() == [1, 2, 3, 255 if transparency == 1 else 128]
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), rgba[..., :3])


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_gray_is_scaled_by_257(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 128, 129], [257, 25700, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"d.{suffix}")
    image = read_image(tmp_path / f"d.{suffix}")
    assert image[..., 0].tolist() == [[0, 0, 1], [1, 100, 255]]
    assert image[..., 2].tolist() == image[..., 0].tolist()


def test_integers_beyond_16_bit_and_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), 70000, np.int32)).save(tmp_path / "i.tif")
    Image.fromarray(np.full((3, 4), 0.5, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(InputError, match="expected 8 or 16 bits a pixel, got values from 70000"):
        read_image(tmp_path / "i.tif")
    with pytest.raises(InputError, match="images of floats have no fixed white"):
        read_image(tmp_path / "f.tif")


def test_one_bit(tmp_path: Path) -> None:
    bits = picture()[..., 0] > 60
    Image.fromarray(bits).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[..., 1], bits * np.uint8(255))


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    rgb = np.full((16, 24, 3), (200, 60, 20), np.uint8)
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "c.jpg").astype(int) - rgb).max() <= 3


def test_animation_gives_its_first_picture(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (7, 5), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    image = read_image(tmp_path / "a.gif")
    assert image.shape == (5, 7, 3)
    assert image[2, 3].tolist() == [255, 0, 0]


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    Image.new("L", (1, 9)).save(tmp_path / "thin.png")
    for name, message in (
        ("none.png", "no such file"),
        (".", "expected an image file, this is a folder"),
        ("text.png", "not an image that can be read"),
        ("thin.png", "must have at least 2 x 2 pixels, got 9 x 1"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = tmp_path / f"t.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"damaged or cut short|cannot be read|not an image"):
        read_image(path)


@pytest.mark.parametrize("limit", [20, 30])
def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Pillow warns above its limit and raises above twice the limit."""
    write_image(tmp_path / "large.png", picture(6, 9))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=f"more than {limit} pixels"):
            read(tmp_path / "large.png")


def test_header_damage_in_a_png_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "h.png"
    write_image(path, picture())
    data = bytearray(path.read_bytes())
    data[16:20] = struct.pack(">I", 99)
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_write_is_lossless(tmp_path: Path, suffix: str, channels: int) -> None:
    rng = np.random.default_rng(1)
    shape = (HEIGHT, WIDTH, channels) if channels else (HEIGHT, WIDTH)
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"w{suffix}"
    write_image(path, array)
    if channels == 4:
        np.testing.assert_array_equal(read_rgba(path), array)
    else:
        expected = array if channels else np.repeat(array[..., None], 3, -1)
        np.testing.assert_array_equal(read_image(path), expected)


def test_jpeg_is_close(tmp_path: Path) -> None:
    write_image(tmp_path / "w.jpg", picture(48, 64) // 4)
    difference = read_image(tmp_path / "w.jpg").astype(int) - picture(48, 64) // 4
    assert np.abs(difference).mean() < 2


def test_write_replaces_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "w.png"
    path.write_bytes(b"old")
    write_image(path, picture())
    assert [file.name for file in tmp_path.iterdir()] == ["w.png"]
    np.testing.assert_array_equal(read_image(path), picture())


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "w.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(InputError, match=r"cannot write .*w\.png: No space left on device"):
        write_image(path, picture())
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["w.png"]


def test_bad_writes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rgba = np.zeros((4, 4, 4), np.uint8)
    for name, array, message in (
        ("a.bmp", picture(), r"suffix '\.bmp': use one of \.png"),
        ("a.png", picture().astype(np.float32), "must be uint8 .* got float32"),
        ("a.png", np.zeros((4, 4, 2), np.uint8), r"got uint8 \(4, 4, 2\)"),
        ("a.jpg", rgba, "JPEG holds no transparency"),
        ("none/a.png", picture(), "does not exist: create it"),
        ("file/a.png", picture(), "does not exist: create it"),
    ):
        with pytest.raises(InputError, match=message):
            write_image(tmp_path / name, array)
