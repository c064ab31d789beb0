"""What the arrays that go round are called. All are (H, W), pictures with three channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Image", "Labels", "Mask"]

Image = npt.NDArray[np.uint8]
"""Pixels in sRGB, uint8 (H, W, 3)."""

Labels = npt.NDArray[np.uint8]
"""Object ids, uint8 (H, W); 0 is the background."""

Mask = npt.NDArray[np.bool_]
"""Which pixels, bool (H, W)."""
