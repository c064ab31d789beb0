"""Whether a video file that states no frame count is all there, from its own end mark.

FFmpeg plays such a file cut short as if it simply ended there.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["reaches_end"]


def reaches_end(path: Path, container: str) -> bool:
    """False if a Matroska, WebM or GIF file is shorter than it says; True if nothing says so.

    Args:
        container: FFmpeg's name of the container format.
    """
    size = path.stat().st_size
    if "matroska" in container:
        return _matroska_size(path) <= size
    if container == "gif":
        with path.open("rb") as file:
            file.seek(max(0, size - 64))
            return file.read().rstrip(b"\0").endswith(b"\x3b")
    return True


def _matroska_size(path: Path) -> int:
    """Bytes that the header and the one segment of a Matroska file announce; 0 if they do not.

    An element is an id, a size and that many bytes; a size of all ones means unknown, as in
    live recordings. Source: RFC 8794, sections 4 to 6.
    """
    with path.open("rb") as file:
        head = file.read(4096)

    def number(at: int) -> tuple[int | None, int]:
        """A variable-length integer, None if unknown, and the position after it."""
        length = 9 - head[at].bit_length()
        ones = (1 << 7 * length) - 1
        value = int.from_bytes(head[at : at + length], "big") & ones
        return None if value == ones else value, at + length

    header, begin = number(4)
    segment = begin + (header or 0)
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    size, begin = number(segment + 4)
    return 0 if size is None else begin + size
