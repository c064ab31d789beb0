"""TIFFs whose lists of strips or tiles are damaged are refused, never read as what memory held."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from warpkit.checks import InputError
from warpkit.io.images import image_size, read_image

PICTURE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
WIDTH, COMPRESSION, STRIPS, ROWS, COUNTS, PLANAR = 256, 259, 273, 278, 279, 284
KINDS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")


def strips(compression: str) -> bytes:
    """A TIFF of five strips of four rows."""
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "TIFF", compression=compression, tiffinfo={ROWS: 4})
    return file.getvalue()


def entry(data: bytes, tag: int) -> tuple[int, int]:
    """Where the value of a tag is and how many bytes a number takes; little-endian files."""
    assert data[:2] == b"II"
    (at,) = struct.unpack_from("<I", data, 4)
    for place in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        found, kind, count = struct.unpack_from("<HHI", data, place)
        if found == tag:
            size = {3: 2, 4: 4}[kind]
            inside = size * count <= 4
            return (place + 8 if inside else struct.unpack_from("<I", data, place + 8)[0]), size
    raise AssertionError(tag)


def changed(data: bytes, tag: int, value: int, item: int = 0) -> bytes:
    place, size = entry(data, tag)
    number = struct.pack("<I", value)[:size]
    return data[: place + item * size] + number + data[place + (item + 1) * size :]


def tiled(*, planes: int = 1, last: int = 0) -> tuple[bytes, np.ndarray]:
    """A raw TIFF of 32 x 48 pixels in tiles of 16 x 16; the last lies `last` bytes further on."""
    picture = np.arange(32 * 48 * planes, dtype=np.uint32).reshape(planes, 32, 48) % 251
    parts = picture.astype(np.uint8).reshape(planes, 2, 16, 3, 16).swapaxes(2, 3)
    body, count = parts.tobytes(), 6 * planes
    offsets = [8 + 256 * n for n in range(count)]
    offsets[-1] += last
    lists = 8 + len(body)
    rows = [
        *((WIDTH, 3, 1, 48), (257, 3, 1, 32), (258, 3, 1, 8), (COMPRESSION, 3, 1, 1)),
        *((262, 3, 1, 2 if planes == 3 else 1), (277, 3, 1, planes), (PLANAR, 3, 1, 2)),
        *((322, 3, 1, 16), (323, 3, 1, 16), (324, 4, count, lists)),
        (325, 4, count, lists + 4 * count),
    ]
    if planes == 3:  # the depths of three samples are a list as well
        rows[2] = (258, 3, 3, lists + 8 * count)
    at = lists + 8 * count + 6
    header = struct.pack("<2sHI", b"II", 42, at)
    numbers = struct.pack(f"<{2 * count}I3H", *offsets, *[256] * count, 8, 8, 8)
    table = struct.pack("<H", len(rows)) + b"".join(struct.pack("<HHII", *row) for row in rows)
    return header + body + numbers + table + bytes(4), picture.astype(np.uint8)


Read = Callable[[bytes], np.ndarray]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reads(data: bytes) -> np.ndarray:
        (tmp_path / "a.tif").write_bytes(data)
        return read_image(tmp_path / "a.tif")

    return reads


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_read(read: Read, kind: str) -> None:
    data = strips(kind)
    assert np.array_equal(read(data), PICTURE)
    # One strip may be said to have more rows than there are.
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "TIFF", compression=kind, tiffinfo={ROWS: 99})
    assert np.array_equal(read(file.getvalue()), PICTURE)


@pytest.mark.parametrize("planes", [1, 3])
def test_tiles_are_read_and_counted(read: Read, planes: int) -> None:
    data, picture = tiled(planes=planes)
    assert np.array_equal(read(data), np.broadcast_to(picture.transpose(1, 2, 0), (32, 48, 3)))
    with pytest.raises(InputError, match=f"1 of its {6 * planes} parts lie beyond the end of the"):
        read(tiled(planes=planes, last=10**6)[0])
    with pytest.raises(InputError):  # Pillow counts them itself
        read(changed(data, 322, 48))


@pytest.mark.parametrize("kind", KINDS)
def test_strips_that_do_not_make_the_picture(read: Read, kind: str) -> None:
    data = strips(kind)
    for rows, expected in ((255, 1), (20, 1), (1, 20)):
        with pytest.raises(InputError, match=f"damaged .*lists 5 parts, {expected} make the pict"):
            read(changed(data, ROWS, rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("item", [0, 4])
def test_strips_beyond_the_end(read: Read, kind: str, item: int) -> None:
    with pytest.raises(InputError, match=r"damaged .*1 of its 5 parts lie beyond the end of the f"):
        read(changed(strips(kind), STRIPS, 60_000, item))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_strips_that_reach_beyond_the_end(read: Read, kind: str) -> None:
    with pytest.raises(InputError, match="1 of its 5 parts lie beyond the end of the file"):
        read(changed(strips(kind), COUNTS, 60_000, 2))


def test_lengths_of_raw_strips_are_not_needed(read: Read) -> None:
    assert np.array_equal(read(changed(strips("raw"), COUNTS, 60_000, 2)), PICTURE)


@pytest.mark.skipif(not features.check("libtiff"), reason="Pillow without libtiff")
def test_fax_pages_with_a_wrong_height_of_strips(read: Read, tmp_path: Path) -> None:
    file = io.BytesIO()
    page = Image.fromarray(np.arange(64 * 64).reshape(64, 64) % 7 > 2)
    page.save(file, "TIFF", compression="group4", tiffinfo={ROWS: 8})
    data = file.getvalue()
    assert np.array_equal(read(data)[..., 0] > 0, np.asarray(page))
    for rows in (40, 255, 2056):
        with pytest.raises(InputError, match="lists 8 parts"):
            read(changed(data, ROWS, rows))
    assert image_size(tmp_path / "a.tif") == (64, 64)
