"""Where a flat part may be in a frame, without a frame before it.

In: an object in the first frame and in another, with descriptors, and its smooth field if there is
one. Out: similarities to begin from.
"""

from __future__ import annotations

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
_FIELD_POINTS = 2000


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
) -> list[Matrix]:
    """Similarities (3, 3) from pixels of the first frame to another's that may hold for a part.

    They come from matches of descriptors, from the smooth field or, without one, a coherent one,
    and from the object turned as a whole.

    Args:
        part: bool (h, w), in the first frame.
        field: float32 (h, w, 2), where the other frame's pixels are in the first one.
    """
    if not first.mask.any() or not other.mask.any():
        return []
    pairs = []
    here = ObjectCells.of(first.descriptors, first.image, part & first.mask)
    cells = match_cells(ObjectCells.of(other.descriptors, other.image, other.mask), here)
    if cells is not None:
        pairs.append(PointPairs(cells.xy, cells.source_xy, 1.5 * cells.cell))
    masks = {"first_mask": first.mask, "mask": other.mask}
    if field is None:
        found = coherent_matches(first.descriptors, other.descriptors, **masks)
        xy, first_xy, error = found.xy, found.source_xy, found.cell
    else:
        places = pixel_grid(height=other.mask.shape[0], width=other.mask.shape[1]).numpy()
        xy, first_xy, error = places[other.mask], field[other.mask], _FIELD_ERROR
    at = np.rint(first_xy).astype(int).clip(0, np.array(part.shape[::-1]) - 1)
    chosen = np.flatnonzero(part[at[:, 1], at[:, 0]])
    chosen = chosen[:: max(1, len(chosen) // _FIELD_POINTS)]
    pairs.append(PointPairs(first_xy[chosen], xy[chosen], error))
    x1, y1, x2, y2 = mask_box(other.mask)
    corners = np.array([[[x1, y1], [x2 + 1, y1], [x2 + 1, y2 + 1], [x1, y2 + 1]]], np.float32)
    pairs += [PointPairs(turned[0], corners[0], 1.0) for turned in turned_fields(corners, **masks)]
    maps = [one.map() for one in pairs]
    return [found for found in maps if found is not None]
