"""The nearest pixel of a mask, for every pixel."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["distance_to", "nearest_set"]

_FAR = 2**20  # rows away: more than any image has
_BLOCK = 2**27  # comparisons that are there at once


def nearest_set(mask: Tensor) -> Tensor:
    """int64 (H, W): row-major index of the set pixel nearest to every pixel; the mask's not empty.

    Exact on a GPU; on a CPU to a few percent of the distance, and sooner.

    Args:
        mask: bool (H, W).
    """
    if mask.device.type != "cpu":
        return _separably(mask)[0]
    import cv2

    # Distances are to the nearest zero; every zero gets a label of its own.
    _, label = cv2.distanceTransformWithLabels(
        (~mask).numpy().astype("uint8"),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    labels = torch.from_numpy(label).long()
    site = labels.new_zeros(int(labels.max()) + 1)
    site[labels[mask]] = torch.nonzero(mask.flatten())[:, 0]
    return site[labels]


def distance_to(mask: Tensor) -> Tensor:
    """float32 (H, W): distance of every pixel to the nearest set one, in pixels, as `nearest_set`;
    far more than any image is wide where none is set.

    Args:
        mask: bool (H, W).
    """
    if mask.device.type != "cpu":
        return _separably(mask)[1].float().sqrt()
    import cv2

    return torch.from_numpy(
        cv2.distanceTransform((~mask).numpy().astype("uint8"), cv2.DIST_L2, cv2.DIST_MASK_5)
    )


def _separably(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest set pixel and the square of its distance, both int64 (H, W).

    The nearest in each column first, then the best of all columns: of two that are equally near the
    one farther left, and in a column the upper one.

    Source: Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, 2012, with all
    columns compared instead of their lower envelope.
    """
    height, width = mask.shape
    row = torch.arange(height, device=mask.device)[:, None]
    column = torch.arange(width, device=mask.device)
    above = torch.where(mask, row, -_FAR).cummax(dim=0).values
    below = torch.where(mask, row, height + _FAR).flip(0).cummin(dim=0).values.flip(0)
    nearest = torch.where(row - above <= below - row, above, below)
    apart = (row - nearest) ** 2
    beside = (column[:, None] - column) ** 2 * width + column  # a column's number breaks ties
    best = torch.cat(
        [
            (part[:, None] * width + beside).amin(dim=-1)
            for part in apart.split(max(1, _BLOCK // width**2))
        ]
    )
    home = best % width
    return torch.gather(nearest, 1, home) * width + home, best // width
