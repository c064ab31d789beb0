"""Points read from a field: the field says where about, the descriptors around where exactly.

In: descriptors of points, the map they are looked for in, and where a field leads them. Out: the
mean place under both. A field is smooth, so it misses what is small and moves on its own; among
the pixels near its answer the descriptors alone seldom err.
"""

from __future__ import annotations

import torch
from torch import Tensor

from warpkit.coords import grid_to_pixel
from warpkit.match.filters import inside_mask
from warpkit.types import DescriptorMap

__all__ = ["read_points"]

_TEMPERATURE = 0.035  # of the softmax over cosines
_BLOCK = 1024  # points whose cosines with all cells are there at once


def read_points(
    query: Tensor, target: DescriptorMap, places: Tensor, mask: Tensor | None, reach: float
) -> Tensor:
    """The mean cell of the target for every point, weighed by

        exp(cosine / tau - |cell - place|^2 / (2 (reach * side)^2))

    Args:
        query: (N, C), unit descriptors of the points.
        target: the map that they are looked for in.
        places: (N, 2), pixels of the target that a field leads to.
        mask: bool (height, width), the only pixels that are candidates; None for all.
        reach: sigma of the Gaussian around the field's answer, share of the longer side of what is
            matched.

    Returns:
        (N, 2), pixels; the places themselves where the reach is below a cell, or none is a
        candidate.
    """
    side = float(max(target.height, target.width))
    if mask is not None:
        seen = torch.nonzero(mask)
        side = float((seen.amax(dim=0) - seen.amin(dim=0)).max()) + 1
    sigma = reach * side
    cells, centres = _candidates(target, mask)
    if len(cells) == 0 or len(places) == 0 or sigma < max(target.cell_height, target.cell_width):
        return places
    found = []
    for points, near in zip(query.split(_BLOCK), places.split(_BLOCK), strict=True):
        away = (near[:, None] - centres).square().sum(dim=-1)
        share = torch.softmax(points @ cells.T / _TEMPERATURE - away / (2 * sigma**2), dim=1)
        found.append(share @ centres)
    return torch.cat(found)


def _candidates(target: DescriptorMap, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Unit descriptors (M, C) of the cells whose centres are candidates, and those pixels."""
    device = target.data.device
    if mask is None:
        mask = torch.ones(target.height, target.width, dtype=torch.bool, device=device)
    rows, columns = (torch.arange(n, device=device) for n in target.grid_size)
    x, y = grid_to_pixel(columns, target.cell_width), grid_to_pixel(rows, target.cell_height)
    size = (len(rows), len(columns))
    centres = torch.stack([x.expand(size), y[:, None].expand(size)], dim=-1).flatten(0, 1)
    there = inside_mask(mask, centres)
    cells = torch.nn.functional.normalize(target.data.float().flatten(1).T[there], dim=1)
    return cells, centres[there]
