"""Pictures with 16 bits, alpha and colour profiles: read, written, converted; kept by `warp`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Ran
from PIL import Image, ImageCms

import warpkit
from warpkit.io.pictures import StoredPicture, read_picture, with_colors_of, write_picture
from warpkit.render import RenderedFrame

Cli = Callable[..., Ran]


@cache
def profile(*, wide: bool = False) -> bytes:
    """sRGB; or a profile of the same curves whose red and green are swapped, as `swapped`."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if wide:
        tags = {bytes(data[p : p + 4]): p for p in range(132, 132 + 12 * data[131], 12)}
        red, green = (tags[name] + 4 for name in (b"rXYZ", b"gXYZ"))
        data[red : red + 8], data[green : green + 8] = (
            data[green : green + 8],
            data[red : red + 8],
        )
        text = "sRGB built-in".encode("utf-16-be")
        data = bytearray(bytes(data).replace(text, "swapped_12345".encode("utf-16-be")))
    return bytes(data)


def noise(channels: int, dtype: type = np.uint16) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, (5, 7, channels), dtype, endpoint=True)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_read_whole(tmp_path: Path, channels: int, suffix: str) -> None:
    deep = noise(channels)
    order = [2, 1, 0, 3][:channels]
    cv2.imwrite(str(tmp_path / f"d.{suffix}"), np.ascontiguousarray(deep[..., order]))
    picture = read_picture(tmp_path / f"d.{suffix}")
    assert np.array_equal(picture.channels, deep)
    assert np.array_equal(picture.rgb, warpkit.read_image(tmp_path / f"d.{suffix}"))


def test_16_bits_of_gray_and_of_a_turned_picture(tmp_path: Path) -> None:
    deep = noise(3)
    Image.fromarray(deep[..., 0]).save(tmp_path / "g.png")
    assert np.array_equal(read_picture(tmp_path / "g.png").channels, deep[..., [0, 0, 0]])
    write_picture(tmp_path / "d.png", deep)
    exif = Image.Exif()
    exif[0x0112] = 6
    data, chunk = (tmp_path / "d.png").read_bytes(), b"eXIf" + exif.tobytes()[6:]
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "t.png").write_bytes(data[:33] + chunk + data[33:])
    assert np.array_equal(read_picture(tmp_path / "t.png").channels, np.rot90(deep, -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_written_is_read(tmp_path: Path, dtype: type, channels: int) -> None:
    array = noise(channels, dtype)
    write_picture(tmp_path / "a.png", array, profile())
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.channels, array)
    assert picture.profile == profile()
    write_picture(tmp_path / "a.png", array)
    assert read_picture(tmp_path / "a.png").profile is None
    with pytest.raises(warpkit.InputError, match=r"written as \.png only"):
        write_picture(tmp_path / "a.jpg", array)


def test_colours_are_converted_between_profiles() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8) + np.array([200, 40, 90], np.uint8)
    plain, swapped = (
        StoredPicture(rgb),
        StoredPicture(rgb, profile=profile(wide=True), name="s.png"),
    )
    moved, said = with_colors_of(plain, swapped)
    assert np.abs(moved.rgb[0, 0].astype(int) - (40, 200, 90)).max() <= 2
    assert moved.profile == swapped.profile
    assert said == (
        "the picture has no colour profile, s.png has one (swapped_12345): the first is taken as"
        " sRGB"
    )
    tagged = StoredPicture(rgb, profile=profile())
    assert with_colors_of(tagged, swapped)[1] is None  # both have one
    assert with_colors_of(plain, tagged) == (plain, None)  # sRGB by another name
    deep = np.dstack([rgb.astype(np.uint16) * 257 + 5, np.full((2, 2), 65535, np.uint16)])
    found = with_colors_of(StoredPicture(rgb, deep=deep), swapped)[0].colors
    assert np.array_equal(found, moved.rgb.astype(np.uint16) * 257 + 5)
    broken = StoredPicture(rgb, profile=b"x" * 200, name="b.png")
    same, said = with_colors_of(broken, swapped)
    assert same is broken and said is not None and "b.png are taken as they are stored" in said


def test_warp_keeps_16_bits_and_the_targets_profile(
    cli: Cli, tmp_path: Path, clip: list[RenderedFrame], files: Path
) -> None:
    deep = clip[-1].image.astype(np.uint16) * 257 + 3
    write_picture(tmp_path / "target.png", deep, profile(wide=True))
    write_picture(tmp_path / "source.png", clip[0].image, profile())
    masks = ("--source-mask", files / "mask.png", "--target-mask", files / "last_mask.png")
    out = tmp_path / "out"
    ran = cli("warp", tmp_path / "source.png", tmp_path / "target.png", *masks, "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    composite, warped = (read_picture(out / f"{name}.png") for name in ("composite", "warped"))
    assert composite.profile == warped.profile == profile(wide=True)
    assert composite.deep is not None and warped.deep is not None
    far = cv2.dilate((clip[-1].labels > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert np.array_equal(composite.colors[far], deep[far])
    assert len(np.unique(warped.colors % 257)) > 50  # read between pixels with all bits


def test_arrays_of_16_bits(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    source, target = clip[0].image, clip[-1].image
    masks = {"source_mask": clip[0].labels > 0, "target_mask": clip[-1].labels > 0}
    plain = model.warp(source, target, **masks)
    deep = model.warp(source.astype(np.uint16) * 257, target, **masks)
    assert (deep.warped.dtype, deep.composite.dtype) == (np.uint16, np.uint16)
    assert np.abs(deep.composite / 257 - plain.composite).max() <= 1.01
