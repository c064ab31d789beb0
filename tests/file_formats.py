"""Files and codes of other tools, written and read by the letter of their formats."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np


def write_flo(path: Path, flow: np.ndarray) -> None:
    """A Middlebury flow file of (H, W, 2) displacements."""
    height, width = flow.shape[:2]
    head = struct.pack("<fii", 202021.25, width, height)
    path.write_bytes(head + flow.astype("<f4").tobytes())


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """The mask bool (H, W) of a run-length encoding of the COCO data set."""
    height, width = rle["size"]
    counts: list[int] = []
    letters = iter(rle["counts"])
    for letter in letters:
        value, shift, code = 0, 0, ord(letter) - 48
        while True:
            value |= (code & 31) << shift
            shift += 5
            if not code & 32:
                break
            code = ord(next(letters)) - 48
        value -= (1 << shift) if code & 16 else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")
