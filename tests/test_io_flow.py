"""Middlebury .flo files, read byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.io.flow import known_flow, read_flo


def flo_bytes(width: int, height: int, values: list[float], magic: float = 202021.25) -> bytes:
    return struct.pack(f"<fii{len(values)}f", magic, width, height, *values)


def test_read_follows_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    path.write_bytes(flo_bytes(3, 2, [0, 1, 2, 3, 4, 5, -6.5, 7, 8, 9, 1e10, 1e10]))
    flow = read_flo(path)
    assert flow.dtype == np.float32
    assert flow.tolist() == [[[0, 1], [2, 3], [4, 5]], [[-6.5, 7], [8, 9], [1e10, 1e10]]]
    assert known_flow(flow).tolist() == [[True, True, True], [True, True, False]]


def test_what_counts_as_known() -> None:
    flow = np.array([[[1e9, -1e9], [0, 1.1e9], [-2e9, 0], [np.nan, 0], [np.inf, 0]]], np.float32)
    assert known_flow(flow).tolist() == [[True, False, False, False, False]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short after 0 bytes"),
        (b"PIEH\x01\0\0\0", "cut short after 8 bytes"),
        (flo_bytes(1, 1, [0]), r"1 x 1 \(width x height\) pixels take 20 bytes, the file has 16"),
        (flo_bytes(2, 1, [0] * 5), "take 28 bytes, the file has 32"),
        (flo_bytes(1, 1, [0, 0], magic=1), "expected a .flo file, which begins with 202021.25"),
        (flo_bytes(0, 4, []), r"0 x 4 \(width x height\) pixels; expected 1 to 99999 a side"),
        (flo_bytes(4, -1, []), "4 x -1"),
        (flo_bytes(2**30, 4, []), "1073741824 x 4"),
        (flo_bytes(90_000, 90_000, []), "take 64800000012 bytes, the file has 12"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.flo").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_flo(tmp_path / "a.flo")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.flo: no such file"):
        read_flo(tmp_path / "gone.flo")
    with pytest.raises(InputError, match="no such file"):
        read_flo(tmp_path)
