"""The last check before pairs are used: images that open, points inside them, no pair twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, counted
from warpkit.datasets.pair import AnnotatedPair, Points, found_pairs
from warpkit.io.images import image_size

__all__ = ["usable_pairs"]

# Data sets that count pixels from 1 put points at x = W, half a pixel outside an image that spans
# [-0.5, W - 0.5]; those are kept.
_SLACK = 1.0


def usable_pairs(pairs: Sequence[AnnotatedPair]) -> tuple[list[AnnotatedPair], list[str]]:
    """Leave out what cannot be scored, and nothing else.

    A pair goes if an image is missing or its header cannot be read, if it has no point left, or if
    an earlier pair has the same images, category and points. A point goes, from both images, if it
    lies outside its image: left or above at all, right or below by more than 1 pixel.

    Returns:
        The pairs in their order, those with all their points as they came; and one line for every
        pair that was left out or lost points.

    Raises:
        InputError: if nothing is left.
    """
    size = cache(_size_or_error)
    kept: list[AnnotatedPair] = []
    problems: list[str] = []
    earlier: dict[tuple[Path, Path, str], list[AnnotatedPair]] = {}
    for pair in pairs:
        name = f"{pair.source_path} -> {pair.target_path} ({pair.category})"
        try:
            sizes = [_known_size(size(path)) for path in (pair.source_path, pair.target_path)]
        except InputError as error:
            problems.append(f"{name}: {error}")
            continue
        inside, first = _points_inside(pair, sizes)
        outside = int((~inside).sum())
        if outside:
            left = "no point is left" if outside == len(pair) else "left out"
            problems.append(
                f"{name}: {counted(outside, 'point')} of {len(pair)} outside the image, the first"
                f" {first}: {left}"
            )
        if outside == len(pair):
            continue
        if outside:
            pair = dataclasses.replace(
                pair,
                source_points=pair.source_points[inside],
                target_points=pair.target_points[inside],
            )
        alike = earlier.setdefault((pair.source_path, pair.target_path, pair.category), [])
        if any(_same_points(pair, other) for other in alike):
            problems.append(f"{name}: the same pair with the same points came before")
            continue
        alike.append(pair)
        kept.append(pair)
    return found_pairs(kept, problems, "these pairs")


def _size_or_error(path: Path) -> tuple[int, int] | InputError:
    """`(height, width)` of an image, or why it cannot be read: a value that a cache can hold."""
    try:
        return image_size(path)
    except InputError as error:
        return error


def _known_size(size: tuple[int, int] | InputError) -> tuple[int, int]:
    if isinstance(size, InputError):
        raise InputError(str(size)) from size
    return size


def _points_inside(
    pair: AnnotatedPair, sizes: Sequence[tuple[int, int]]
) -> tuple[npt.NDArray[np.bool_], str]:
    """Which points lie in both images, bool (N,), and where the first that does not is."""
    inside = np.ones(len(pair), dtype=bool)
    first = ""
    ends: tuple[tuple[str, Points], ...] = (
        ("source", pair.source_points),
        ("target", pair.target_points),
    )
    for (end, points), (height, width) in zip(ends, sizes, strict=True):
        bound = np.array([width, height]) - 0.5 + _SLACK
        # Padding is often -1: there is no slack at the left and upper edge.
        within = ((points >= -0.5) & (points <= bound)).all(axis=1)
        if not first and not within.all():
            row = int(np.argmin(within))
            x, y = points[row].tolist()
            first = f"{end} point {row} at ({x:g}, {y:g}) of {width} x {height} pixels"
        inside &= within
    return inside, first


def _same_points(first: AnnotatedPair, second: AnnotatedPair) -> bool:
    return np.array_equal(first.source_points, second.source_points) and np.array_equal(
        first.target_points, second.target_points
    )
