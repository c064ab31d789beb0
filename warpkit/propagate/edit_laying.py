"""How an edit is laid over an object: its light, its border, what it continues.

In: images, masks and fields as arrays. Out: planes of gains, opacities and colours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image, Mask
from warpkit.propagate.object_fields import sample

__all__ = ["TOLERANCE", "continued", "depth_in", "light_gain", "shrunk_sample", "with_any"]

Array = npt.NDArray[np.float32]

TOLERANCE = 0.06  # colour difference at which a pixel beside the mask is no longer the object
_FINEST = 4  # samples of a pixel along each side


def shrunk_sample(layer: Array, xy: Array) -> Array:
    """A layer (H, W, 4) at places (h, w, 2), averaged over a pixel where it is made smaller."""
    import cv2

    (a, b), (c, d) = (np.gradient(xy[..., k])[::-1] for k in (0, 1))
    seen = sample(layer, xy)
    wanted = seen[..., 3] > 0
    step = np.sqrt(np.median(np.abs(a * d - b * c)[wanted])) if wanted.any() else 1.0
    count = int(np.clip(np.rint(step), 1, _FINEST))
    if count == 1:
        return np.asarray(seen, np.float32)
    size = xy.shape[1::-1]
    fine = cv2.resize(xy, (count * size[0], count * size[1]), interpolation=cv2.INTER_LINEAR)
    found = sample(layer, np.asarray(fine, np.float32))
    return np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_AREA), np.float32)


def light_gain(image: Image, before: Image, mask: Mask, error: Array) -> Array:
    """How much brighter, per channel, the object has become around every pixel: (H, W, 3)."""
    import cv2

    weight = (mask / (1 + (error / TOLERANCE) ** 2)).astype(np.float32)
    reach = float(np.sqrt(mask.sum())) / 4 + 1
    size = (0, 0)
    step = max(1, int(reach / 4))
    small = (max(1, mask.shape[1] // step), max(1, mask.shape[0] // step))
    blurred = []
    for part in (image, before):
        product = cv2.resize(part * weight[..., None], small, interpolation=cv2.INTER_AREA)
        wide = cv2.GaussianBlur(product, size, reach / step)
        blurred.append(cv2.resize(wide, mask.shape[::-1]))
    gain: Array = np.clip((blurred[0] + 1e-2) / (blurred[1] + 1e-2), 0.25, 4).astype(np.float32)
    return gain


def with_any(mask: Mask, wanted: Mask) -> Array:
    """0 on parts of the mask, and just around them, on which nothing wanted lies; else 1.

    Speckle of a mask far from the object looks like no place of it.
    """
    import cv2

    count, part = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.zeros(count, bool)
    kept[np.unique(part[wanted & mask])] = True
    if kept[1:].all() or not kept[1:].any():
        return np.ones(mask.shape, np.float32)
    stray = (mask & ~kept[part]).astype(np.uint8)
    stray = cv2.dilate(stray, np.ones((3, 3), np.uint8)) > 0
    keep: Array = (~stray | (mask & kept[part])).astype(np.float32)
    return keep


def depth_in(mask: Mask) -> Array:
    """Distance to the mask's border in pixels, positive inside, negative outside."""
    import cv2

    plane = np.pad(mask, 1, mode="edge").astype(np.uint8)
    # Of a mask of all pixels, OpenCV gives a distance beyond any number to reckon with.
    inside, outside = (
        np.minimum(cv2.distanceTransform(p, cv2.DIST_L2, 5), sum(plane.shape))
        for p in (plane, 1 - plane)
    )
    depth: Array = np.where(plane > 0, inside - 0.5, 0.5 - outside)[1:-1, 1:-1]
    return depth


def continued(values: Array, mask: Mask) -> Array:
    """Values (H, W, C) on the mask; elsewhere those of the nearest pixel of the mask."""
    import cv2

    # Distances are to the nearest zero; every zero gets a label of its own.
    _, label = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixel = np.zeros(int(label.max()) + 1, np.int64)
    pixel[label[mask]] = np.flatnonzero(mask)
    return np.ascontiguousarray(values.reshape(-1, values.shape[2])[pixel[label]])
