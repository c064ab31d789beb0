"""The table of a clip's results, `frames.jsonl`: one row per frame, and where its results are.

In: rows as JSON holds them. Out: names of files in `masks/`, `frames/`, `layers/`, `cutouts/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from warpkit.checks import InputError, require
from warpkit.io.text import read_lines

__all__ = ["ROWS", "Row", "read_rows", "result_file"]

ROWS = "frames.jsonl"

Row = dict[str, Any]


def read_rows(path: Path, *, count: int | None = None) -> list[Row]:
    """The rows of a table.

    Args:
        count: of the first alone; what a killed run was writing behind them may be cut short.

    Raises:
        InputError: it is damaged, or cannot be read.
    """
    lines = read_lines(path)[:count]
    try:
        rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    whole = all(
        isinstance(row, dict)
        and type(row.get("frame")) is int
        and isinstance(row.get("name"), str)
        and isinstance(row.get("file", ""), str)
        for row in rows
    )
    require(whole, f"{path} must hold an object with 'frame' and 'name' in every line")
    return rows


def result_file(row: Row) -> str:
    """The name of a frame's results, as in `00004.png`; older tables name them by number alone."""
    return str(row["file"]) if "file" in row else f"{row['frame']:05d}.png"
