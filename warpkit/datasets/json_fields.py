"""Fields of annotation files: JSON objects and lines of text, each checked."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, float32, is_dir, is_file, require
from warpkit.datasets.pair import Box, Points
from warpkit.io import text

__all__ = [
    "box_field",
    "check_folder",
    "image_file",
    "kind",
    "load_json",
    "points_field",
    "read_lines",
    "text_field",
    "value_field",
]


def check_folder(root: Path | str, what: str) -> Path:
    """`root` as a path; raises `InputError` with `what` was expected unless it is a folder."""
    root = Path(root)
    require(is_dir(root), f"{root} is not a folder: expected {what}")
    return root


def read_lines(path: Path) -> list[str]:
    """As `warpkit.io.text.read_lines`.

    Raises:
        InputError: if there is no such file.
    """
    require(is_file(path), f"no such file: {path}")
    return text.read_lines(path)


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: if there is no such file, or it is not JSON.
    """
    require(is_file(path), f"no such file: {path}")
    return text.read_json(path)


def kind(value: Any) -> str:
    """The name of a value's type, for messages."""
    return type(value).__name__


def value_field(item: Any, key: str) -> Any:
    """The value of a JSON object's field, which must be there."""
    require(isinstance(item, dict), f"must be a JSON object, got {kind(item)}")
    require(key in item, f"'{key}' is missing")
    return item[key]


def text_field(item: Any, key: str) -> str:
    """A field of text that is not empty."""
    value = value_field(item, key)
    require(isinstance(value, str) and bool(value), f"'{key}' must be text, got {value!r}")
    return value


def points_field(item: Any, key: str) -> Points:
    """A field of `[x, y]` pairs as float32 (N, 2), N >= 1."""
    what = "a list of [x, y] pairs with at least one pair"
    points = _numbers(item, key, what)
    require(
        points.ndim == 2 and points.shape[1] == 2 and len(points) > 0,
        f"'{key}' must be {what}, got shape {points.shape}",
    )
    return float32(points)


def box_field(item: Any, key: str) -> Box:
    """A field `[x1, y1, x2, y2]`."""
    box = _numbers(item, key, "[x1, y1, x2, y2]")
    require(box.shape == (4,), f"'{key}' must be [x1, y1, x2, y2], got shape {box.shape}")
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2


def image_file(folder: Path, name: str) -> Path:
    """The path of an image that an annotation names, which must be there."""
    path = folder / name
    if not is_file(path):
        path = folder / text.local_path(name)
    drive = PureWindowsPath(name).drive
    advice = f": '{drive}' is a drive of Windows; name images relative to their folder"
    require(is_file(path), f"the image {path} is missing{advice if drive else ''}")
    return path


def _numbers(item: Any, key: str, what: str) -> npt.NDArray[np.float64]:
    value = value_field(item, key)
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"'{key}' must be {what}") from error
