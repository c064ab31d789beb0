"""Log-spaced spatial bins: each descriptor with the context around it.

Source: Amir et al., Deep ViT Features as Dense Visual Descriptors (2021), section 3.2.
Bins near the cell are fine, those farther away coarser: level k averages 3^k x 3^k cells, 3^k
cells away.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import require

__all__ = ["bin_count", "log_bins"]


def bin_count(levels: int) -> int:
    """Bins of a descriptor: the cell itself and eight around it on every level."""
    return 1 + 8 * levels


def log_bins(maps: Tensor, levels: int) -> Tensor:
    """Descriptors with their surroundings.

    Args:
        maps: (B, C, h, w).
        levels: 2 is the source's.

    Returns:
        (B, C * (1 + 8 * levels), h, w): the cell, then its surroundings level by level, row by
        row. Outside the map the nearest cell of the border counts; averages are over cells inside.
    """
    require(levels >= 1, f"log-spaced bins need at least one level, got {levels}")
    height, width = maps.shape[-2:]
    rows, columns = torch.arange(height), torch.arange(width)
    bins = [maps]
    for level in range(levels):
        reach = 3**level
        mean = F.avg_pool2d(maps, reach, stride=1, padding=reach // 2, count_include_pad=False)
        for dy in (-reach, 0, reach):
            for dx in (-reach, 0, reach):
                if dy == 0 and dx == 0:
                    continue
                shifted = mean[:, :, (rows + dy).clamp(0, height - 1)]
                bins.append(shifted[:, :, :, (columns + dx).clamp(0, width - 1)])
    return torch.cat(bins, dim=1)
