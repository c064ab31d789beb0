"""Validation at the edge: one error class for bad input, and the checks that raise it.

Every public entry validates here once; the mathematics behind it stays free of checks.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "InputError",
    "OutputError",
    "absent",
    "check_file",
    "check_image",
    "check_mask",
    "check_points",
    "check_same_size",
    "counted",
    "exists",
    "first_line",
    "float32",
    "is_dir",
    "is_file",
    "one_of",
    "require",
    "same_definition",
    "suggest",
    "usable_array",
]


class InputError(ValueError):
    """Input that cannot be used: the message says what was expected, what came and what to do.

    The command line prints it and exits with code 2. It is one line, whatever is quoted in it.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(message.splitlines()))


class OutputError(InputError):
    """Results that cannot be written where they were asked for: a full disk, a missing right."""


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun for a message: "1 pair", "2 pairs", "12,345 pixels".

    Args:
        noun: of one.
        plural: of several; `noun` with an s if None.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def absent(path: Path, what: str = "file") -> str:
    """What a message says of a path where nothing is, with what is often meant by such a name."""
    text = str(path)
    hint = ""
    if re.match(r"(https?|s3|gs|ftp):/", text):  # a path has one slash of two
        hint = "; addresses are not fetched: download it, and give the file"
    elif text.startswith("file:/"):
        hint = "; give the path without 'file:'"
    elif text.startswith("~"):
        hint = "; a quoted '~' is not opened: write the folder out"
    elif re.search(r"[*?]|%0?\d*d", path.name):
        hint = "; patterns are not opened: give the folder"
    return f"{path}: no such {what}{hint}"


def check_file(path: Path) -> None:
    """Raise `InputError` unless a file is there that can be read again and again.

    Pipes are not opened: that may wait for ever, and what is read from them is gone.
    """
    require(exists(path), absent(path))
    kinds = {
        "pipe": path.is_fifo(),
        "socket": path.is_socket(),
        "device": path.is_char_device() or path.is_block_device(),
    }
    for kind, found in kinds.items():
        require(
            not found,
            f"{path}: expected a file, this is a {kind}, which cannot be read twice: save what"
            " comes out of it as a file, and give that",
        )


# The methods of `Path` raise for names that no file can have: too long, or with a zero byte.
def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is such a file or folder; False for a name that nothing can have."""
    return os.path.exists(path)  # noqa: PTH110


def is_dir(path: str | os.PathLike[str]) -> bool:
    """Whether there is such a folder; False for a name that none can have."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is such a file; False for a name that none can have."""
    return os.path.isfile(path)  # noqa: PTH113


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint such as `" Did you mean 'sd15'?"`, or an empty string when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def first_line(error: Exception) -> str:
    """The first line of an error's text, or the name of its class if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def same_definition(first: Any, second: Any) -> bool:
    """Whether two classes or functions have one definition, such as that of a reloaded module."""
    return (first.__module__, first.__qualname__) == (second.__module__, second.__qualname__)


def one_of(value: str, known: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `known`; otherwise name the legal values.

    Raises:
        InputError: with the legal names and the nearest one.
    """
    names = list(known)
    if value not in names:
        raise InputError(
            f"unknown {what} '{value}': expected one of {', '.join(names)}.{suggest(value, names)}"
        )
    return value


def usable_array(value: Any) -> Any:
    """An array that torch, OpenCV and PyAV take: contiguous, writable, of native byte order.

    Views such as `bgr[..., ::-1]`, read-only and memory-mapped arrays are copied, torch tensors
    brought to the CPU. An array that is all this, and what is no array, comes back as it is.
    """
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        value = (value.float() if "bfloat" in str(value.dtype) else value).numpy()
    if not isinstance(value, np.ndarray) or (
        type(value) is np.ndarray and value.flags.carray and value.dtype.isnative
    ):
        return value
    return np.require(value, value.dtype.newbyteorder("="), ["C", "W", "E"])


def check_image(image: Any, name: str = "image") -> npt.NDArray[np.uint8]:
    """An image at the edge: uint8 array (H, W, 3), RGB, at least 2 x 2 pixels.

    Returns:
        The image as `usable_array` makes it.

    Raises:
        InputError: for another type, dtype or shape.
    """
    image = usable_array(image)
    require(
        isinstance(image, np.ndarray),
        f"{name} must be a uint8 RGB array (height, width, 3), got {type(image).__name__};"
        " read files with warpkit.read_image",
    )
    require(
        image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3,
        f"{name} must be a uint8 RGB array (height, width, 3), got {image.dtype} {image.shape};"
        " read files with warpkit.read_image",
    )
    require(
        min(image.shape[:2]) >= 2,
        f"{name} must have at least 2 x 2 pixels, got {image.shape[0]} x {image.shape[1]}",
    )
    return image


def check_mask(
    mask: Any, *, height: int, width: int, name: str = "mask", allow_empty: bool = False
) -> npt.NDArray[np.bool_]:
    """A mask over an image: bool array (H, W) of the image's size with at least one pixel set.

    Raises:
        InputError: for another type, another size, or an empty mask.
    """
    mask = usable_array(mask)
    require(
        isinstance(mask, np.ndarray) and mask.ndim == 2,
        f"{name} must be a 2-D array (height, width), got"
        f" {getattr(mask, 'shape', type(mask).__name__)}",
    )
    require(
        mask.shape == (height, width),
        f"{name} is {mask.shape[0]} x {mask.shape[1]} (height x width) but its image is"
        f" {height} x {width}: give a mask of the image's own size",
    )
    mask = mask.astype(bool)
    require(
        allow_empty or bool(mask.any()),
        f"{name} is empty (no pixel is set): give a mask that covers the object",
    )
    return mask


def float32(values: Any) -> npt.NDArray[np.float32]:
    """Numbers as a float32 array, a copy; one that is too large becomes infinite.

    Raises:
        TypeError, ValueError: what is no number, or lists of several lengths.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            return np.array(values, np.float32, order="C")
        except OverflowError as error:  # a whole number beyond all floats
            raise ValueError(str(error)) from error


def check_points(
    points: Any, *, height: int, width: int, name: str = "points"
) -> npt.NDArray[np.float32]:
    """Points `(x, y)` in pixels of an image: float32 (N, 2), finite, inside the image.

    Convention: pixel centres at integers, so the image spans [-0.5, width - 0.5].

    Raises:
        InputError: for another shape, non-finite values or points outside the image.
    """
    try:
        array = float32(usable_array(points))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a list of [x, y] pairs, got {points!r}") from error
    require(
        array.ndim == 2 and array.shape[1] == 2 and len(array) > 0,
        f"{name} must be a list of [x, y] pairs with at least one pair, got shape {array.shape}",
    )
    require(bool(np.isfinite(array).all()), f"{name} must be finite numbers")
    inside = (
        (array[:, 0] >= -0.5)
        & (array[:, 0] <= width - 0.5)
        & (array[:, 1] >= -0.5)
        & (array[:, 1] <= height - 0.5)
    )
    if not inside.all():
        bad = array[int(np.argmin(inside))]
        raise InputError(
            f"{name}: ({bad[0]:g}, {bad[1]:g}) lies outside the image of"
            f" {width} x {height} (width x height) pixels"
        )
    return array


def check_same_size(
    first: npt.NDArray[Any], second: npt.NDArray[Any], first_name: str, second_name: str
) -> None:
    """Raise unless both arrays agree in height and width."""
    require(
        first.shape[:2] == second.shape[:2],
        f"{first_name} is {first.shape[0]} x {first.shape[1]} (height x width) but {second_name}"
        f" is {second.shape[0]} x {second.shape[1]}: they must agree, give both at one size",
    )
