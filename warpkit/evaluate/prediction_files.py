"""Predictions as a file: anybody's can be scored, and ours can be looked at.

A file is a JSON object with `method` (its name) and `pairs`, a list of objects:

    source, target     image files relative to the data set's root, with forward slashes
    category           optional; tells apart two pairs of the same images
    source_points      optional [[x, y], ...]; checked against the data set if given
    predicted_points   [[x, y] or null, ...], pixels of the target image, one per source point;
                       null where there is no match
    seconds            optional, what the pair took
    quality            optional, the figures of the pair's coherent field (`PairQuality`)

Points are pixels as the data set counts them: `write_pair_list` writes the file to fill in.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, counted, float32, is_file, require
from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.field_quality import PairQuality
from warpkit.evaluate.predict import PairPrediction
from warpkit.io.images import image_size
from warpkit.io.text import read_json
from warpkit.io.whole import write_text

__all__ = [
    "plain_points",
    "point_array",
    "read_predictions",
    "relative_name",
    "write_pair_list",
    "write_predictions",
]

# Source points of a file may have been rounded when it was written, not moved.
_SAME = 0.01


def relative_name(path: Path, root: Path) -> str:
    """An image's name in a file of predictions: relative to the root if it lies there."""
    # Not resolved: a link inside the root is that name there, wherever it leads.
    full, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))  # noqa: PTH100
    return (full.relative_to(base) if full.is_relative_to(base) else full).as_posix()


def plain_points(points: npt.NDArray[np.floating[Any]]) -> list[list[float] | None]:
    """Points (N, 2) as JSON holds them: NaN becomes null; as float32 they read back the same."""
    rows = points.astype(np.float32)
    # The shortest decimals that are the same float32.
    return [[float(str(x)), float(str(y))] if np.isfinite([x, y]).all() else None for x, y in rows]


def point_array(items: Any, count: int, what: str) -> npt.NDArray[np.float32]:
    """The float32 (count, 2) points of a JSON list; null becomes NaN.

    Raises:
        InputError: another length, or something that is no point.
    """
    require(
        isinstance(items, list) and len(items) == count,
        f"{what} must be a list of {counted(count, 'point')}, one per source point, got"
        f" {len(items) if isinstance(items, list) else type(items).__name__}",
    )
    try:
        rows = [[np.nan, np.nan] if item is None else item for item in items]
        points = float32(rows).reshape(count, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what} must hold [x, y] or null for every point") from error
    return points


def _entry(pair: AnnotatedPair, root: Path) -> dict[str, Any]:
    return {
        "source": relative_name(pair.source_path, root),
        "target": relative_name(pair.target_path, root),
        "category": pair.category,
        "source_points": plain_points(pair.source_points),
    }


def _write(path: Path, head: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> None:
    """One pair per line, so that the file can be read by people and compared by tools."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    opening = json.dumps(head, ensure_ascii=False)[:-1]
    write_text(path, f'{opening},\n"pairs": [\n{lines}\n]}}\n')


def write_predictions(
    path: Path, method: str, predictions: Iterable[PairPrediction], *, root: Path
) -> None:
    """Write predictions in the form that `read_predictions` reads."""

    def entries() -> Iterable[dict[str, Any]]:
        for prediction in predictions:
            entry = _entry(prediction.pair, root)
            entry["predicted_points"] = plain_points(prediction.predicted)
            if prediction.seconds is not None:
                entry["seconds"] = round(prediction.seconds, 5)
            if prediction.quality is not None:
                entry["quality"] = prediction.quality.to_json()
            yield entry

    _write(path, {"method": method}, entries())


def write_pair_list(path: Path, pairs: Iterable[AnnotatedPair], *, root: Path) -> None:
    """Write the pairs to predict: fill in `method` and every pair's `predicted_points`."""

    def entries() -> Iterable[dict[str, Any]]:
        for pair in pairs:
            yield _entry(pair, root) | {"predicted_points": [None] * len(pair)}

    _write(path, {"method": "name of the method"}, entries())


def read_predictions(
    path: Path, pairs: Sequence[AnnotatedPair], *, root: Path, partial: bool = False
) -> tuple[str, list[PairPrediction], int]:
    """Read the predictions of the given pairs.

    Args:
        path: the file.
        pairs: the data set's.
        root: the folder that image names are relative to.
        partial: leave out pairs without a prediction; else they are an error.

    Returns:
        The method's name, one prediction per pair in their order, and the number of entries of
        the file that belong to none of the pairs.

    Raises:
        InputError: not such a file, a pair without a prediction, or one made for other points.
    """
    require(is_file(path), f"no predictions at {path}")
    content = read_json(path)
    listed: Any = content.get("pairs") if isinstance(content, dict) else None
    require(
        isinstance(listed, list)
        and all(isinstance(entry, dict) for entry in listed)
        and isinstance(content.get("method"), str),
        f"{path} must hold a JSON object with 'method' (text) and 'pairs' (a list of objects):"
        " --write-pairs FILE writes one to fill in",
    )
    waiting: defaultdict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for position, entry in enumerate(listed):
        key: tuple[Any, ...] = (entry.get("source"), entry.get("target"), entry.get("category"))
        require(
            isinstance(key[0], str) and isinstance(key[1], str) and isinstance(key[2], str | None),
            f"{path}: 'source', 'target' and 'category' of pair {position} must be text",
        )
        waiting[_slashed(key)].append(entry)
    predictions = []
    lacking = []
    used = set()
    for pair in pairs:
        ends = (relative_name(pair.source_path, root), relative_name(pair.target_path, root))
        what = f"{ends[0]} -> {ends[1]}"
        for key in map(_slashed, ((*ends, pair.category), (*ends, None))):
            if waiting.get(key):
                used.add(key)
                entry = _take(waiting[key], pair)
                predictions.append(_prediction(entry, pair, f"{path}: {what}"))
                break
        else:
            lacking.append(what)
    twice = [key for key in used if waiting[key]]
    require(
        partial or not twice,
        f"{path} has more predictions than there are pairs for"
        f" {' -> '.join(map(str, twice[0][:2])) if twice else ''}: keep one for each pair",
    )
    require(
        partial or not lacking,
        f"{path} has no prediction for {len(lacking)} of {len(pairs)} pairs, the first:"
        f" {lacking[0] if lacking else ''}; a score over a part would be another score: predict"
        " all (null where there is no match), or score a smaller set",
    )
    return content["method"], predictions, sum(len(queue) for queue in waiting.values())


def _slashed(key: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """A key with paths as other systems write them."""
    return tuple(text and text.replace("\\", "/") for text in key)


def _take(queue: list[dict[str, Any]], pair: AnnotatedPair) -> dict[str, Any]:
    """The entry made for the pair's own points, else the first; it leaves the queue."""
    wanted = plain_points(pair.source_points)
    for position, entry in enumerate(queue):
        if entry.get("source_points") == wanted:
            return queue.pop(position)
    return queue.pop(0)


def _prediction(entry: dict[str, Any], pair: AnnotatedPair, what: str) -> PairPrediction:
    if "source_points" in entry:
        given = point_array(entry["source_points"], len(pair), f"{what}: 'source_points'")
        apart = np.abs(given - pair.source_points).max()
        require(
            bool(apart <= _SAME),
            f"{what}: the prediction was made for other source points ({apart:g} pixels away):"
            " predict again for the data as it is now",
        )
    predicted = point_array(entry.get("predicted_points"), len(pair), f"{what}: 'predicted_points'")
    seconds = entry.get("seconds")
    require(
        seconds is None
        or (isinstance(seconds, int | float) and 0 <= seconds < 1e9 and math.isfinite(seconds)),
        f"{what}: 'seconds' must be a number, got {seconds!r}",
    )
    figures = entry.get("quality")
    quality = None if figures is None else PairQuality.from_json(figures, f"{what}: 'quality'")
    height, width = image_size(pair.target_path)
    return PairPrediction(pair, predicted, height, width, seconds, quality)
