"""Pairs of points set by hand: `"x,y>x,y;..."`, CSV or JSON."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, require
from warpkit.io.text import read_json, read_text

__all__ = ["read_guide_flags", "read_guides"]

_EXPECTED = (
    'guides as "x,y>x,y" (source first; several with ; between), or a .csv or .json file with'
    " columns or keys source_x, source_y, target_x, target_y"
)
_COLUMNS = ("source_x", "source_y", "target_x", "target_y")


def read_guides(text: str | Path) -> npt.NDArray[np.float32]:
    """Pairs of points that belong together.

    A CSV file has a header with the four columns, or four numbers a line. A JSON file is a list of
    `[[xs, ys], [xt, yt]]`, of objects with the four keys, or an object with `source_points` and
    `target_points`, such as `warpkit match` writes.

    Returns:
        float32 (G, 2, 2), source points first.

    Raises:
        InputError: neither of these.
    """
    path = Path(text)
    if path.suffix.lower() in (".csv", ".json"):
        require(path.is_file(), f"no file of guides at {path}")
        is_csv = path.suffix.lower() == ".csv"
        rows = _csv_rows(read_text(path)) if is_csv else _json_rows(path)
    else:
        rows = [
            [end.split(",") for end in part.split(">")]
            for part in str(text).split(";")
            if part.strip()
        ]
    try:
        guides = np.asarray(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected {_EXPECTED}, got {str(text)!r}") from error
    require(
        guides.ndim == 3 and guides.shape[1:] == (2, 2) and len(guides) > 0,
        f"expected {_EXPECTED}, got {str(text)!r}",
    )
    require(bool(np.isfinite(guides).all()), f"guides must be finite numbers, got {str(text)!r}")
    return guides


def read_guide_flags(texts: Sequence[str] | None) -> npt.NDArray[np.float32] | None:
    """The guides of all of a command's flags, each a text or a file; None without any."""
    if not texts:
        return None
    return np.concatenate([read_guides(text) for text in texts])


def _csv_rows(content: str) -> list[Any]:
    lines = [line for line in csv.reader(content.splitlines()) if any(line)]
    if lines and all(name in [cell.strip() for cell in lines[0]] for name in _COLUMNS):
        header = [cell.strip() for cell in lines[0]]
        order = [header.index(name) for name in _COLUMNS]
        lines = [[line[i] if i < len(line) else "" for i in order] for line in lines[1:]]
    return [[line[:2], line[2:]] for line in lines]


def _json_rows(path: Path) -> list[Any]:
    data = read_json(path)
    if isinstance(data, dict):
        first, second = data.get("source_points"), data.get("target_points")
        if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
            return [list(pair) for pair in zip(first, second, strict=True)]
        raise InputError(f"{path}: expected {_EXPECTED}")
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        try:
            return [
                [[row["source_x"], row["source_y"]], [row["target_x"], row["target_y"]]]
                for row in data
            ]
        except KeyError as error:
            raise InputError(f"{path}: a guide has no {error}; expected {_EXPECTED}") from error
    return data if isinstance(data, list) else []
