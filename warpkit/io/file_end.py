"""Whether a video file that states no frame count is all there, from its own end mark.

FFmpeg plays such a file cut short as if it simply ended there.
"""

from __future__ import annotations

from pathlib import Path

from warpkit.io.matroska import matroska_size

__all__ = ["reaches_end"]


def reaches_end(path: Path, container: str) -> bool:
    """False if a Matroska, WebM or GIF file is shorter than it says; True if nothing says so.

    Args:
        container: FFmpeg's name of the container format.
    """
    size = path.stat().st_size
    if "matroska" in container:
        return matroska_size(path) <= size
    if container == "gif":
        with path.open("rb") as file:
            file.seek(max(0, size - 64))
            return file.read().rstrip(b"\0").endswith(b"\x3b")
    return True
