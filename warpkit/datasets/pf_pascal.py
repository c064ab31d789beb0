"""PF-PASCAL (Ham, Cho, Schmid, Ponce: Proposal Flow, PAMI 2018) with its customary splits."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from warpkit.checks import InputError, float32, is_file, one_of, require
from warpkit.datasets.json_fields import check_folder, image_file, read_lines
from warpkit.datasets.mat_files import load_mat
from warpkit.datasets.pair import AnnotatedPair, Box, Points, found_pairs, points_box

__all__ = ["PASCAL_CLASSES", "read_pf_pascal"]

PASCAL_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""The classes of PASCAL VOC; a list's number 1 is the first."""

_SPLITS = {"train": ("trn", "train"), "trn": ("trn", "train"), "val": ("val",), "test": ("test",)}
_FOLDER = "PF-dataset-PASCAL"


def read_pf_pascal(root: Path | str, split: str = "test") -> tuple[list[AnnotatedPair], list[str]]:
    """Read a split of PF-PASCAL.

    The data set is `JPEGImages/<name>.jpg` and `Annotations/<class>/<name>.mat` with `kps` (N, 2),
    NaN where a point is not visible, and `bbox` (1, 4). `root` is its folder, or the one that holds
    it as `PF-dataset-PASCAL`. The split is a list of pairs in either folder, beside the data set,
    or in an `image_pairs` there: `test_pairs_pf_pascal.csv` or `test_pairs.csv`, likewise `val`
    and `trn` or `train`.

    A list's columns are `source_image`, `target_image` (the last part of a path counts), `class`
    (1 to 20) and perhaps `XA`, `YA`, `XB`, `YB`: coordinates divided by `;`. Without those the
    points are the `kps` that are visible in both images. Boxes are the annotations' `bbox`, else
    the points' own.

    Args:
        root: where the data set is.
        split: `train`, `val` or `test`.

    Returns:
        The pairs in the list's order, and one line for every row that is broken, whose files are
        missing, or that is marked `flip`: it asks for mirrored images, which are no files.

    Raises:
        InputError: for an unknown split, no such folder or list, or no usable pair.
    """
    root = check_folder(root, "PF-PASCAL's JPEGImages, Annotations and lists of pairs")
    names = _SPLITS[one_of(split, _SPLITS, "split")]
    data = root if (root / "JPEGImages").is_dir() else root / _FOLDER
    require((data / "JPEGImages").is_dir(), f"{root} holds neither JPEGImages nor {_FOLDER}")
    list_path = _find_list(root, data, names)
    annotation = cache(_read_annotation)  # an image stands in many pairs
    pairs: list[AnnotatedPair] = []
    problems: list[str] = []
    for number, row in enumerate(_rows(list_path), start=1):
        try:
            category = _class_name(row)
            source, target = _stem(row, "source_image"), _stem(row, "target_image")
            require(
                (row.get("flip") or "0").strip() == "0",
                "'flip' asks for mirrored images, which are not read: the pair itself has a row"
                " of its own",
            )
            folder = data / "Annotations" / category
            paths = [folder / f"{stem}.mat" for stem in (source, target)]
            if "XA" in row:
                points = _without_padding(_listed(row, "XA", "YA"), _listed(row, "XB", "YB"))
                boxes = [annotation(path).box if is_file(path) else None for path in paths]
            else:
                points = _visible_in_both(*map(annotation, paths))
                boxes = [annotation(path).box for path in paths]
            pairs.append(
                AnnotatedPair(
                    source_path=image_file(data / "JPEGImages", f"{source}.jpg"),
                    target_path=image_file(data / "JPEGImages", f"{target}.jpg"),
                    source_points=points[0],
                    target_points=points[1],
                    source_box=boxes[0] or points_box(points[0]),
                    target_box=boxes[1] or points_box(points[1]),
                    category=category,
                )
            )
        except InputError as error:
            problems.append(f"{list_path} row {number}: {error}")
    return found_pairs(pairs, problems, list_path)


def _find_list(root: Path, data: Path, names: tuple[str, ...]) -> Path:
    files = [f"{name}_pairs{ending}.csv" for ending in ("_pf_pascal", "") for name in names]
    folders = list(dict.fromkeys([root, data, data.parent]))
    places = [*folders, *(folder / "image_pairs" for folder in folders)]
    found = [place / file for place in places for file in files if (place / file).is_file()]
    require(
        bool(found),
        f"{root} holds no list of pairs: expected {' or '.join(files)} in it or beside the data",
    )
    return found[0]


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a list, by its columns."""
    try:
        reader = csv.DictReader(read_lines(path), skipinitialspace=True)
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}") from error
    names = set(reader.fieldnames or ())
    points = {"XA", "YA", "XB", "YB"} if "XA" in names else set()
    missing = {"source_image", "target_image", "class", *points} - names
    require(not missing, f"{path}: its first line lacks the columns {', '.join(sorted(missing))}")
    return rows


def _class_name(row: Mapping[str, str]) -> str:
    number = (row["class"] or "").strip()
    require(
        number in {str(n) for n in range(1, len(PASCAL_CLASSES) + 1)},
        f"'class' must be a number from 1 to {len(PASCAL_CLASSES)}, got '{number}'",
    )
    return PASCAL_CLASSES[int(number) - 1]


def _stem(row: Mapping[str, str], column: str) -> str:
    stem = PurePosixPath((row[column] or "").strip().replace("\\", "/")).stem
    require(bool(stem), f"'{column}' must name an image, got nothing")
    return stem


def _listed(row: Mapping[str, str], x: str, y: str) -> Points:
    """The points of two columns as float32 (N, 2)."""
    try:
        columns = [[float(v) for v in (row[name] or "").split(";") if v.strip()] for name in (x, y)]
    except ValueError as error:
        raise InputError(f"'{x}' and '{y}' must be numbers divided by ';': {error}") from error
    require(
        len(columns[0]) == len(columns[1]) > 0,
        f"'{x}' and '{y}' must hold equally many numbers, at least one, got {len(columns[0])} and"
        f" {len(columns[1])}",
    )
    return float32(columns).T.copy()


def _without_padding(source: Points, target: Points) -> list[Points]:
    """The points that both images have: lists are padded with -1 or NaN to a common length."""
    require(
        len(source) == len(target),
        f"'XA' and 'XB' must correspond one to one, got {len(source)} and {len(target)}",
    )
    both = np.concatenate([source, target], axis=1)
    kept = (np.isfinite(both) & (both >= 0)).all(axis=1)
    require(bool(kept.any()), "no point is given in both images")
    return [source[kept], target[kept]]


@dataclass(frozen=True, eq=False)
class _Annotation:
    """One image's points (N, 2), NaN where not visible, and its box if the file has one."""

    path: Path
    points: Points | None
    box: Box | None


def _read_annotation(path: Path) -> _Annotation:
    content = load_mat(path, "kps", "bbox")
    return _Annotation(path, _matrix(path, content, "kps", 2), _box(path, content))


def _matrix(path: Path, content: Mapping[str, Any], name: str, width: int) -> Points | None:
    """A matrix of numbers as float32 (N, width); None if there is none."""
    if name not in content:
        return None
    value = content[name]
    require(
        value.ndim == 2 and value.shape[1] == width and value.dtype.kind in "fiu",
        f"{path}: '{name}' must be numbers (N, {width}), got {value.dtype} {value.shape}",
    )
    return float32(value)


def _box(path: Path, content: Mapping[str, Any]) -> Box | None:
    box = _matrix(path, content, "bbox", 4)
    if box is None:
        return None
    require(len(box) == 1, f"{path}: 'bbox' must be numbers (1, 4), got {box.shape}")
    x1, y1, x2, y2 = box[0].tolist()
    return x1, y1, x2, y2


def _visible_in_both(source: _Annotation, target: _Annotation) -> list[Points]:
    kps: list[Points] = []
    for annotation in (source, target):
        require(annotation.points is not None, f"{annotation.path} holds no numbers as 'kps'")
        assert annotation.points is not None
        kps.append(annotation.points)
    require(
        len(kps[0]) == len(kps[1]),
        f"{source.path} and {target.path} must hold equally many 'kps', got {len(kps[0])} and"
        f" {len(kps[1])}",
    )
    visible = np.isfinite(np.concatenate(kps, axis=1)).all(axis=1)
    require(bool(visible.any()), "no point is visible in both images")
    return [points[visible] for points in kps]
