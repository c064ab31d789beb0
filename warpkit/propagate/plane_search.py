"""Where a flat part may be in a frame, without a frame before it.

In: an object in the first frame and in another, with descriptors, and its smooth field if there is
one. Out: similarities to begin from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image, Mask, mask_box
from warpkit.coords import pixel_grid
from warpkit.propagate.cell_matches import ObjectCells, match_cells
from warpkit.propagate.coherent_matches import coherent_matches
from warpkit.propagate.plane_alignment import Matrix
from warpkit.propagate.plane_tracking import PointPairs
from warpkit.propagate.poses import turned_fields
from warpkit.types import DescriptorMap

__all__ = ["SeenObject", "suggested_maps"]

Array = npt.NDArray[np.float32]

_FIELD_ERROR = 3.0  # pixels
_MOST_PAIRS = 2000


@dataclass(frozen=True, eq=False)
class SeenObject:
    """An object in a frame.

    Attributes:
        image: uint8 RGB (h, w, 3).
        mask: bool (h, w).
        descriptors: over its pixels.
    """

    image: Image
    mask: Mask
    descriptors: DescriptorMap


def suggested_maps(
    first: SeenObject, other: SeenObject, part: Mask, field: Array | None
) -> Iterator[list[Matrix]]:
    """Similarities (3, 3) from pixels of the first frame to another's that may hold for a part.

    In turn those from the smooth field, if there is one; from matches of descriptors; those of the
    object turned as a whole; and, without a smooth field, from a coherent one.

    Args:
        part: bool (h, w), in the first frame.
        field: float32 (h, w, 2), where the other frame's pixels are in the first one.
    """
    if not first.mask.any() or not other.mask.any():
        return
    if field is not None:
        places = pixel_grid(height=other.mask.shape[0], width=other.mask.shape[1]).numpy()
        xy, first_xy = places[other.mask], field[other.mask]
        yield _maps(_on_part(PointPairs(first_xy, xy, _FIELD_ERROR), part))
    here = ObjectCells.of(first.descriptors, first.image, part & first.mask)
    cells = match_cells(ObjectCells.of(other.descriptors, other.image, other.mask), here)
    if cells is not None:
        yield _maps(PointPairs(cells.xy, cells.source_xy, 1.5 * cells.cell))
    masks = {"first_mask": first.mask, "mask": other.mask}
    x1, y1, x2, y2 = mask_box(other.mask)
    corners = np.array([[[x1, y1], [x2 + 1, y1], [x2 + 1, y2 + 1], [x1, y2 + 1]]], np.float32)
    turned = turned_fields(corners, **masks)
    yield _maps(*(PointPairs(places[0], corners[0], 1.0) for places in turned))
    if field is None:
        found = coherent_matches(first.descriptors, other.descriptors, **masks)
        yield _maps(_on_part(PointPairs(found.source_xy, found.xy, found.cell), part))


def _on_part(pairs: PointPairs, part: Mask) -> PointPairs:
    """Those of the pairs that lie on a part of the first frame, some of many."""
    x, y = np.rint(pairs.first_xy).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < part.shape[1]) & (y < part.shape[0])
    chosen = np.flatnonzero(inside)
    chosen = chosen[part[y[inside], x[inside]]]
    chosen = chosen[:: max(1, len(chosen) // _MOST_PAIRS)]
    return PointPairs(pairs.first_xy[chosen], pairs.xy[chosen], pairs.error)


def _maps(*pairs: PointPairs) -> list[Matrix]:
    return [found for found in (one.map() for one in pairs) if found is not None]
