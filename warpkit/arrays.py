"""What the arrays that go round are called. All are (H, W), pictures with three channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Image", "Labels", "Mask", "mask_box"]

Image = npt.NDArray[np.uint8]
"""Pixels in sRGB, uint8 (H, W, 3)."""

Labels = npt.NDArray[np.uint8]
"""Object ids, uint8 (H, W); 0 is the background."""

Mask = npt.NDArray[np.bool_]
"""Which pixels, bool (H, W)."""


def mask_box(mask: Mask) -> tuple[float, float, float, float]:
    """The box `(x1, y1, x2, y2)` of the pixel centres of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])
