"""An object turned and resized as a whole: guesses that need no descriptors.

In: masks of the object in both frames. Out: fields. Descriptors of a network know an object upright
and at its size; one that comes back on its head is found by its outline and colours instead.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Mask

__all__ = ["turned_fields"]

Array = npt.NDArray[np.float32]

_TURNS = 24  # angles all around: flow corrects half of what lies between two


def turned_fields(places: Array, *, first_mask: Mask, mask: Mask) -> list[Array]:
    """Fields that lay the first frame's mask, turned, over another with the same centre and area.

    Args:
        places: float32 (h, w, 2), pixels (x, y) at which to say the fields.
        first_mask: bool (H, W), the object in the first frame, not empty.
        mask: bool (H, W), the object in the frame, not empty.

    Returns:
        Fields float32 (h, w, 2) in pixels of the first frame, one per angle, that of no turn first.
    """
    (there, area), (here, now) = (_centre_and_area(part) for part in (first_mask, mask))
    scale = math.sqrt(area / now)
    fields = []
    for turn in range(_TURNS):
        angle = 2 * math.pi * turn / _TURNS
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        linear = np.array([[c, -s], [s, c]])
        fields.append(((places - here) @ linear.T + there).astype(np.float32))
    return fields


def _centre_and_area(mask: Mask) -> tuple[npt.NDArray[np.float64], int]:
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean()]), len(x)
