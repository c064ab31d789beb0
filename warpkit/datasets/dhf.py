"""Pair lists in the JSON form of Diffusion Hyperfeatures, read and written.

A list of objects with `source_path`, `target_path` (relative to an image folder), `source_points`,
`target_points`, `source_bounding_box`, `target_bounding_box` and `category`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warpkit.checks import InputError, require
from warpkit.datasets.json_fields import (
    box_field,
    image_file,
    kind,
    load_json,
    points_field,
    text_field,
)
from warpkit.datasets.pair import AnnotatedPair, found_pairs
from warpkit.io.images import check_target
from warpkit.io.whole import write_json

__all__ = ["read_dhf_item", "read_dhf_json", "write_dhf_json"]


def read_dhf_json(
    json_path: Path | str, image_folder: Path | str
) -> tuple[list[AnnotatedPair], list[str]]:
    """Read a pair list in the JSON form of Diffusion Hyperfeatures.

    Returns:
        The pairs in the file's order, and one line for every item that is broken or whose image
        is missing.

    Raises:
        InputError: if the file is not a JSON list, or no item is usable.
    """
    json_path, image_folder = Path(json_path), Path(image_folder)
    items = load_json(json_path)
    require(
        isinstance(items, list), f"{json_path} must hold a JSON list of pairs, got {kind(items)}"
    )
    pairs: list[AnnotatedPair] = []
    problems: list[str] = []
    for position, item in enumerate(items):
        try:
            pairs.append(read_dhf_item(item, image_folder))
        except InputError as error:
            problems.append(f"{json_path} item {position}: {error}")
    return found_pairs(pairs, problems, json_path)


def write_dhf_json(
    path: Path | str, pairs: Sequence[AnnotatedPair], image_folder: Path | str
) -> None:
    """Write pairs so that `read_dhf_json(path, image_folder)` gives them back, points bit for bit.

    The file is whole or as it was.

    Args:
        path: the JSON file.
        pairs: at least one.
        image_folder: what image paths are written relative to; all images lie below it.

    Raises:
        InputError: for no pairs, an image elsewhere, or a file that cannot be written.
    """
    path, image_folder = Path(path), Path(image_folder)
    require(len(pairs) > 0, f"{path}: expected pairs to write, got none")
    check_target(path)
    write_json(
        path,
        [
            {
                "source_path": _relative(pair.source_path, image_folder),
                "target_path": _relative(pair.target_path, image_folder),
                "source_points": pair.source_points,
                "target_points": pair.target_points,
                "source_bounding_box": list(pair.source_box),
                "target_bounding_box": list(pair.target_box),
                "category": pair.category,
            }
            for pair in pairs
        ],
    )


def read_dhf_item(item: Any, image_folder: Path) -> AnnotatedPair:
    """One object of such a list.

    Raises:
        InputError: a field is missing or broken, or an image is not there.
    """
    return AnnotatedPair(
        source_path=image_file(image_folder, text_field(item, "source_path")),
        target_path=image_file(image_folder, text_field(item, "target_path")),
        source_points=points_field(item, "source_points"),
        target_points=points_field(item, "target_points"),
        source_box=box_field(item, "source_bounding_box"),
        target_box=box_field(item, "target_bounding_box"),
        category=text_field(item, "category"),
    )


def _relative(image: Path, folder: Path) -> str:
    try:
        return image.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError as error:
        raise InputError(
            f"the image {image} does not lie below {folder}, which paths are relative to: name a"
            " folder that holds all images"
        ) from error
