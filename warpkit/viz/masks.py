"""Object masks and transparency, painted onto images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import check_image, check_same_size, require, usable_array
from warpkit.viz.palette import object_colors

__all__ = ["checkerboard", "over_checkerboard", "overlay_labels"]


def overlay_labels(
    image: Image, labels: npt.NDArray[np.integer[Any]], *, alpha: float = 0.45
) -> Image:
    """Tint every object with its colour and outline it.

    Args:
        image: uint8 RGB (H, W, 3).
        labels: object ids (H, W), 0 = background; a bool mask is one object.
        alpha: strength of the tint, 0 (outline only) to 1.

    Returns:
        uint8 RGB (H, W, 3). The outline is the full colour inside the object and white around it.
    """
    image, labels = check_image(image), usable_array(labels)
    require(
        isinstance(labels, np.ndarray) and labels.ndim == 2,
        "labels must be an array (height, width) of object ids",
    )
    check_same_size(labels, image, "labels", "the image")
    require(0 <= alpha <= 1, f"alpha must lie in 0..1, got {alpha}")
    ids = labels.astype(np.int64)
    colors = object_colors(ids)
    inside = ids > 0
    out = image.copy()
    tinted = (1 - alpha) * image[inside] + alpha * colors[inside]
    out[inside] = np.rint(tinted).astype(np.uint8)

    width = max(1, round(min(image.shape[:2]) / 300))
    rim, halo = _contour(ids, width)
    out[halo] = 255
    out[rim] = colors[rim]
    return out


def _contour(
    ids: npt.NDArray[np.int64], width: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Object pixels within `width` of another id, and background pixels as near to an object."""
    import cv2

    # The ids are ranked so that any fit into a byte of grey-value morphology.
    unique, ranks = np.unique(ids, return_inverse=True)
    require(len(unique) <= 256, f"labels hold {len(unique)} ids: at most 256 can be drawn")
    grey = ranks.reshape(ids.shape).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    changes = cv2.dilate(grey, cross, iterations=width) != cv2.erode(grey, cross, iterations=width)
    return changes & (ids > 0), changes & (ids == 0)


def checkerboard(*, height: int, width: int, square: int = 8) -> Image:
    """A light-grey checkerboard (height, width, 3), the usual sign of transparency."""
    rows, columns = np.arange(height) // square, np.arange(width) // square
    odd = (rows[:, None] + columns[None]) % 2 == 1
    return np.repeat(np.where(odd, 204, 250).astype(np.uint8)[..., None], 3, axis=2)


def over_checkerboard(rgba: Image, *, square: int = 8) -> Image:
    """An RGBA image (H, W, 4), straight alpha, laid over a checkerboard: RGB (H, W, 3)."""
    rgba = usable_array(rgba)
    require(
        isinstance(rgba, np.ndarray)
        and rgba.dtype == np.uint8
        and rgba.ndim == 3
        and rgba.shape[2] == 4,
        "expected a uint8 RGBA array (height, width, 4), got"
        f" {getattr(rgba, 'dtype', type(rgba).__name__)} {getattr(rgba, 'shape', '')}",
    )
    board = checkerboard(height=rgba.shape[0], width=rgba.shape[1], square=square)
    opacity = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * opacity + board * (1 - opacity)).astype(np.uint8)
