"""The nearest pixel of a mask, for every pixel."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest_set"]


def nearest_set(mask: Tensor) -> Tensor:
    """int64 (H, W): row-major index of the set pixel nearest to every pixel; the mask's not empty.

    Args:
        mask: bool (H, W).
    """
    import cv2

    # Distances are to the nearest zero; every zero gets a label of its own.
    _, label = cv2.distanceTransformWithLabels(
        (~mask).cpu().numpy().astype("uint8"),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    labels = torch.from_numpy(label).long().to(mask.device)
    site = labels.new_zeros(int(labels.max()) + 1)
    site[labels[mask]] = torch.nonzero(mask.flatten())[:, 0]
    return site[labels]
