"""Followed points, drawn onto a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import check_image, require, usable_array
from warpkit.viz.palette import OBJECT_COLORS

__all__ = ["draw_points"]


def draw_points(
    image: Image, xy: npt.NDArray[np.floating[Any]], visible: npt.NDArray[np.bool_]
) -> Image:
    """Dots where points are seen, small rings where they are not.

    Args:
        image: uint8 RGB (H, W, 3).
        xy: (N, 2), pixels.
        visible: bool (N,).

    Returns:
        uint8 RGB (H, W, 3); a point keeps its colour from frame to frame.
    """
    import cv2

    image = check_image(image)
    xy, visible = usable_array(xy), usable_array(visible)
    require(
        xy.ndim == 2 and xy.shape[1] == 2 and visible.shape == (len(xy),),
        f"points must be (N, 2) and visibility (N,), got {xy.shape} and {visible.shape}",
    )
    out = image.copy()
    radius = max(2, round(min(image.shape[:2]) / 90))
    bits = 4  # of a pixel's fraction
    for number, ((x, y), seen) in enumerate(zip(xy, visible, strict=True)):
        colour = tuple(int(c) for c in OBJECT_COLORS[number % len(OBJECT_COLORS)])
        place = (round(float(x) * 2**bits), round(float(y) * 2**bits))
        if seen:
            dot, rim = radius << bits, (radius + 1) << bits
            cv2.circle(out, place, rim, (20, 20, 20), -1, cv2.LINE_AA, bits)
            cv2.circle(out, place, dot, colour, -1, cv2.LINE_AA, bits)
        else:
            cv2.circle(out, place, radius << bits, colour, 1, cv2.LINE_AA, bits)
    return out
