"""Whether the values of a mask are objects, or what painting and saving left of them.

In: an image (H, W) of values. Blended edges, dither, photographs: what is none is for
`warpkit.io.masks` to refuse.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["block_values", "has_rims", "is_dithered", "is_photograph", "looks_blended"]

_BLOCK = 5  # pixels; a value that fills a block of this side is an object, not an edge
_BAND = 0.08  # of the short side: the most width of one step of a wide blur
_OFF_LINE = 6.0  # levels that rounding and quantising move a blend of two colours aside
_NEAREST = 6  # neighbours of a step that its blend is looked for among
_RIM_SIDE, _BAND_SIDE = 0.25, 0.4  # of a step's border, against each of the sides it blends
_MIXED = 0.4  # of the neighbours in objects: so many of two objects are a chequered pattern
_FEW = 24  # pixels; so small an object may lie in pieces
_FLAT_SHARE = 0.5  # of the pixels: fewer of one colour with those beside and below is no drawing
_DRAWING = 64  # colours a drawing of objects may have


def block_values(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values that fill at least one block of 5 x 5 pixels."""
    height, width = (length - _BLOCK + 1 for length in values.shape)
    if min(height, width) < 1:
        return values[:0, 0]
    corner = values[:height, :width]
    filled = np.ones((height, width), bool)
    for y in range(_BLOCK):
        for x in range(_BLOCK):
            filled &= values[y : y + height, x : x + width] == corner
    return np.unique(corner[filled])


def looks_blended(values: npt.NDArray[Any], objects: npt.NDArray[Any]) -> bool:
    """Whether most objects of an image (H, W) of values are thin rims beside solid ones."""
    solid = int(np.isin(objects, block_values(values)).sum())
    return solid > 0 and len(objects) - solid > 2 * solid


def is_dithered(values: npt.NDArray[Any]) -> bool:
    """Whether objects (all values but 0) are single pixels between others, or mixed pixel by pixel.

    Colours that a palette lacks are made of such pixels of two that it has.
    """
    padded = np.pad(values.astype(np.int64), 1, constant_values=-1)
    unlike = np.zeros(values.shape, np.uint8)
    mixed = within = 0
    for around in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        unlike += around != values
        both = (values != 0) & (around > 0)
        within += int(np.count_nonzero(both))
        mixed += int(np.count_nonzero(both & (around != values)))
    # In a line one pixel wide two of four neighbours are of another value.
    found, counts = np.unique(values[(unlike >= 3) & (values != 0)], return_counts=True)
    return (mixed > _FEW and mixed > _MIXED * within) or any(
        count > _FEW and 2 * count > np.count_nonzero(values == value)
        for value, count in zip(found, counts, strict=True)
    )


def _borders(index: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """How many neighbours two values have, int (count, count), 0 for one value with itself."""
    beside = np.zeros(count * count, np.int64)
    for one, other in ((index[1:], index[:-1]), (index[:, 1:], index[:, :-1])):
        pairs = one.astype(np.int64) * count + other
        beside += np.bincount(pairs.ravel(), minlength=count * count)
    border = beside.reshape(count, count)
    border = border + border.T
    np.fill_diagonal(border, 0)
    return border


def has_rims(index: npt.NDArray[Any], colours: npt.NDArray[Any]) -> bool:
    """Whether colours are the steps of a soft edge between two others.

    Such a step has a colour between those on its two sides, and much of its border against each.
    It is thin: it fills no block of 5 x 5 pixels, as two others do, or is a band narrow against the
    image.

    Args:
        index: int (H, W), rows of `colours`.
        colours: (N, C), at most 256 of them, 0 to 255.
    """
    solid = np.isin(np.arange(len(colours)), block_values(index))
    if solid.sum() < 2:
        return False
    border = _borders(index, len(colours))
    whole = border.sum(axis=1)
    narrow = 2 * np.bincount(index.ravel(), minlength=len(colours)) <= (
        _BAND * min(index.shape) * whole
    )
    least = np.maximum(1, np.where(solid, _BAND_SIDE, _RIM_SIDE) * whole)
    table = colours.astype(np.float64)
    for step in np.nonzero(~solid | narrow)[0]:
        beside = np.argsort(-border[step])[:_NEAREST]
        for first, second in itertools.combinations(beside[border[step, beside] > 0], 2):
            along = table[second] - table[first]
            place = (table - table[first]) @ along / max(1.0, along @ along)
            aside = np.linalg.norm(table - table[first] - place[:, None] * along, axis=1)
            on_line = aside <= _OFF_LINE
            if not (on_line[step] and 0 < place[step] < 1):
                continue
            sides = (on_line & (place < place[step]), on_line & (place > place[step]))
            if min(border[step, side].sum() for side in sides) >= least[step]:
                return True
    return False


def is_photograph(rgb: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> bool:
    """Whether the pixels of an image (H, W, 3) at `where` (H, W) are no drawing of flat colours."""
    if len(np.unique(rgb[where], axis=0)) <= _DRAWING:
        return False
    flat = (rgb[1:, 1:] == rgb[:-1, 1:]).all(-1) & (rgb[1:, 1:] == rgb[1:, :-1]).all(-1)
    inside = where[1:, 1:]
    return float(flat[inside].sum()) < _FLAT_SHARE * max(1, int(inside.sum()))
