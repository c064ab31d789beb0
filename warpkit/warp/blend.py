"""Blending: a warped image laid over the target it was warped to.

In: two RGB images and the mask of valid pixels. Out: an RGB image, equal to the target bit for bit
outside the mask, or, where the object's outline is given, beyond its rim.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from warpkit.arrays import Image, Mask
from warpkit.checks import check_image, check_mask, check_same_size, one_of, require
from warpkit.warp.rim import swapped_rim

__all__ = ["BlendMode", "blend", "lay_over"]

BlendMode = Literal["paste", "feather", "poisson"]


def blend(
    target: Image,
    warped: Image,
    valid: Mask,
    *,
    mode: BlendMode = "paste",
    feather_width: float = 8.0,
    outline: Mask | None = None,
) -> Image:
    """Lay the warped image over the target.

    Pixels outside `valid` are those of the target, bit for bit; of a feathered object with an
    `outline`, those more than 2 pixels outside it.

    Args:
        target: uint8 (H, W, 3), RGB.
        warped: uint8 (H, W, 3), RGB; only read where `valid`.
        valid: bool (H, W); may be empty.
        mode: `paste` replaces; `feather` fades in over `feather_width` from the edge of `valid`
            inwards (neither the image border nor the outline is an edge); `poisson` keeps the
            warped gradients and the target's colours at the edge. Parts too small or thin for the
            Poisson solver, which gives the outermost 3 pixels to the target, are pasted.
        feather_width: pixels.
        outline: bool (H, W), the target's object, which `valid` lies in. With `feather` it does not
            shine through at its edge, nor in the pixels beside it, which its colours are mixed
            into; `poisson` takes its colours there.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: for an unknown mode, sizes that disagree, or a negative `feather_width`.

    Source: `poisson` is Pérez et al., Poisson Image Editing, SIGGRAPH 2003.
    """
    target, warped = check_image(target, "target"), check_image(warped, "warped")
    check_same_size(target, warped, "target", "warped")
    size = {"height": target.shape[0], "width": target.shape[1], "allow_empty": True}
    valid = check_mask(valid, **size, name="valid")
    if outline is not None:
        outline = check_mask(outline, **size, name="outline")
        require(not (valid & ~outline).any(), "valid reaches beyond the outline: cut it off there")
    return lay_over(target, warped, valid, mode=mode, feather_width=feather_width, outline=outline)


def lay_over(
    target: Image,
    warped: Image,
    valid: Mask,
    *,
    mode: BlendMode,
    feather_width: float,
    outline: Mask | None = None,
    alpha: Image | None = None,
) -> Image:
    """`blend` of arrays that are known to fit, both of 8 or both of 16 bits.

    Args:
        alpha: (H, W) of a target with transparency, whose soft edge takes the warped colours.
    """
    one_of(mode, ["paste", "feather", "poisson"], "blend mode")
    require(feather_width >= 0, f"feather_width must not be negative, got {feather_width:g}")
    if not valid.any():
        return target.copy()
    within = np.ones_like(valid) if outline is None else outline
    if mode == "feather":
        warped = _faded(target, warped, valid, within, feather_width)
        target = swapped_rim(target, within, warped, valid, alpha=alpha)
    elif mode == "poisson":
        warped = _cloned(target, warped, valid)
    return np.where(valid[..., None], warped, target)


def _faded(target: Image, warped: Image, valid: Mask, within: Mask, width: float) -> Image:
    """A mix of both whose share of `warped` grows linearly with the distance from the edge."""
    import cv2

    beside = (valid | ~within).astype(np.uint8)  # the object goes on where this is 0
    distance = cv2.distanceTransform(beside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Pixels at distance 1 are the first inside; those beyond `width` are warped alone.
    share = (distance / (width + 1)).clip(0, 1)[..., None]
    return np.floor(share * warped + (1 - share) * target + 0.5).astype(target.dtype)


def _cloned(target: Image, warped: Image, valid: Mask) -> Image:
    """`warped` with every connected part of `valid` cloned into the target where possible."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        valid.astype(np.uint8), connectivity=8
    )
    out = np.where(valid[..., None], warped, target)
    # The solver takes 8 bits; what it changes is added to 16.
    deep = target.dtype == np.uint16
    ground, laid = (
        (image >> 8).astype(np.uint8) if deep else image for image in (target, out.copy())
    )
    for label in range(1, count):  # label 0 is what is not valid
        x, y, width, height = (int(stats[label, what]) for what in range(4))
        box = (slice(y, y + height), slice(x, x + width))
        part = labels[box] == label
        if _solvable(part):
            cloned = _clone_part(ground, laid, part, x, y)[part].astype(np.int32)
            if deep:
                cloned = 257 * (cloned - laid[box][part]) + out[box][part]
            out[box][part] = cloned.clip(0, np.iinfo(out.dtype).max)
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
