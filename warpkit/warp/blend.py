"""Blending: a warped image laid over the target it was warped to.

In: two uint8 RGB images and the mask of valid pixels. Out: a uint8 RGB image, equal to the target
bit for bit outside the mask.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from warpkit.arrays import Image, Mask
from warpkit.checks import check_image, check_mask, check_same_size, one_of, require

__all__ = ["BlendMode", "blend"]

BlendMode = Literal["paste", "feather", "poisson"]


def blend(
    target: Image,
    warped: Image,
    valid: Mask,
    *,
    mode: BlendMode = "paste",
    feather_width: float = 8.0,
) -> Image:
    """Lay the warped image over the target.

    Pixels outside `valid` are those of the target, bit for bit, in every mode.

    Args:
        target: uint8 (H, W, 3), RGB.
        warped: uint8 (H, W, 3), RGB; only read where `valid`.
        valid: bool (H, W); may be empty.
        mode: `paste` replaces; `feather` fades in over `feather_width` from the edge of `valid`
            inwards (the image border is no edge); `poisson` keeps the warped gradients and the
            target's colours at the edge. Parts too small or thin for the Poisson solver, which
            gives the outermost 3 pixels to the target, are pasted.
        feather_width: pixels.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: for an unknown mode, sizes that disagree, or a negative `feather_width`.

    Source: `poisson` is Pérez et al., Poisson Image Editing, SIGGRAPH 2003.
    """
    target, warped = check_image(target, "target"), check_image(warped, "warped")
    check_same_size(target, warped, "target", "warped")
    valid = check_mask(
        valid, height=target.shape[0], width=target.shape[1], name="valid", allow_empty=True
    )
    return lay_over(target, warped, valid, mode=mode, feather_width=feather_width)


def lay_over(
    target: Image, warped: Image, valid: Mask, *, mode: BlendMode, feather_width: float
) -> Image:
    """`blend` of arrays that are known to fit."""
    one_of(mode, ["paste", "feather", "poisson"], "blend mode")
    require(feather_width >= 0, f"feather_width must not be negative, got {feather_width:g}")
    if mode == "feather":
        warped = _faded(target, warped, valid, feather_width)
    elif mode == "poisson":
        warped = _cloned(target, warped, valid)
    return np.where(valid[..., None], warped, target)


def _faded(target: Image, warped: Image, valid: Mask, width: float) -> Image:
    """A mix of both whose share of `warped` grows linearly with the distance from the edge."""
    import cv2

    distance = cv2.distanceTransform(valid.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Pixels at distance 1 are the first inside; those beyond `width` are warped alone.
    share = (distance / (width + 1)).clip(0, 1)[..., None]
    return np.floor(share * warped + (1 - share) * target + 0.5).astype(np.uint8)


def _cloned(target: Image, warped: Image, valid: Mask) -> Image:
    """`warped` with every connected part of `valid` cloned into the target where possible."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        valid.astype(np.uint8), connectivity=8
    )
    out = np.where(valid[..., None], warped, target)
    for label in range(1, count):  # label 0 is what is not valid
        x, y, width, height = (int(stats[label, what]) for what in range(4))
        box = (slice(y, y + height), slice(x, x + width))
        part = labels[box] == label
        if _solvable(part):
            cloned = _clone_part(target, out, part, x, y)
            out[box][part] = cloned[part]
    return out


def _solvable(part: Mask) -> bool:
    """Whether `seamlessClone` has anything to solve for a mask that fills its bounding box.

    It keeps the warped gradients only where the mask survives three erosions (the sides of the
    box do not erode), and it needs an inner pixel.
    """
    import cv2

    inner = cv2.erode(part.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=3)
    return min(part.shape) >= 3 and bool(inner.any())


def _clone_part(target: Image, warped: Image, part: Mask, x: int, y: int) -> Image:
    """The bounding box, with its upper left pixel at (x, y), of one part cloned into the target.

    `seamlessClone` ignores the outermost pixels of a mask and puts the bounding box's left edge at
    `centre - width // 2`: both images are cut out with a margin (repeated at the image border),
    and the centre is computed by the same rule.
    """
    import cv2

    height, width = part.shape
    margin = 2
    rows = np.arange(y - margin, y + height + margin).clip(0, target.shape[0] - 1)
    columns = np.arange(x - margin, x + width + margin).clip(0, target.shape[1] - 1)
    cut = np.ix_(rows, columns)
    mask = np.pad(part.astype(np.uint8) * 255, margin)
    centre = (margin + width // 2, margin + height // 2)
    cloned = cv2.seamlessClone(warped[cut], target[cut], mask, centre, cv2.NORMAL_CLONE)
    return np.asarray(cloned[margin:-margin, margin:-margin], dtype=np.uint8)
