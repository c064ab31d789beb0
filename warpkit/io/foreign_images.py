"""Image files that Pillow gives up on: what they are, in words, and PNGs without their extra data.

In: a path. Out: text for a message, or the bytes of the same picture.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import TiffImagePlugin

__all__ = ["png_without_texts", "unreadable_kind"]

_HEAD = 512  # bytes that tell a kind
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_VIDEO = "a video (`warpkit frame` writes one of its frames)"
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP document"),
    (b"v/1\x01", "an OpenEXR image of floats"),
    (b"#?RA", "a Radiance image of floats"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"DDS ", "a DDS texture"),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (git lfs pull gets it)"),
)
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def unreadable_kind(path: Path) -> str | None:
    """What a file is that holds no image Pillow reads, such as `a HEIC image`; None if unknown."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "an empty file"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _kind_of_tiff(path)
    if head[4:8] == b"ftyp":
        return "a HEIC image" if head[8:12] in _HEIF else _VIDEO
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps the answer to a failed download"
    if text.startswith(b"<svg") or b"<svg" in text:
        return "an SVG drawing"
    return next((words for start, words in _KINDS if head.startswith(start)), None)


def _kind_of_tiff(path: Path) -> str | None:
    """Bits, sign and channels of a TIFF's values."""
    with path.open("rb") as file:
        header = file.read(8)
        header += file.read(8) if header[2] == 43 or header[3] == 43 else b""
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(directory.next)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                directory.load(file)
            if TiffImagePlugin.IMAGEWIDTH not in directory:
                return "a TIFF that was cut short"
            bits = directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
            kind = directory.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0]
        except (OSError, ValueError, SyntaxError, TypeError, struct.error):
            return None
    words = {1: "unsigned integers", 2: "signed integers", 3: "floats"}.get(kind, "complex numbers")
    return f"a TIFF of {bits[0]}-bit {words} in {len(bits)} channel{'s' * (len(bits) > 1)}"


def png_without_texts(path: Path) -> bytes | None:
    """A PNG without its colour profile and texts, which may be of any size; None for another file.

    Kept is what may hold the orientation, beside the pixels: EXIF.
    """
    data = path.read_bytes()
    if not data.startswith(_PNG):
        return None
    return _PNG + b"".join(chunk for kind, chunk in _chunks(data) if kind not in _TEXTS)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Types and whole chunks of a PNG."""
    at = len(_PNG)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big") + 12  # length, type and checksum
        yield data[at + 4 : at + 8], data[at : at + length]
        at += length
