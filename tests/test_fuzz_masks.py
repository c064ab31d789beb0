"""Whatever lies in a mask or an image: pixels, or one line."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import damaged, fuzzed, kept_promise
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from warpkit.io.images import image_size, read_image, read_rgba
from warpkit.io.masks import DAVIS_PALETTE, read_labels, read_mask

LABELS = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2), 7, 0), 9, 1)
COLOURS = DAVIS_PALETTE[LABELS]


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def palette() -> Image.Image:
    image = Image.fromarray(LABELS)
    image.putpalette(DAVIS_PALETTE.tobytes())
    return image


COLOUR, GRAY = Image.fromarray(COLOURS), Image.fromarray(LABELS)
BINARY = Image.fromarray(LABELS > 0)
FILES = (
    encoded(palette(), format="PNG"),
    encoded(palette(), format="PNG", transparency=0),
    encoded(palette(), format="GIF", save_all=True, append_images=[palette()]),
    encoded(palette(), format="TIFF", compression="tiff_lzw"),
    encoded(COLOUR, format="PNG"),
    encoded(COLOUR.convert("RGBA"), format="PNG", dpi=(72, 72)),
    encoded(COLOUR, format="JPEG", exif=Image.Exif()),
    encoded(COLOUR, format="WEBP", lossless=True),
    encoded(COLOUR.convert("RGBA"), format="TIFF"),
    encoded(COLOUR, format="BMP"),
    encoded(COLOUR, format="PPM"),
    encoded(COLOUR, format="TGA"),
    encoded(COLOUR, format="JPEG2000"),
    encoded(GRAY, format="PNG"),
    encoded(Image.fromarray(LABELS.astype(np.uint16) * 300), format="PNG"),
    encoded(Image.fromarray(LABELS.astype(np.float32)), format="TIFF"),
    encoded(BINARY, format="TIFF", compression="group4"),
    encoded(BINARY, format="PNG"),
)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks, each with its right checksum."""
    body = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


SIZES = st.integers(0, 20) | st.sampled_from([2**16, 2**31 - 1, 2**32 - 1, 13_000, 100_000])
TEXT = b"Comment\0" + b"a" * 100


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A PNG that announces any size, depth and kind of pixels, and holds others."""
    depth, colour = draw(st.sampled_from([1, 2, 4, 8, 16, 3])), draw(st.integers(0, 7))
    header = struct.pack(
        ">IIBBBBB", draw(SIZES), draw(SIZES), depth, colour, 0, 0, draw(st.integers(0, 1))
    )
    chunks = [(b"IHDR", header)]
    if draw(st.booleans()):
        chunks.append((b"PLTE", draw(st.binary(max_size=12))))
    if draw(st.booleans()):
        chunks.append((b"tRNS", draw(st.binary(max_size=8))))
    chunks += draw(
        st.lists(
            st.sampled_from(
                [
                    (b"tEXt", TEXT),
                    (b"iCCP", b"a\0\0"),
                    (b"eXIf", b"MM"),
                    (b"acTL", b"\0" * 8),
                    (b"gAMA", b""),
                ]
            ),
            max_size=2,
        )
    )
    chunks.append(
        (b"IDAT", zlib.compress(draw(st.binary(max_size=60)) + bytes(draw(st.integers(0, 500)))))
    )
    return png(*chunks, (b"IEND", b""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read_all(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's, of damaged metadata
        labels = kept_promise(lambda: read_labels(path))
        mask = kept_promise(lambda: read_mask(path))
        image = kept_promise(lambda: read_image(path))
        rgba = kept_promise(lambda: read_rgba(path))
        size = kept_promise(lambda: image_size(path))
    if labels is not None:
        assert labels.dtype == np.uint8 and labels.ndim == 2
        # The decoder of damaged TIFFs leaves pixels as memory had them: others at every reading.
        assert mask.shape == labels.shape
    if image is not None:
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert rgba.shape == (*image.shape[:2], 4)
        assert size == image.shape[:2]


@fuzzed
@given(damaged(*FILES), st.sampled_from([".png", ".tif", ".tga", ".jpg"]))
def test_damaged_images(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"mask{suffix}"
    path.write_bytes(content)
    read_all(path)


@fuzzed
@given(headers())
@example(png((b"IHDR", struct.pack(">IIBBBBB", 13_000, 13_000, 16, 6, 0, 0, 0)), (b"IEND", b"")))
def test_announced_sizes(folder: Path, content: bytes) -> None:
    path = folder / "mask.png"
    path.write_bytes(content)
    read_all(path)


@fuzzed
@given(
    st.sampled_from(["L", "I;16", "I", "F", "RGB", "RGBA", "P", "1", "LA", "CMYK"]),
    st.integers(1, 12),
    st.integers(1, 12),
    st.data(),
)
def test_any_pixels(folder: Path, mode: str, height: int, width: int, data: st.DataObject) -> None:
    """Whole files of any values, in the modes that TIFF and PNG know."""
    length = len(Image.new(mode, (width, height)).tobytes())
    pixels = data.draw(st.binary(min_size=length, max_size=length) | st.just(bytes(length)))
    image = Image.frombytes(mode, (width, height), pixels)
    if mode == "P":
        image.putpalette(
            data.draw(st.binary(min_size=3, max_size=768).map(lambda b: b[: len(b) // 3 * 3]))
        )
    suffix = "tif" if mode in ("F", "CMYK", "I") else data.draw(st.sampled_from(["png", "tif"]))
    path = folder / f"any.{suffix}"
    image.save(path)
    read_all(path)
