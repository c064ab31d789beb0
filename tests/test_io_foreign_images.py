"""Image files beyond the usual: read where the pixels can be had, named where they cannot."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from warpkit.checks import InputError
from warpkit.io.frames import open_frames
from warpkit.io.images import image_size, read_image, read_rgba, write_image
from warpkit.io.masks import read_labels, write_labels

HEIGHT, WIDTH = 18, 26
PICTURE = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
LONG = "workflow " * 200_000


def add_chunk(path: Path, kind: bytes, content: bytes, *, before: bytes) -> None:
    """Put a chunk into a PNG, in front of the first one of a kind."""
    data = path.read_bytes()
    chunk = struct.pack(">I", len(content)) + kind + content
    chunk += struct.pack(">I", zlib.crc32(kind + content))
    at = data.index(before) - 4
    path.write_bytes(data[:at] + chunk + data[at:])


CHUNKS = {
    "profile": (b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_500_000))),
    "compressed": (b"zTXt", b"parameters\0\0" + zlib.compress(LONG.encode())),
    "unicode": (b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(LONG.encode())),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", CHUNKS)
def test_png_with_much_extra_data(tmp_path: Path, name: str, before: bytes) -> None:
    path = tmp_path / "i.png"
    rgba = np.dstack([PICTURE, PICTURE[..., 0]])
    write_image(path, rgba)
    add_chunk(path, *CHUNKS[name], before=before)
    np.testing.assert_array_equal(read_rgba(path), rgba)
    assert image_size(path) == (HEIGHT, WIDTH)


def test_orientation_and_palette_survive_the_extra_data(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", LONG, zip=True)
    Image.fromarray(PICTURE).save(tmp_path / "i.png", exif=exif, pnginfo=info)
    assert read_image(tmp_path / "i.png").shape == (WIDTH, HEIGHT, 3)
    labels = PICTURE[..., 0] % 5
    write_labels(tmp_path / "m.png", labels)
    add_chunk(tmp_path / "m.png", *CHUNKS["compressed"], before=b"IDAT")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), labels)


def test_a_damaged_png_stays_damaged(tmp_path: Path) -> None:
    path = tmp_path / "i.png"
    write_image(path, PICTURE)
    add_chunk(path, *CHUNKS["compressed"], before=b"IDAT")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"IDAT") + 200])
    with pytest.raises(InputError, match=r"damaged or cut short|cannot be read"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour(tmp_path: Path, suffix: str, channels: int) -> None:
    bgr = np.dstack([PICTURE[..., ::-1], PICTURE[..., 0]])[..., :channels]
    path = tmp_path / f"i.{suffix}"
    cv2.imwrite(str(path), bgr.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(path), PICTURE)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
def test_tiffs_of_several_pages_give_the_first(tmp_path: Path, compression: str) -> None:
    pages = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]
    path = tmp_path / "i.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression)
    np.testing.assert_array_equal(read_image(path), PICTURE)


def test_tiffs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "i.tif"
    for values, words in (
        (PICTURE.astype(np.float32) / 255, "a TIFF of 32-bit floats in 3 channels; images of flo"),
        (PICTURE[..., 0].astype(np.float64), "a TIFF of 64-bit floats in 1 channel; images of flo"),
        (PICTURE.astype(np.int32), "a TIFF of 32-bit signed integers in 3 channels; expected PNG"),
    ):
        cv2.imwrite(str(path), values)
        for read in (read_image, read_labels, image_size):
            with pytest.raises(InputError, match=f"not an image that can be read: it is {words}"):
                read(path)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "an empty file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"v/1\x01\2\0\0\0", "an OpenEXR image of floats; images of floats have no fixed white"),
        (b"<?xml version='1.0'?>\n<svg/>", "an SVG drawing"),
        (b"\n<!DOCTYPE html><html>", "a web page, perhaps the answer to a failed download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the file itself"),
    ],
)
def test_other_files_are_named(tmp_path: Path, start: bytes, words: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(start)
    with pytest.raises(InputError, match=f"not an image that can be read: it is {words}") as caught:
        read_image(tmp_path / "photo.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.apng", "a.tif"])
def test_animations_that_are_no_videos(tmp_path: Path, name: str) -> None:
    """One picture is read of them as images; as a video they are named, and what to do."""
    pictures = [Image.fromarray(PICTURE), *(Image.fromarray(np.roll(PICTURE, i)) for i in (3, 6))]
    options = {"lossless": True} if name == "a.webp" else {}
    kind = {"a.apng": "PNG"}.get(name)
    path = tmp_path / name
    pictures[0].save(path, kind, save_all=True, append_images=pictures[1:], **options)
    np.testing.assert_array_equal(read_image(path), PICTURE)
    with pytest.raises(InputError, match=r"an image file of 3 pictures .* or convert it to \.mp4"):
        open_frames(path)
    pictures[0].save(path, kind)
    with pytest.raises(InputError, match="this is a single image"):
        open_frames(path)


@pytest.mark.parametrize("data", [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\0\1"])
@pytest.mark.filterwarnings("error")
def test_a_tiff_that_ends_in_its_header_is_no_kind_of_tiff(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tif.*a TIFF that was cut short"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("exif", [b"junkjunkjunk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"MM"])
def test_damaged_exif_costs_no_pixels(tmp_path: Path, suffix: str, exif: bytes) -> None:
    gray = Image.new("RGB", (30, 20), (90, 90, 90))
    gray.save(tmp_path / f"a{suffix}", exif=exif)
    assert image_size(tmp_path / f"a{suffix}") == (20, 30)
    assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - 90).max() <= 1
