"""Pairs of points set by hand: `"x,y>x,y;..."`, CSV or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, float32, is_file, require
from warpkit.io.tables import TABLE_SUFFIXES, read_table
from warpkit.io.text import read_json

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
    suffix = path.suffix.lower()
    if suffix in (*TABLE_SUFFIXES, ".json"):
        require(is_file(path), f"no file of guides at {path}")
    if suffix in TABLE_SUFFIXES:
        rows: Any = read_table(path, _COLUMNS).numbers(*_COLUMNS).reshape(-1, 2, 2)
    elif suffix == ".json":
        rows = _json_rows(read_json(path), path)
    else:
        rows = [
            [end.split(",") for end in part.split(">")]
            for part in str(text).split(";")
            if part.strip()
        ]
    try:
        guides = float32(rows)
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


def _json_rows(data: Any, path: Path) -> list[Any]:
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
