"""Labels and colours between image pixels and the grid cells of a descriptor map.

Convention: cell `(u, v)` covers the image area `[u * cell_width, (u + 1) * cell_width)` times the
same in y, measured from the image's top left corner; its centre is where `DescriptorMap` puts it.
Cells may reach over the image's border or stop short of it: only the part on the image counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import require, usable_array
from warpkit.coords import pixel_grid, pixel_to_grid, sample_bilinear
from warpkit.types import DescriptorMap

__all__ = [
    "cell_colours",
    "cell_coverage",
    "check_labels",
    "check_object_ids",
    "finer_grid",
    "one_hot",
    "soft_at_pixels",
]


def check_object_ids(object_ids: Sequence[int]) -> tuple[int, ...]:
    """Object ids: different whole numbers from 1 to 255 (0 is the background).

    Raises:
        InputError: for none, a repeated or an impossible id.
    """
    ids = tuple(int(i) for i in object_ids)
    require(
        len(ids) > 0 and len(set(ids)) == len(ids) and all(0 < i < 256 for i in ids),
        f"object ids must be different numbers from 1 to 255, got {list(ids)}:"
        " is the mask all background?",
    )
    return ids


def check_labels(
    labels: npt.NDArray[np.uint8], object_ids: Sequence[int], *, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """The labels as `usable_array` makes them.

    Raises:
        InputError: unless they are uint8 (height, width) and hold only 0 and `object_ids`.
    """
    labels = usable_array(labels)
    require(
        isinstance(labels, np.ndarray) and labels.dtype == np.uint8 and labels.ndim == 2,
        "labels must be a uint8 array (height, width) of object ids, got"
        f" {getattr(labels, 'dtype', type(labels).__name__)} {getattr(labels, 'shape', '')}",
    )
    require(
        labels.shape == (height, width),
        f"labels are {labels.shape[0]} x {labels.shape[1]} (height x width) but their frame is"
        f" {height} x {width}: give labels of the frame's own size",
    )
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *object_ids})
    require(
        not unknown,
        f"labels hold the ids {unknown}, which are not among the objects {list(object_ids)}",
    )
    return labels


def one_hot(
    labels: npt.NDArray[np.uint8], object_ids: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """One plane per object: float32 (K, H, W), 1 where the object is."""
    planes = np.stack([labels == i for i in object_ids])
    return torch.from_numpy(planes).to(device=device, dtype=torch.float32)


def cell_coverage(planes: Tensor, descriptors: DescriptorMap) -> Tensor:
    """The share of every cell's area on the image that each plane covers.

    Args:
        planes: float (K, H, W) over the image of `descriptors`.

    Returns:
        float (K, h, w); planes that sum to at most 1 per pixel do so per cell.
    """
    rows, columns = descriptors.grid_size
    down = _overlap(rows, descriptors.cell_height, descriptors.height).to(planes)
    across = _overlap(columns, descriptors.cell_width, descriptors.width).to(planes)
    return down @ planes @ across.T


def cell_colours(image: npt.NDArray[np.uint8], descriptors: DescriptorMap) -> Tensor:
    """Mean colour of every cell: float32 (h, w, 3), CIELAB with lightness 100 scaled to 1.

    Args:
        image: uint8 RGB (H, W, 3), the image of `descriptors`.
    """
    import cv2

    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 100
    planes = torch.from_numpy(lab).to(descriptors.data.device).permute(2, 0, 1)
    return cell_coverage(planes, descriptors).permute(1, 2, 0).contiguous()


def finer_grid(descriptors: DescriptorMap, factor: int) -> DescriptorMap:
    """The map read at `factor` x `factor` places in every cell, by its own bilinear rule.

    Returns:
        A map (C, factor * h, factor * w) over the same area; the map itself for a factor of 1.
    """
    if factor == 1:
        return descriptors
    return replace(
        descriptors,
        data=F.interpolate(
            descriptors.data[None].float(),
            scale_factor=factor,
            mode="bilinear",
            align_corners=False,
        )[0],
        cell_height=descriptors.cell_height / factor,
        cell_width=descriptors.cell_width / factor,
    )


def soft_at_pixels(soft: Tensor, descriptors: DescriptorMap) -> Tensor:
    """Values of cells (K, h, w) at every pixel of the image, bilinear: (K, H, W)."""
    height, width = descriptors.height, descriptors.width
    cell = torch.tensor([descriptors.cell_width, descriptors.cell_height], device=soft.device)
    xy = pixel_grid(height=height, width=width, device=soft.device).reshape(-1, 2)
    return sample_bilinear(soft, pixel_to_grid(xy, cell)).T.reshape(-1, height, width)


def _overlap(cells: int, cell: float, pixels: int) -> Tensor:
    """float64 (cells, pixels): the part of each cell's length that lies on each pixel; rows sum
    to 1.
    """
    start = torch.arange(cells, dtype=torch.float64)[:, None] * cell
    pixel = torch.arange(pixels, dtype=torch.float64)[None]
    shared = torch.minimum(start + cell, pixel + 1) - torch.maximum(start, pixel)
    shared = shared.clamp(min=0)
    return shared / shared.sum(dim=1, keepdim=True)
