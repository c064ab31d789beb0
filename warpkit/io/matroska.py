"""What FFmpeg does not do with Matroska files: tell a file that was cut short, say a pixel's shape.

An element is an id, a size and that many bytes; a size of all ones means unknown, as in live
recordings. Source: RFC 8794, sections 4 to 6, and RFC 9559, section 5.1.4.1.28.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

__all__ = ["matroska_size", "set_pixel_aspect"]

_SEGMENT, _TRACKS, _ENTRY, _VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
_CRC, _VOID = b"\xbf", b"\xec"
_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_HEAD = 1 << 16  # bytes before which the tracks are told


def _number(data: bytes, at: int) -> tuple[int | None, int]:
    """A variable-length integer, None if unknown, and the position after it."""
    length = 9 - data[at].bit_length()
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(data[at : at + length], "big") & ones
    return None if value == ones else value, at + length


def _elements(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """The elements between two positions: id, where each begins, its content begins, it ends."""
    while at < min(end, len(data) - 12):
        start, at = at, at + 9 - data[at].bit_length()
        size, begin = _number(data, at)
        at = end if size is None else begin + size
        yield data[start : start + 9 - data[start].bit_length()], start, begin, at


def matroska_size(path: Path) -> int:
    """Bytes that the header and the one segment of a Matroska file announce; 0 if they do not."""
    with path.open("rb") as file:
        head = file.read(4096)
    header, begin = _number(head, 4)
    segment = begin + (header or 0)
    if head[segment : segment + 4] != _SEGMENT:
        return 0
    size, begin = _number(head, segment + 4)
    return 0 if size is None else begin + size


def _element(name: bytes, content: bytes) -> bytes:
    return name + bytes([0x80 | len(content)]) + content


def set_pixel_aspect(path: Path, aspect: Fraction, *, height: int, width: int) -> None:
    """Say in a file that FFmpeg wrote, with one video track, at which size it is to be shown.

    PyAV cannot let FFmpeg write that. It goes where FFmpeg left room, so that nothing moves.

    Args:
        aspect: width of a pixel by its height.
        height, width: of a frame in pixels.
    """
    with path.open("r+b") as file:
        data = file.read(_HEAD)
        _, _, begin, end = next(e for e in _elements(data, 0, _HEAD) if e[0] == _SEGMENT)
        _, _, tracks, end = next(e for e in _elements(data, begin, end) if e[0] == _TRACKS)
        _, _, begin, stop = next(e for e in _elements(data, tracks, end) if e[0] == _ENTRY)
        entry = list(_elements(data, begin, stop))
        place = next(n for n, e in enumerate(entry) if e[0] == _VIDEO)
        after = next(n for n, e in enumerate(entry) if e[0] == _VOID and n > place)
        _, start, begin, stop = entry[place]
        told = (_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT)
        kept = [data[s:e] for name, s, _, e in _elements(data, begin, stop) if name not in told]
        for name, length in zip(told, _shown_size(aspect, height, width), strict=False):
            kept.append(_element(name, length.to_bytes(2, "big")))
        made = _element(_VIDEO, b"".join(kept)) + data[stop : entry[after][1]]
        left = entry[after][3] - start - len(made)
        data = data[:start] + made + _element(_VOID, bytes(left - 2)) + data[entry[after][3] :]
        first = next(_elements(data, tracks, end))
        if first[0] == _CRC:
            crc = zlib.crc32(data[first[3] : end]).to_bytes(4, "little")
            data = data[: first[2]] + crc + data[first[3] :]
        file.seek(0)
        file.write(data)


def _shown_size(aspect: Fraction, height: int, width: int) -> tuple[int, int]:
    """Width and height in pixels that have the very shape, near the frame's own size."""
    shape = aspect * width / height
    times = max(1, round(height / shape.denominator))
    if times * shape.denominator > 2 * height or times * shape.numerator > 4 * width:
        return round(width * aspect), height
    return times * shape.numerator, times * shape.denominator
