"""Outlines moved to the edges of an image by GrabCut, and masks in one piece.

In: an image and a rough mask. Out: bool (H, W).
"""

from __future__ import annotations

import numpy as np

from warpkit.arrays import Image, Mask

__all__ = ["largest_piece", "refine_mask"]


_SURE = 0.06  # share of the image's side by which sure regions stay away from the outline


def refine_mask(image: Image, mask: Mask, *, iterations: int = 4) -> Mask:
    """Move a rough outline to the edges of the image, by GrabCut.

    Deep inside the mask is sure to be object, far outside sure to be background; the band between
    is decided by colour.

    Args:
        image: uint8 RGB (H, W, 3).
        mask: bool (H, W), neither empty nor full.

    Returns:
        bool (H, W); `mask` itself where GrabCut leaves nothing.

    Source: Rother, Kolmogorov, Blake, GrabCut, SIGGRAPH 2004.
    """
    import cv2

    band = max(2, round(_SURE * min(mask.shape)))
    square = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    bits = mask.astype(np.uint8)
    sure = cv2.erode(bits, square, borderType=cv2.BORDER_REPLICATE)
    possible = cv2.dilate(bits, square)
    state = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    state[possible > 0] = cv2.GC_PR_BGD
    state[bits > 0] = cv2.GC_PR_FGD
    state[sure > 0] = cv2.GC_FGD
    if not (state == cv2.GC_BGD).any():
        return mask
    # Its colour models start from OpenCV's random numbers.
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(image[..., ::-1])
    no_box = (0, 0, 0, 0)  # the mask says it all
    cv2.grabCut(bgr, state, no_box, *models, iterations, cv2.GC_INIT_WITH_MASK)
    refined = largest_piece((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD))
    return refined if refined.any() else mask


def largest_piece(mask: Mask) -> Mask:
    """The largest connected piece of a mask, with its holes filled."""
    import cv2

    if not mask.any():
        return mask
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    piece = (pieces == largest).astype(np.uint8)
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(piece)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled.astype(bool)
