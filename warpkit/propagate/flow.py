"""Dense optical flow between two frames (OpenCV's DIS)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image

__all__ = ["flow_between", "grey_of"]

Array = npt.NDArray[np.float32]

_LEAST_SIDE = 64  # optical flow needs some room
_FINE_PIXELS = 80_000  # up to here flow is computed at full resolution, above at half


def grey_of(image: Image) -> npt.NDArray[np.uint8]:
    """Grey levels (H, W) of an image (H, W, 3)."""
    import cv2

    grey: npt.NDArray[Any] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey.astype(np.uint8, copy=False)


def flow_between(image: Image, other: Image) -> Array:
    """Displacement of every pixel of an image to its place in the other (DIS): float32 (H, W, 2).

    Args:
        image, other: uint8 (H, W), grey.
    """
    import cv2

    height, width = image.shape
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if height * width <= _FINE_PIXELS:
        flow.setFinestScale(0)
    sides = ((0, max(0, _LEAST_SIDE - height)), (0, max(0, _LEAST_SIDE - width)))
    if sides != ((0, 0), (0, 0)):
        image, other = (np.pad(part, sides, mode="edge") for part in (image, other))
    found: Array = flow.calc(image, other, None)  # type: ignore[call-overload]
    return found[:height, :width]
