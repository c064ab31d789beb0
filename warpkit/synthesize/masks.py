"""Objects found by clusters of descriptors, refined by GrabCut, without a segmentation model.

In: an image and its descriptors. Out: bool (H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.arrays import Image, Mask
from warpkit.coords import pixel_grid, pixel_to_grid, sample_bilinear
from warpkit.image.grabcut import largest_piece, refine_mask
from warpkit.types import DescriptorMap

__all__ = [
    "cells_at_pixels",
    "cluster_cells",
    "find_mask",
    "foreground_cells",
]

_ROUNDS = 20  # of k-means


def find_mask(
    image: Image, descriptors: DescriptorMap, *, clusters: int = 6, iterations: int = 4
) -> Mask:
    """The object in the middle of an image, as far as descriptors tell it from what is around.

    Args:
        image: uint8 RGB (H, W, 3).
        descriptors: of that image.
        clusters: groups of descriptors.
        iterations: of GrabCut; 0 leaves the clusters' own outline.

    Returns:
        bool (H, W), the largest connected piece with holes filled; empty where there is none.
    """
    labels = cluster_cells(descriptors.data, clusters)
    cells = foreground_cells(labels)
    coarse = largest_piece((cells_at_pixels(cells.float(), descriptors) > 0.5).numpy())
    if iterations == 0 or not coarse.any() or coarse.all():
        return coarse
    return refine_mask(image, coarse, iterations=iterations)


def cells_at_pixels(values: Tensor, descriptors: DescriptorMap) -> Tensor:
    """Values of a map's cells, float (h, w) on the CPU, between them at every pixel: (H, W)."""
    x, y = pixel_grid(height=descriptors.height, width=descriptors.width).reshape(-1, 2).unbind(1)
    at = [pixel_to_grid(x, descriptors.cell_width), pixel_to_grid(y, descriptors.cell_height)]
    found = sample_bilinear(values[None], torch.stack(at, dim=1))[:, 0]
    return found.reshape(descriptors.height, descriptors.width)


def cluster_cells(data: Tensor, clusters: int) -> Tensor:
    """Spherical k-means of a map's descriptors.

    The first centre is the cell most like the mean, each further one the cell least like all
    centres so far; nothing is random.

    Args:
        data: float (C, h, w).

    Returns:
        int64 (h, w) on the CPU.

    Source: Dhillon, Modha, Concept decompositions, Machine Learning 2001.
    """
    _, h, w = data.shape
    rows = F.normalize(data.detach().float().cpu().flatten(1).T, dim=1, eps=1e-12)
    start = int((rows @ rows.mean(dim=0)).argmax())
    centres = rows[start : start + 1]
    while len(centres) < min(clusters, len(rows)):
        likeness = (rows @ centres.T).max(dim=1).values
        least = int(likeness.argmin())
        centres = torch.cat([centres, rows[least : least + 1]])
    labels = torch.zeros(len(rows), dtype=torch.long)
    for _ in range(_ROUNDS):
        new = (rows @ centres.T).argmax(dim=1)
        if torch.equal(new, labels):
            break
        labels = new
        sums = torch.zeros_like(centres).index_add_(0, labels, rows)
        empty = ~sums.any(dim=1, keepdim=True)
        centres = torch.where(empty, centres, F.normalize(sums, dim=1, eps=1e-12))
    return labels.reshape(h, w)


def foreground_cells(labels: Tensor) -> Tensor:
    """Which cells belong to clusters of the middle rather than of the border.

    A cluster is foreground if it fills more of the central half of the image than of the frame that
    is a tenth of the image wide.

    Args:
        labels: int64 (h, w).

    Returns:
        bool (h, w).
    """
    h, w = labels.shape
    y = (torch.arange(h) + 0.5) / h
    x = (torch.arange(w) + 0.5) / w
    edge_y, edge_x = torch.minimum(y, 1 - y)[:, None], torch.minimum(x, 1 - x)[None]
    edge = torch.minimum(edge_y, edge_x)
    frame, middle = edge < 0.1, (edge_y > 0.25) & (edge_x > 0.25)
    frame = frame if bool(frame.any()) else edge <= edge.min()
    middle = middle if bool(middle.any()) else edge >= edge.max()
    found = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique().tolist():
        cluster = labels == label
        inside, outside = cluster[middle].float().mean(), cluster[frame].float().mean()
        if inside > outside:
            found |= cluster
    return found
