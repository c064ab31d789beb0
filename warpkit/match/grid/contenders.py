"""Which pixels of a large image can hold the best match of a few points.

In: two maps and points. Out: `Sites`, the pixels of all cells that a bound does not rule out. The
best pixel among them is the best of the image, at a cost of memory and time near that of the few.

A pixel p lies between four grid nodes j; its descriptor is a sum of their unit descriptors n_j with
weights w_j >= 0. Let u be a unit vector and c_j = <u, n_j>, all positive. Then for any t

    <t, s_p> / |s_p|  <=  sum_j w_j <t, n_j> / sum_j w_j c_j  <=  max_j <t, n_j> / c_j

if that maximum is positive (the mediant inequality), and else it is at most max_j <t, n_j>.
"""

from __future__ import annotations

import torch
from torch import Tensor

from warpkit.coords import bilinear_corners, corner_nodes, sample_descriptors
from warpkit.match.grid.plan import GridNodes
from warpkit.match.matcher import exact_products
from warpkit.types import DescriptorMap, Sites

__all__ = ["contending_pixels"]

_MARGIN = 1e-5  # above every rounding of a score, and above what engines take for a tie
_FIRST = 4  # cells in which a good score is looked for first
_SEEDS = 8  # pixels on each side of such a cell


def contending_pixels(
    query: DescriptorMap, key: DescriptorMap, xy: Tensor, mask: Tensor | None = None
) -> Sites:
    """The pixels of the key image that can be the most similar one to any of a few points.

    Args:
        query: map in which `xy` are read.
        key: map of the image; on the same device.
        xy: float32 (N, 2), pixels of the query image.
        mask: bool (key height, key width), the only candidates, at least one; None for all.

    Returns:
        Pixels of the image (or mask) in row-major order, as `lattice_sites` gives them.
    """
    column, row = (_cells(key, axis=axis) for axis in (0, 1))
    shape = (int(row[-1]) + 1, int(column[-1]) + 1)
    holds = _cells_with_pixels(row, column, shape, mask).flatten()
    rows = sample_descriptors(query, xy)
    bound = _bounds(key, rows, shape).masked_fill(~holds, -torch.inf)
    first = bound.topk(min(_FIRST, len(holds)), dim=1).indices
    seeds = _seeds(row, column, shape, first)
    read = sample_descriptors(key, seeds.flatten(0, 1).float()).unflatten(0, seeds.shape[:2])
    scores = torch.einsum("nc,nsc->ns", rows, read)
    if mask is not None:
        scores = scores.masked_fill(~mask[seeds[..., 1], seeds[..., 0]], -torch.inf)
    # A point without a direction has no best pixel.
    directed = (rows.square().sum(dim=1) > 0.5)[:, None]
    chosen = ((bound >= scores.amax(dim=1, keepdim=True) - _MARGIN) & holds & directed).any(dim=0)
    chosen[first[:, 0]] = True
    pixels = chosen.view(shape)[row][:, column]
    if mask is not None:
        pixels &= mask
    index = torch.nonzero(pixels.flatten())[:, 0]
    places = torch.stack([index % key.width, index // key.width], dim=1)
    return Sites(places.float(), (key.height, key.width), index)


def _cells(key: DescriptorMap, *, axis: int) -> Tensor:
    """int64, the column (row) of the cell between nodes that holds each column (row) of pixels."""
    places = torch.zeros((key.width, key.height)[axis], 2, device=key.data.device)
    places[:, axis] = torch.arange(len(places), device=places.device)
    return bilinear_corners(key, places)[0][:, axis].contiguous()


def _cells_with_pixels(
    row: Tensor, column: Tensor, shape: tuple[int, int], mask: Tensor | None
) -> Tensor:
    """bool (rows, columns) of cells: whether a candidate lies in each."""
    counts = [line.bincount(minlength=n) for line, n in zip((row, column), shape, strict=True)]
    if mask is None:
        return (counts[0] > 0)[:, None] & (counts[1] > 0)
    bands = mask.split(counts[0].tolist())
    by_row = torch.stack([band.any(dim=0) for band in bands])  # (rows, width)
    return torch.zeros(shape, device=row.device).index_add_(1, column, by_row.float()) > 0


def _bounds(key: DescriptorMap, rows: Tensor, shape: tuple[int, int]) -> Tensor:
    """float32 (N, cells): no pixel of a cell has a larger cosine with a unit descriptor."""
    h, w = key.grid_size
    v, u = torch.meshgrid(*(torch.arange(n, device=rows.device) for n in shape), indexing="ij")
    around = corner_nodes(torch.stack([u.flatten(), v.flatten()], dim=1), h=h, w=w)  # (cells, 4)
    nodes = GridNodes.of([key])
    norm = nodes.norm[around]
    gram = nodes.gram[around[:, 0]] / (
        norm[:, :, None] * norm[:, None]
    )  # (cells, 4, 4), <n_i, n_j>
    toward = gram.sum(dim=2) / gram.sum(dim=(1, 2)).sqrt()[:, None]  # (cells, 4), c_j
    # Nodes that disagree by a right angle, or have no direction (NaN), bound nothing.
    bounding = (toward > 0).all(dim=1)
    with exact_products(rows.device):
        product = (rows @ nodes.unit.T)[:, around]  # (N, cells, 4)
    largest = torch.where(product > 0, product / toward.float(), product).amax(dim=-1)
    return torch.where(bounding, largest, torch.inf)


def _seeds(row: Tensor, column: Tensor, shape: tuple[int, int], cells: Tensor) -> Tensor:
    """int64 (N, seeds, 2): pixels (x, y) spread over some cells (N, any) for each point."""
    share = (torch.arange(_SEEDS, device=row.device) + 0.5) / _SEEDS
    parts = []
    for line, count, at in (
        (column, shape[1], cells % shape[1]),
        (row, shape[0], cells // shape[1]),
    ):
        first = torch.searchsorted(line, torch.arange(count + 1, device=line.device))
        size = first[at + 1] - first[at]
        # A cell without pixels is no candidate; its neighbour's are as good.
        place = first[at][..., None] + (share * size[..., None]).long()
        parts.append(place.clamp(max=len(line) - 1))
    x, y = parts
    grid = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., :, None]), dim=-1)
    return grid.flatten(1, 3)
