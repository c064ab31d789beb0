"""Matrices of numbers in MATLAB files, whose frame is checked before SciPy reads them.

SciPy ends the whole process at some damaged files, such as a download whose rest is zeros. Source
of the format: "MAT-File Format", The MathWorks, level 5.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

from warpkit.checks import InputError, first_line, is_file, require

__all__ = ["load_mat"]

_HEADER = 128
_NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)  # kinds of elements: integers and floats
_TEXTS = (16, 17, 18)
_MATRIX, _COMPRESSED = 14, 15
_CLASSES = range(6, 16)  # of matrices of numbers
_COMPLEX = 0x800
_LARGEST = 1 << 28  # bytes that a compressed element may become

# What SciPy's reader raises for damaged files.
_DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, NameError, NotImplementedError),
    *(OSError, RecursionError, TypeError, ValueError, struct.error, zlib.error),
)


def load_mat(path: Path, *names: str) -> dict[str, Any]:
    """Those of the named variables of a MATLAB file that are matrices of numbers.

    Raises:
        InputError: if there is no such file, it is damaged, or SciPy is not installed.
    """
    require(is_file(path), f"the annotation {path} is missing")
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise InputError(
            "reading .mat annotations needs SciPy: pip install 'warpkit-hyperfeatures[train]'"
        ) from error
    try:
        held = _matrices(path.read_bytes())
        wanted = [name for name in names if held is None or name in held]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a name that stands twice
            return dict(loadmat(path, variable_names=wanted))
    except (*_DAMAGE, MatReadError) as error:
        raise InputError(f"{path} is not a readable .mat file: {first_line(error)}") from error


def _matrices(content: bytes) -> set[str] | None:
    """The names of the matrices of numbers in a file of level 5; None for other levels.

    Raises:
        ValueError: it is damaged.
    """
    if 0 in content[:4]:
        return None  # level 4
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        raise ValueError("it does not begin as MATLAB files do")
    if content[125 if order == "<" else 124] == 2:
        return None  # HDF5
    return {name for _, _, name in _elements(content[_HEADER:], order) if name}


def _elements(content: bytes, order: str) -> list[tuple[int, bytes, str]]:
    """The elements that follow one another: kind, bytes, and the name of a matrix of numbers."""
    found, place = [], 0
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, after = place + 8, place + 8 + size + -size % 8
        if kind >> 16:  # a small one, within 8 bytes
            kind, size, start, after = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        body, name = content[start : start + size], ""
        if len(body) < size or (start == place + 4 and size > 4):
            raise ValueError("it is cut short")
        if kind == _COMPRESSED:
            after = start + size
            unpacked = zlib.decompressobj().decompress(body, _LARGEST)
            found += _elements(unpacked, order)
        elif kind == _MATRIX:
            name = _name(_elements(body, order), order)
        elif kind not in (*_NUMBERS, *_TEXTS):
            raise ValueError(f"it holds an element of the unknown kind {kind}")
        found.append((kind, body, name))
        place = after
    return found


def _name(parts: list[tuple[int, bytes, str]], order: str) -> str:
    """The name of a matrix of numbers, from its parts; empty for any other."""
    if [kind for kind, _, _ in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8:
        return ""
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    values = [kind in _NUMBERS for kind, _, _ in parts[3:]]
    whole = flags & 0xFF in _CLASSES and values == [True] * (2 if flags & _COMPLEX else 1)
    return parts[2][1].decode("latin-1") if whole else ""
