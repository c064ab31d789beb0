"""Sub-pixel matches for the grid engine: a window soft-argmax evaluated on the products of nodes.

In: products, plans and matches. Out: refined matches. The same result as
`filters.refine_subpixel`, which reads every descriptor of every window instead.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from warpkit.checks import require
from warpkit.coords import bilinear_corners, bilinear_weights, corner_nodes
from warpkit.match import filters
from warpkit.match.grid.plan import GridNodes, GridPlan, PixelTable, UsedNodes
from warpkit.match.pair import Refined, Window
from warpkit.types import DescriptorMap, Sites

__all__ = ["Refinement", "refine_band"]

_PRODUCTS = 2**24  # of nodes that are read together: 64 MB


class Refinement:
    """The window soft-argmax of matches among the pixels of an image, on the products of nodes.

    Args:
        window: radius and temperature.
        key: map of the image.
        nodes: its nodes.
        keys: the candidates, all its pixels or those of a mask.
        columns: which nodes are which columns of the products.
    """

    def __init__(
        self, window: Window, key: DescriptorMap, nodes: GridNodes, keys: Sites, columns: UsedNodes
    ) -> None:
        require(
            keys.index is not None and keys.lattice == (key.height, key.width),
            "sub-pixel matches are refined among the pixels of an image: search its pixels",
        )
        assert keys.index is not None
        table = PixelTable.of(nodes, key, keys)
        self.window, self.key, self.nodes, self.columns = window, key, nodes, columns
        self.key_pixel = keys.index.to(key.data.device)
        self.table = replace(table, nodes=columns.number(table.nodes))
        allowed = torch.zeros(key.height * key.width, dtype=torch.bool, device=key.data.device)
        allowed[self.key_pixel] = True
        self.allowed = allowed.view(key.height, key.width)

    def refine(
        self,
        loops: ModuleType,
        products: Tensor,
        first_row: int,
        plan: GridPlan,
        blocks: range,
        index: Tensor,
        refined: Refined,
    ) -> None:
        """Write the refined matches of the queries of some blocks."""
        loops.refine_band(
            products, first_row, plan, blocks, index=index, key_pixel=self.key_pixel,
            table=self.table, radius=self.window.radius, temperature=self.window.temperature,
            refined=refined.xy,
        )  # fmt: skip
        first, last = (int(plan.block_sites[block]) for block in (blocks.start, blocks.stop))
        sites = plan.site[first:last]
        mean, found = refined.xy[sites], index[sites] >= 0
        pixel = self.key_pixel[index[sites].clamp(min=0)]
        home = torch.stack([pixel % self.key.width, pixel // self.key.width], dim=-1).float()
        # The mean of a bent region can lie outside it: such a match stays where it was.
        moved = torch.where(filters.inside_mask(self.allowed, mean)[..., None], mean, home)
        refined.xy[sites] = moved * found[..., None]
        similarity = self._similarity(products, first_row, plan, first, last, moved)
        refined.similarity[sites] = similarity * found

    def _similarity(
        self, products: Tensor, first_row: int, plan: GridPlan, first: int, last: int, xy: Tensor
    ) -> Tensor:
        """Cosines of the planned queries [first, last) with places (n, k, 2): float32 (n, k)."""
        h, w = self.nodes.grid
        rows = plan.rows_of_sites(first, last) - first_row
        corner, fraction = bilinear_corners(self.key, xy.flatten(0, 1))
        around = corner_nodes(corner, h=h, w=w)
        weight, _ = self.nodes.coefficients(around, bilinear_weights(fraction))
        columns = self.columns.number(around).long().view(*xy.shape[:2], 4)
        weight = weight.view(*xy.shape[:2], 4)
        product = products[rows[:, None, :, None], columns[:, :, None, :]]  # (n, k, 4, 4)
        half = (plan.coefficient[first:last, None, :, None] * product).sum(dim=2)
        return (half * weight).sum(dim=-1).clamp(-1.0, 1.0)


def refine_band(
    products: Tensor,
    first_row: int,
    query: GridPlan,
    blocks: range,
    *,
    index: Tensor,
    key_pixel: Tensor,
    table: PixelTable,
    radius: int,
    temperature: float,
    refined: Tensor,
) -> None:
    """The mean place of the window around every match, in torch, on any device.

    The readable form of the loop of `cpu`, and the one that runs on a GPU: all places of the
    windows of many queries at once, because a GPU dislikes small work.

    Args:
        products: float32 (rows, keys' nodes); the first row belongs to query node `first_row`.
        first_row: see `products`.
        query: plan of the queries.
        blocks: of `query`.
        index: int64 (queries, k), matches as rows of the keys.
        key_pixel: int64 (keys,), the row-major pixel of every key.
        table: the pixels of the key image.
        radius: of the window in pixels.
        temperature: of the softmax over cosines.
        refined: float32 (queries, k, 2), written where there is a match.
    """
    height = len(table.nodes) // table.width
    first, last = (int(query.block_sites[block]) for block in (blocks.start, blocks.stop))
    rows = query.rows_of_sites(first, last) - first_row
    weights, sites = query.coefficient[first:last], query.site[first:last]
    steps = torch.arange(-radius, radius + 1, device=products.device)
    offsets = torch.cartesian_prod(steps, steps).flip(-1)  # (window, 2), row-major, (x, y)
    together = max(1, _PRODUCTS // (16 * len(offsets)))
    for rank in range(index.shape[1]):
        match = index[sites, rank]
        pixel = key_pixel[match.clamp(min=0)]
        home = torch.stack([pixel % table.width, pixel // table.width], dim=1)
        scores = torch.cat(
            [
                _scores(products, *part, offsets, table, height)
                for part in zip(
                    rows.split(together),
                    weights.split(together),
                    home.split(together),
                    strict=True,
                )
            ]
        )
        # Without a candidate in its window (no match) a query gets NaN, and is left out.
        share = (scores / temperature).softmax(dim=1)
        mean = home + (share[..., None] * offsets).sum(dim=1)
        found = match >= 0
        refined[sites[found], rank] = mean[found]


def _scores(
    products: Tensor,
    rows: Tensor,
    weights: Tensor,
    home: Tensor,
    offsets: Tensor,
    table: PixelTable,
    height: int,
) -> Tensor:
    """Cosines (N, window) of queries with the pixels around theirs, minus infinity where one is no
    candidate.
    """
    u, v = (home[:, None] + offsets).unbind(-1)
    there = (u >= 0) & (u < table.width) & (v >= 0) & (v < height)
    pixel = torch.where(there, v * table.width + u, 0)
    coefficient, columns = table.coefficient[pixel], table.nodes[pixel].long()  # (N, window, 4)
    product = products[rows[:, None, :, None], columns[:, :, None, :]]  # (N, window, 4, 4)
    score = ((weights[:, None, :, None] * product).sum(dim=2) * coefficient).sum(dim=-1)
    return score.masked_fill(~there | (coefficient.sum(-1) <= 0), -torch.inf)
