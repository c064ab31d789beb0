"""A few of many points, well spread."""

from __future__ import annotations

import torch
from torch import Tensor

from warpkit.checks import require

__all__ = ["farthest_points"]


def farthest_points(xy: Tensor, count: int) -> Tensor:
    """Choose points so that each is as far as can be from those chosen before.

    The first is the one nearest to the mean; the lowest index wins a tie. So fewer points are
    always the first of more.

    Args:
        xy: (N, 2), pixels.
        count: how many; all are chosen if there are no more.

    Returns:
        int64 (min(count, N),), rows in the order of their choice.

    Source: Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.
    """
    require(count > 0, f"count must be at least one point, got {count}")
    points = xy.double()
    chosen: list[int] = []
    nearest = torch.full((len(points),), torch.inf, dtype=torch.float64, device=xy.device)
    for number in range(min(count, len(points))):
        if number == 0:
            row = int((points - points.mean(dim=0)).norm(dim=1).argmin())
        else:
            row = int(nearest.argmax())
        chosen.append(row)
        nearest = torch.minimum(nearest, (points - points[row]).norm(dim=1))
    return torch.tensor(chosen, dtype=torch.long, device=xy.device)
