"""Middlebury `.flo` files: dense displacement fields.

Little-endian: float32 202021.25, int32 width, int32 height, then float32 (H, W, 2). Source: the
format's description beside the Middlebury flow benchmark (Baker et al., IJCV 2011).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, is_file, require

__all__ = ["known_flow", "read_flo"]

Flow = npt.NDArray[np.float32]

_HEADER = struct.Struct("<fii")
_MAGIC = 202021.25  # float32 holds it exactly; its bytes spell "PIEH"
_LONGEST = 99_999  # pixels a side, the format's own limit
_UNKNOWN = 1e9


def read_flo(path: Path | str) -> Flow:
    """Read a `.flo` file as it is stored; `known_flow` says which pixels hold a displacement.

    Convention: `(dx, dy)` pixels; pixel `(x, y)` of the image that the field covers corresponds to
    `(x + dx, y + dy)` of the other.

    Returns:
        float32 (H, W, 2).

    Raises:
        InputError: if there is no such file, it is of another kind, its size is absurd, or it is
            cut short or too long.
    """
    path = Path(path)
    require(is_file(path), f"{path}: no such file")
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            require(
                len(header) == _HEADER.size,
                f"{path}: cut short after {len(header)} bytes: get a whole copy",
            )
            magic, width, height = _HEADER.unpack(header)
            require(
                magic == _MAGIC,
                f"{path}: expected a .flo file, which begins with {_MAGIC} (the bytes PIEH), got"
                f" {header[:4]!r}",
            )
            require(
                0 < width <= _LONGEST and 0 < height <= _LONGEST,
                f"{path}: the header says {width} x {height} (width x height) pixels; expected 1"
                f" to {_LONGEST} a side: the file is damaged",
            )
            # Before anything is allocated for a size that only the header claims.
            expected, stored = _HEADER.size + 8 * width * height, path.stat().st_size
            require(
                stored == expected,
                f"{path}: {width} x {height} (width x height) pixels take {expected} bytes, the"
                f" file has {stored}: get a whole copy",
            )
            values = np.frombuffer(file.read(), dtype="<f4")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return values.reshape(height, width, 2).astype(np.float32)


def known_flow(flow: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Which pixels of (H, W, 2) hold a displacement: bool (H, W), both parts at most 1e9."""
    return (np.abs(flow) <= _UNKNOWN).all(axis=-1)
