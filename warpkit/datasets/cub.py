"""CUB-200-2011 (Wah et al., Caltech CNS-TR-2011-001): bird pairs drawn from images with parts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, counted, float32, one_of, require
from warpkit.datasets.draw import name_ranks, pair_ranks
from warpkit.datasets.json_fields import (
    box_field,
    check_folder,
    image_file,
    load_json,
    points_field,
    read_lines,
    text_field,
    value_field,
)
from warpkit.datasets.pair import AnnotatedPair, Box, Points, check_box
from warpkit.io.images import image_size

__all__ = ["Pairing", "read_cub", "read_cub_index"]

Pairing = Literal["same", "cross", "any"]

_PAIRINGS = {"same": "same-species pairs", "cross": "cross-species pairs", "any": "pairs"}
# Rows of the table of all pairs that are in memory at a time: 12,000 images have 144 million.
_BLOCK = 1024


def read_cub(
    root: Path | str,
    *,
    pairs: int = 360,
    seed: int = 0,
    pairing: Pairing = "same",
    split: Literal["train", "test"] | None = "test",
    species: Collection[int] | None = None,
) -> tuple[list[AnnotatedPair], list[str]]:
    """Draw bird pairs from CUB-200-2011 as distributed.

    `root` holds `images.txt`, `image_class_labels.txt`, `bounding_boxes.txt` (x y width height),
    `train_test_split.txt` (1 is train), `parts/parts.txt`, `parts/part_locs.txt` (part x y
    visible), each line beginning with an image's number, and `images/<species>/<name>.jpg`. A
    pair's points are the parts that are visible in both images, at least one.

    Args:
        root: the data set's folder.
        pairs: how many distinct ordered pairs to draw.
        seed: seeds the draw; the same seed over the same files gives the same pairs.
        pairing: both images from one species (the category is the species' folder), from two
            (category `cross-species`), or whichever comes.
        split: images of this split; None takes all.
        species: species numbers (1 to 200) to draw from; None takes all.

    Returns:
        The pairs in the order drawn, and one line for every image of this split and these species
        that is broken or missing, and for every line that cannot be read.

    Raises:
        InputError: if a file is missing, for an unknown species or split, or if there are fewer
            than `pairs` such pairs.
    """
    root = check_folder(root, "CUB-200-2011's images.txt, images and parts")
    if split is not None:
        one_of(split, ("train", "test"), "split")
    problems: list[str] = []
    parts = len(read_lines(root / "parts" / "parts.txt"))
    files = _image_names(root / "images.txt", problems)
    labels = _table(root / "image_class_labels.txt", 1, problems)
    boxes = _table(root / "bounding_boxes.txt", 4, problems)
    training = _table(root / "train_test_split.txt", 1, problems)
    locations = _table(root / "parts" / "part_locs.txt", 4, problems)
    birds: list[_Bird] = []
    for number, name in files.items():
        try:
            is_training = _only(training, number, "train_test_split.txt") == [1]
            kind = int(_only(labels, number, "image_class_labels.txt")[0])
            if (split is not None and is_training != (split == "train")) or (
                species is not None and kind not in species
            ):
                continue
            points, visible = _part_points(locations.get(number, []), parts)
            x, y, width, height = _only(boxes, number, "bounding_boxes.txt")
            path = image_file(root / "images", name)
            image_size(path)  # a broken image makes room for another pair
            birds.append(_Bird(path, kind, points, visible, (x, y, x + width, y + height)))
        except InputError as error:
            problems.append(f"{root / 'images.txt'} image {number} ({name}): {error}")
    drawn = _draw(birds, problems, root, species=species, pairs=pairs, seed=seed, pairing=pairing)
    return drawn, problems


def read_cub_index(
    index_path: Path | str,
    species: Collection[int] | None = None,
    *,
    pairs: int,
    seed: int,
    pairing: Pairing = "same",
) -> tuple[list[AnnotatedPair], list[str]]:
    """Draw bird pairs from an index of CUB-200-2011 images.

    The index is a JSON object with `parts` (names) and `items`; an item has `file` (relative to
    the index), `species` (a number), `box` (x1, y1, x2, y2), `kps` (parts, 2) and `vis` (parts,).
    A pair's points are the parts that are visible in both images, at least one.

    Args:
        index_path: the JSON file, or a folder that holds exactly one.
        species: species numbers to draw from; None takes all.
        pairs: how many distinct ordered pairs to draw.
        seed: seeds the draw; the same seed over the same files gives the same pairs.
        pairing: as in `read_cub`.

    Returns:
        The pairs in the order drawn, and one line for every item of these species that is broken
        or whose image is missing.

    Raises:
        InputError: for an unknown species, or if there are fewer than `pairs` such pairs.
    """
    index_path = _index_file(Path(index_path))
    index = load_json(index_path)
    require(
        isinstance(index, dict)
        and isinstance(index.get("parts"), list)
        and isinstance(index.get("items"), list),
        f"{index_path} must hold a JSON object with lists 'parts' and 'items'",
    )
    birds: list[_Bird] = []
    problems: list[str] = []
    for position, item in enumerate(index["items"]):
        try:
            bird = _read_item(item, index_path.parent, parts=len(index["parts"]), species=species)
        except InputError as error:
            problems.append(f"{index_path} item {position}: {error}")
        else:
            birds += [bird] if bird else []
    drawn = _draw(
        birds, problems, index_path, species=species, pairs=pairs, seed=seed, pairing=pairing
    )
    return drawn, problems


@dataclass(frozen=True, eq=False)
class _Bird:
    path: Path
    species: int
    points: Points
    visible: npt.NDArray[np.bool_]
    box: Box

    def __post_init__(self) -> None:
        # Here and not in the pairs it is drawn for, so that one bird does not spoil the draw.
        check_box(self.box, "box")
        require(
            bool(np.isfinite(self.points[self.visible]).all()),
            "the points of visible parts must be finite numbers",
        )


def _draw(
    birds: Sequence[_Bird],
    problems: Sequence[str],
    where: Path,
    *,
    species: Collection[int] | None,
    pairs: int,
    seed: int,
    pairing: str,
) -> list[AnnotatedPair]:
    """Distinct ordered pairs, uniformly among all that the pairing and visible parts allow."""
    one_of(pairing, _PAIRINGS, "pairing")
    require(pairs > 0, f"pairs must be positive, got {pairs}")
    count = len(problems)
    broken = f"{counted(count, 'item')} {'is' if count == 1 else 'are'} broken"
    broken += f", the first: {problems[0]}" if problems else ""
    for number in species or ():
        require(
            any(bird.species == number for bird in birds),
            f"{where} has no usable image of species {number}; {broken}",
        )
    require(bool(birds), f"{where} has no usable image; {broken}")

    kind = np.array([bird.species for bird in birds])
    # Floats, whose products NumPy hands to a fast library; the counts are small and exact.
    visible = np.stack([bird.visible for bird in birds]).astype(np.float32)

    def allowed(start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which images, in columns, may stand beside the images `start` to `stop`, in rows."""
        table = visible[start:stop] @ visible.T > 0
        if pairing != "any":
            table &= (kind[start:stop, None] == kind[None]) == (pairing == "same")
        table[np.arange(stop - start), np.arange(start, stop)] = False
        return table

    ranks = name_ranks([f"{b.path.parent.name}/{b.path.name}" for b in birds], seed=seed)
    total = 0
    # Rank, row and column of the pairs drawn so far.
    lowest = np.zeros((3, 0), np.uint64)
    for start in range(0, len(birds), _BLOCK):
        table = allowed(start, min(start + _BLOCK, len(birds)))
        rows, columns = np.nonzero(table)
        total += len(rows)
        found = pair_ranks(ranks[rows + start], ranks[columns])
        if len(found) > pairs:
            part = np.argpartition(found, pairs)[:pairs]
            found, rows, columns = found[part], rows[part], columns[part]
        block = np.stack([found, (rows + start).astype(np.uint64), columns.astype(np.uint64)])
        lowest = np.concatenate([lowest, block], axis=1)
        lowest = lowest[:, np.argsort(lowest[0], kind="stable")[:pairs]]
    among = f" of species {', '.join(map(str, species))}" if species else ""
    require(
        total >= pairs,
        f"{where} has only {total} {_PAIRINGS[pairing]}{among}: ask for no more than that, not"
        f" {pairs}",
    )
    drawn: list[AnnotatedPair] = []
    for row, column in lowest[1:].T.astype(int).tolist():
        source, target = birds[row], birds[column]
        common = source.visible & target.visible
        same = source.species == target.species
        drawn.append(
            AnnotatedPair(
                source.path,
                target.path,
                source.points[common],
                target.points[common],
                source.box,
                target.box,
                source.path.parent.name if same else "cross-species",
            )
        )
    return drawn


def _read_item(
    item: Any, folder: Path, *, parts: int, species: Collection[int] | None
) -> _Bird | None:
    """One item of an index; None if it belongs to another species."""
    number = value_field(item, "species")
    require(isinstance(number, int), f"'species' must be a number, got {number!r}")
    if species is not None and number not in species:
        return None
    points = points_field(item, "kps")
    flags = value_field(item, "vis")
    require(
        len(points) == parts
        and isinstance(flags, list)
        and len(flags) == parts
        and all(flag in (0, 1) for flag in flags),
        f"'kps' and 'vis' must have one entry for each of the {parts} parts, 'vis' 0 or 1",
    )
    path = image_file(folder, text_field(item, "file"))
    image_size(path)  # a broken image makes room for another pair
    return _Bird(
        path=path,
        species=number,
        points=points,
        visible=np.array(flags, dtype=bool),
        box=box_field(item, "box"),
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


def _image_names(path: Path, problems: list[str]) -> dict[int, str]:
    """Image number: file name, from lines `number name`."""
    names: dict[int, str] = {}
    for line in read_lines(path):
        number, _, name = line.partition(" ")
        if _is_number(number) and name:
            names[int(number)] = name.strip()
        else:
            problems.append(f"{path}: expected lines 'number name', got '{line}'")
    return names


def _table(path: Path, width: int, problems: list[str]) -> dict[int, list[list[float]]]:
    """Image number: its rows of `width` numbers, from lines that begin with the image number."""
    table: dict[int, list[list[float]]] = {}
    for line in read_lines(path):
        number, *rest = line.split()
        values = _floats(rest)
        if _is_number(number) and len(values) == width:
            table.setdefault(int(number), []).append(values)
        else:
            problems.append(
                f"{path}: expected lines of an image number and {width} numbers, got '{line}'"
            )
    return table


def _is_number(word: str) -> bool:
    """Whether a word numbers an image."""
    return word.isdecimal() and len(word) < 10


def _floats(words: Sequence[str]) -> list[float]:
    """Finite numbers; an empty list if a word is something else."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def _only(table: dict[int, list[list[float]]], number: int, name: str) -> list[float]:
    rows = table.get(number, [])
    require(len(rows) == 1, f"expected one line in {name}, got {len(rows)}")
    return rows[0]


def _part_points(rows: list[list[float]], parts: int) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Points float32 (parts, 2) and visibility bool (parts,) from rows (part, x, y, visible)."""
    require(
        sorted(row[0] for row in rows) == list(range(1, parts + 1)),
        f"expected one line in parts/part_locs.txt for each of the {parts} parts, got {len(rows)}",
    )
    ordered = np.array(sorted(rows), dtype=np.float64)
    require(
        set(ordered[:, 3].tolist()) <= {0.0, 1.0},
        "'visible' in parts/part_locs.txt must be 0 or 1",
    )
    return float32(ordered[:, 1:3]), ordered[:, 3] == 1
