"""Annotated image pairs: two images, corresponding points, object boxes.

Every reader returns the usable pairs and a list of problems, one line for every item left out.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, require

__all__ = ["AnnotatedPair", "Box", "read_cub_index", "read_dhf_json", "read_pf_willow"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class AnnotatedPair:
    """Two images and the points that correspond between them.

    Convention: `(x, y)` pixels of each image as its data set distributes them; row i of the source
    points corresponds to row i of the target points. Boxes are `(x1, y1, x2, y2)`.

    Attributes:
        source_path: image file.
        target_path: image file.
        source_points: float32 (N, 2), N >= 1.
        target_points: float32 (N, 2).
        source_box: the object's box in the source image.
        target_box: the object's box in the target image.
        category: what the pair is counted under in per-category tables.
    """

    source_path: Path
    target_path: Path
    source_points: npt.NDArray[np.float32]
    target_points: npt.NDArray[np.float32]
    source_box: Box
    target_box: Box
    category: str

    def __post_init__(self) -> None:
        for name, points in (("source", self.source_points), ("target", self.target_points)):
            require(
                points.dtype == np.float32
                and points.ndim == 2
                and points.shape[1] == 2
                and len(points) > 0,
                f"{name}_points must be float32 (N, 2) with N >= 1, got {points.dtype}"
                f" {points.shape}",
            )
            require(bool(np.isfinite(points).all()), f"{name}_points must be finite numbers")
        require(
            len(self.source_points) == len(self.target_points),
            f"source_points and target_points must correspond one to one, got"
            f" {len(self.source_points)} and {len(self.target_points)}",
        )
        for name, (x1, y1, x2, y2) in (("source", self.source_box), ("target", self.target_box)):
            require(
                bool(np.isfinite([x1, y1, x2, y2]).all())
                and x2 >= x1
                and y2 >= y1
                and max(x2 - x1, y2 - y1) > 0,
                f"{name}_box must be (x1, y1, x2, y2) with a positive side, got"
                f" ({x1:g}, {y1:g}, {x2:g}, {y2:g})",
            )

    def __len__(self) -> int:
        """Number of corresponding points."""
        return len(self.source_points)


def read_dhf_json(
    json_path: Path | str, image_folder: Path | str
) -> tuple[list[AnnotatedPair], list[str]]:
    """Read a pair list in the JSON form of Diffusion Hyperfeatures.

    The file holds a list of objects with `source_path`, `target_path` (relative to
    `image_folder`), `source_points`, `target_points`, `source_bounding_box`,
    `target_bounding_box` and `category`.

    Returns:
        The pairs in the file's order, and one line for every item that is broken or whose image
        is missing.

    Raises:
        InputError: if the file is not a JSON list, or no item is usable.
    """
    json_path, image_folder = Path(json_path), Path(image_folder)
    items = _load_json(json_path)
    require(
        isinstance(items, list), f"{json_path} must hold a JSON list of pairs, got {_kind(items)}"
    )

    def read(item: Any) -> AnnotatedPair:
        return AnnotatedPair(
            source_path=_image(image_folder, _text(item, "source_path")),
            target_path=_image(image_folder, _text(item, "target_path")),
            source_points=_points(item, "source_points"),
            target_points=_points(item, "target_points"),
            source_box=_box(item, "source_bounding_box"),
            target_box=_box(item, "target_bounding_box"),
            category=_text(item, "category"),
        )

    pairs: list[AnnotatedPair] = []
    problems: list[str] = []
    for position, item in enumerate(items):
        try:
            pairs.append(read(item))
        except InputError as error:
            problems.append(f"{json_path} item {position}: {error}")
    return _usable(pairs, problems, json_path), problems


def read_pf_willow(root: Path | str) -> tuple[list[AnnotatedPair], list[str]]:
    """Read PF-WILLOW: all ordered pairs of images within each folder.

    `root` holds one folder per category (`car(S)`, ...) of `.png` images, each beside a `.mat`
    file with `pts_coord` (2, 10): the same ten points, in the same order, in every image. There
    are no object boxes, so the box is that of the ten points, as in the data set's own PCK.

    Returns:
        The pairs by folder, then source, then target name; the category is the folder's name. One
        line for every image that has no usable annotation.

    Raises:
        InputError: if there is no such folder, or SciPy is not installed.
    """
    root = Path(root)
    require(root.is_dir(), f"{root} is not a folder: expected PF-WILLOW's folders of .png and .mat")
    pairs: list[AnnotatedPair] = []
    problems: list[str] = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        annotated: list[tuple[Path, npt.NDArray[np.float32], Box]] = []
        for image_path in sorted(folder.glob("*.png")):
            try:
                points = _willow_points(image_path.with_suffix(".mat"))
            except InputError as error:
                problems.append(str(error))
                continue
            low, high = points.min(axis=0), points.max(axis=0)
            box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
            annotated.append((image_path, points, box))
        for source, target in itertools.permutations(annotated, 2):
            pairs.append(
                AnnotatedPair(
                    source[0], target[0], source[1], target[1], source[2], target[2], folder.name
                )
            )
    return _usable(pairs, problems, root), problems


def _willow_points(path: Path) -> npt.NDArray[np.float32]:
    """`pts_coord` of one annotation as float32 (10, 2)."""
    require(path.is_file(), f"the annotation {path} is missing")
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise InputError(
            "reading .mat annotations needs SciPy: pip install 'warpkit-hyperfeatures[train]'"
        ) from error
    try:
        content = loadmat(path)
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError, zlib.error) as error:
        raise InputError(f"{path} is not a readable .mat file: {error}") from error
    coordinates: Any = content.get("pts_coord")
    require(
        coordinates is not None
        and coordinates.shape == (2, 10)
        and bool(np.isfinite(coordinates).all()),
        f"{path} must hold finite 'pts_coord' (2, 10), got"
        f" {'none' if coordinates is None else f'{coordinates.dtype} {coordinates.shape}'}",
    )
    points = np.ascontiguousarray(coordinates.T, dtype=np.float32)
    require(
        float(np.ptp(points, axis=0).max()) > 0,
        f"{path}: all points of 'pts_coord' coincide, so their box has no side",
    )
    return points


def read_cub_index(
    index_path: Path | str,
    species: Sequence[int],
    *,
    pairs: int,
    seed: int,
    same_species: bool,
) -> tuple[list[AnnotatedPair], list[str]]:
    """Draw bird pairs from an index of CUB-200-2011 images.

    The index is a JSON object with `parts` (names) and `items`; an item has `file` (relative to
    the index), `species` (a number), `box` (x1, y1, x2, y2), `kps` (parts, 2) and `vis` (parts,).
    A pair's points are the parts that are visible in both images, at least one.

    Args:
        index_path: the JSON file, or a folder that holds exactly one.
        species: species numbers to draw from.
        pairs: how many distinct ordered pairs to draw.
        seed: seeds the draw; the same seed over the same files gives the same pairs.
        same_species: both images from one species (its category is the species' folder); else
            from two different ones (category `cross-species`).

    Returns:
        The pairs in the order drawn, and one line for every item of these species that is broken
        or whose image is missing.

    Raises:
        InputError: for an unknown species, or if there are fewer than `pairs` such pairs.
    """
    index_path = _index_file(Path(index_path))
    index = _load_json(index_path)
    require(
        isinstance(index, dict)
        and isinstance(index.get("parts"), list)
        and isinstance(index.get("items"), list),
        f"{index_path} must hold a JSON object with lists 'parts' and 'items'",
    )
    require(pairs > 0, f"pairs must be positive, got {pairs}")
    birds: list[_Bird] = []
    problems: list[str] = []
    for position, item in enumerate(index["items"]):
        try:
            bird = _read_bird(item, index_path.parent, parts=len(index["parts"]), species=species)
        except InputError as error:
            problems.append(f"{index_path} item {position}: {error}")
        else:
            birds += [bird] if bird else []
    for number in species:
        require(
            any(bird.species == number for bird in birds),
            f"{index_path} has no usable image of species {number}; {len(problems)} items are"
            f" broken{f', the first: {problems[0]}' if problems else ''}",
        )

    kind = np.array([bird.species for bird in birds])
    visible = np.stack([bird.visible for bird in birds]).astype(np.int64)
    allowed = (kind[:, None] == kind[None]) == same_species
    allowed &= (visible @ visible.T) > 0
    np.fill_diagonal(allowed, False)
    candidates = np.flatnonzero(allowed)
    require(
        len(candidates) >= pairs,
        f"{index_path} has only {len(candidates)} {'same' if same_species else 'cross'}-species"
        f" pairs of species {', '.join(map(str, species))}: ask for no more than that, not {pairs}",
    )
    chosen = np.random.default_rng(seed).choice(candidates, size=pairs, replace=False)
    drawn: list[AnnotatedPair] = []
    for flat in chosen.tolist():
        source, target = birds[flat // len(birds)], birds[flat % len(birds)]
        common = source.visible & target.visible
        drawn.append(
            AnnotatedPair(
                source.path,
                target.path,
                source.points[common],
                target.points[common],
                source.box,
                target.box,
                source.path.parent.name if same_species else "cross-species",
            )
        )
    return drawn, problems


@dataclass(frozen=True, eq=False)
class _Bird:
    path: Path
    species: int
    points: npt.NDArray[np.float32]
    visible: npt.NDArray[np.bool_]
    box: Box


def _read_bird(item: Any, folder: Path, *, parts: int, species: Sequence[int]) -> _Bird | None:
    """One item of a CUB index; None if it belongs to another species."""
    number = _value(item, "species")
    require(isinstance(number, int), f"'species' must be a number, got {number!r}")
    if number not in species:
        return None
    points = _points(item, "kps")
    flags = _value(item, "vis")
    require(
        len(points) == parts
        and isinstance(flags, list)
        and len(flags) == parts
        and set(flags) <= {0, 1},
        f"'kps' and 'vis' must have one entry for each of the {parts} parts, 'vis' 0 or 1",
    )
    return _Bird(
        path=_image(folder, _text(item, "file")),
        species=number,
        points=points,
        visible=np.array(flags, dtype=bool),
        box=_box(item, "box"),
    )


def _index_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.json"))
    require(
        len(found) == 1,
        f"{path} must hold exactly one .json index, got {len(found)}: name the file",
    )
    return found[0]


def _usable(pairs: list[AnnotatedPair], problems: list[str], where: Path) -> list[AnnotatedPair]:
    require(
        bool(pairs),
        f"no usable pair in {where}: {problems[0] if problems else 'it holds none'}"
        + (f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""),
    )
    return pairs


def _load_json(path: Path) -> Any:
    require(path.is_file(), f"no such file: {path}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def _kind(value: Any) -> str:
    return type(value).__name__


def _value(item: Any, key: str) -> Any:
    require(isinstance(item, dict), f"must be a JSON object, got {_kind(item)}")
    require(key in item, f"'{key}' is missing")
    return item[key]


def _text(item: Any, key: str) -> str:
    value = _value(item, key)
    require(isinstance(value, str) and bool(value), f"'{key}' must be text, got {value!r}")
    return value


def _numbers(item: Any, key: str, what: str) -> npt.NDArray[np.float64]:
    value = _value(item, key)
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"'{key}' must be {what}") from error


def _points(item: Any, key: str) -> npt.NDArray[np.float32]:
    what = "a list of [x, y] pairs with at least one pair"
    points = _numbers(item, key, what)
    require(
        points.ndim == 2 and points.shape[1] == 2 and len(points) > 0,
        f"'{key}' must be {what}, got shape {points.shape}",
    )
    return points.astype(np.float32)


def _box(item: Any, key: str) -> Box:
    box = _numbers(item, key, "[x1, y1, x2, y2]")
    require(box.shape == (4,), f"'{key}' must be [x1, y1, x2, y2], got shape {box.shape}")
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2


def _image(folder: Path, name: str) -> Path:
    path = folder / name
    require(path.is_file(), f"the image {path} is missing")
    return path
