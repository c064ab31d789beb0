"""What the grid engine knows of an image before any product is taken: sites in cells and blocks.

In: `DescriptorMap`s and the `Sites` to read in them. Out: a `GridPlan`. The same on CPU and GPU.

A site p lies in a cell between four grid nodes j. With the bilinear weights b_j, the descriptors
s_j of the nodes, and `node_j = s_j / |s_j|`, its unit descriptor is

    s_p / |s_p| = sum_j coefficient[p, j] * node_j ,    coefficient[p, j] = b_j |s_j| / |s_p| .

The coefficients are not negative. Their sum, the `stretch` of the site, is 1 where the four nodes
agree and grows as they disagree. For any t, therefore,

    <t, s_p / |s_p|>  <=  max_j <t, node_j> * stretch_p ,

and for a set of sites with the largest stretch if that maximum is positive, else the smallest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warpkit.coords import bilinear_corners, bilinear_weights, corner_nodes
from warpkit.types import DescriptorMap, Sites

__all__ = ["BlockShape", "GridNodes", "GridPlan", "PixelTable", "UsedNodes", "plan_sites"]

# A shorter descriptor has no direction. The engine `reference` draws the line here too:
# `coords.sample_descriptors` divides by at least 1e-12, and half a squared unit must be left.
_SMALLEST_NORM = 0.5**0.5 * 1e-12
# Sites whose float64 intermediates are alive together; a GPU has the room, and dislikes small work.
_CHUNK = {"cpu": 2**17, "cuda": 2**22}
_NODE_FLOATS = 2**22  # descriptors of grid rows normalised together


@dataclass(frozen=True)
class BlockShape:
    """How sites are grouped.

    Attributes:
        spacing: about how many pixels wide and high a block is.
        most: most sites of a block.
    """

    spacing: int
    most: int


@dataclass(frozen=True, eq=False)
class GridNodes:
    """The nodes of one or several maps of h x w cells, one map after the other.

    Attributes:
        unit: float32 (n, C), unit descriptors; 0 where the descriptor is 0 or not finite.
        norm: float64 (n,), |s_j|.
        gram: float64 (n, 4, 4), the Gram matrix of the four nodes around the cell that has this
            node at its upper left: products <s_i, s_j>, row by row.
        grid: (h, w).
    """

    unit: Tensor
    norm: Tensor
    gram: Tensor
    grid: tuple[int, int]

    @classmethod
    def of(cls, maps: Sequence[DescriptorMap]) -> GridNodes:
        """The nodes of maps of one grid size."""
        h, w = maps[0].grid_size
        together = max(1, _NODE_FLOATS // (w * maps[0].channels))
        unit, norm, gram = [], [], []
        for item in maps:
            # Beyond the border the last nodes repeat, as in `coords.corner_nodes`.
            padded = torch.cat([item.data, item.data[:, -1:]], dim=1)
            padded = torch.cat([padded, padded[..., -1:]], dim=2).permute(1, 2, 0)
            for top in range(0, h, together):
                rows = padded[top : top + together + 1].double()
                around = [rows[:-1, :-1], rows[:-1, 1:], rows[1:, :-1], rows[1:, 1:]]
                four = torch.stack(around, dim=2).flatten(0, 1)  # (cells, 4, C)
                gram.append(four @ four.mT)
                norm.append(gram[-1][:, 0, 0].sqrt())
                own = four[:, 0] / norm[-1][:, None]
                unit.append(own.nan_to_num(0, 0, 0).float())
        return cls(torch.cat(unit), torch.cat(norm), torch.cat(gram), grid=(h, w))

    def part(self, number: int) -> GridNodes:
        """The nodes of one of the maps."""
        h, w = self.grid
        one = slice(number * h * w, (number + 1) * h * w)
        return GridNodes(self.unit[one], self.norm[one], self.gram[one], self.grid)

    def lengths(self, nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What four nodes (N, 4) add up to: b_j |s_j| (N, 4), and |sum_j b_j s_j| (N,), float64.

        The norm comes from the Gram matrix, in float64: it is right even where the nodes nearly
        cancel.
        """
        square = (weights[:, None] @ self.gram[nodes[:, 0]] @ weights[..., None]).flatten()
        return weights * self.norm[nodes], square.clamp(min=0).sqrt()

    def coefficients(self, nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (N, 4), 0 without direction, and bool (N,), whether there is a direction."""
        part, length = self.lengths(nodes, weights)
        usable = (length > _SMALLEST_NORM) & length.isfinite()
        return torch.where(usable[:, None], part / length[:, None], 0).float(), usable


@dataclass(frozen=True, eq=False)
class GridPlan:
    """Sites sorted into cells and blocks.

    A cell lies between four neighbouring nodes; a block holds neighbouring sites of one cell. Sites
    without a direction are left out. Counts: c cells that hold sites, b blocks, N sites. The sites
    of a block stand together, and so do the blocks of a cell, cells in row-major order.

    Attributes:
        cell_nodes: int32 (c, 4), the nodes around each cell, row by row.
        cell_stretch: float32 (c, 2), largest and smallest stretch of a cell's sites.
        cell_blocks: int32 (c + 1,), the first block of every cell, and b.
        cell_first: int64 (c,), the lowest `site` of a cell.
        block_cell: int32 (b,), the cell of a block.
        block_sites: int32 (b + 1,), the first site of every block, and N.
        block_corners: float32 (b, 4, 4), coefficients of the corners of the smallest rectangle
            around a block's sites: [corner, node].
        block_stretch: float32 (b, 2), largest and smallest stretch of a block's sites over the
            unit descriptors of its corners.
        block_first: int64 (b,), the lowest `site` of a block.
        site: int64 (N,), row of the caller's sites; increasing within a block.
        coefficient: float32 (N, 4), see above.
    """

    cell_nodes: Tensor
    cell_stretch: Tensor
    cell_blocks: Tensor
    cell_first: Tensor
    block_cell: Tensor
    block_sites: Tensor
    block_corners: Tensor
    block_stretch: Tensor
    block_first: Tensor
    site: Tensor
    coefficient: Tensor

    def split(self, *, nodes: int, sites: int) -> tuple[GridPlan, GridPlan]:
        """A plan of two maps as two plans.

        Args:
            nodes: of the first map.
            sites: of the first map.
        """
        cell = int((self.cell_nodes[:, 0] < nodes).sum())
        block = int(self.cell_blocks[cell])
        site = int(self.block_sites[block])
        first = GridPlan(
            cell_nodes=self.cell_nodes[:cell],
            cell_stretch=self.cell_stretch[:cell],
            cell_blocks=self.cell_blocks[: cell + 1],
            cell_first=self.cell_first[:cell],
            block_cell=self.block_cell[:block],
            block_sites=self.block_sites[: block + 1],
            block_corners=self.block_corners[:block],
            block_stretch=self.block_stretch[:block],
            block_first=self.block_first[:block],
            site=self.site[:site],
            coefficient=self.coefficient[:site],
        )
        second = GridPlan(
            cell_nodes=self.cell_nodes[cell:] - nodes,
            cell_stretch=self.cell_stretch[cell:],
            cell_blocks=self.cell_blocks[cell:] - block,
            cell_first=self.cell_first[cell:] - sites,
            block_cell=self.block_cell[block:] - cell,
            block_sites=self.block_sites[block:] - site,
            block_corners=self.block_corners[block:],
            block_stretch=self.block_stretch[block:],
            block_first=self.block_first[block:] - sites,
            site=self.site[site:] - sites,
            coefficient=self.coefficient[site:],
        )
        return first, second

    def rows_of_sites(self, first: int, last: int) -> Tensor:
        """int64 (last - first, 4): the nodes around planned sites."""
        place = torch.arange(first, last, dtype=torch.int32, device=self.block_sites.device)
        block = torch.searchsorted(self.block_sites, place, right=True) - 1
        return self.cell_nodes[self.block_cell[block].long()].long()


def plan_sites(
    nodes: GridNodes,
    maps: Sequence[DescriptorMap],
    sites: Sequence[Sites],
    shapes: Sequence[BlockShape],
) -> GridPlan:
    """Sort the sites of maps of one grid size into cells and blocks.

    Args:
        nodes: the maps' nodes.
        maps: the maps that `nodes` was made of.
        sites: places in each; their rows count on from map to map.
        shapes: of the blocks of each.
    """
    h, w = nodes.grid
    found = _locate(nodes, maps, sites, shapes)
    if len(found.site) == 0:
        return _no_sites(found.site.device)
    block, order = torch.sort(found.block, stable=True)
    site, corner_node, length = found.site[order], found.corner_node[order], found.length[order]
    fraction, coefficient = found.fraction[order], found.coefficient[order]
    del found, order

    # Blocks, cut where they are longer than allowed; cells are runs of blocks.
    device = site.device
    _, run, sizes = torch.unique_consecutive(block, return_inverse=True, return_counts=True)
    rank = torch.arange(len(run), device=device) - (sizes.cumsum(0) - sizes)[run]
    most: Tensor | int = shapes[0].most
    if any(shape.most != shapes[0].most for shape in shapes):
        most = torch.tensor([shape.most for shape in shapes], device=device)
        most = most[corner_node // (h * w)]
    begins = rank % most == 0
    starts = torch.nonzero(begins)[:, 0]
    block_of = begins.cumsum(0) - 1
    ends = torch.cat([starts[1:], starts.new_full((1,), len(site))])
    counts = ends - starts
    _, block_cell, per_cell = torch.unique_consecutive(
        corner_node[starts], return_inverse=True, return_counts=True
    )
    cell_ends = per_cell.cumsum(0)
    cell_starts = cell_ends - per_cell

    # The rectangle around a block's sites and its corners' descriptors.
    low, high = _reduce(fraction, counts, "min"), _reduce(fraction, counts, "max")
    (left, upper), (right, lower) = low.unbind(1), high.unbind(1)
    corners = torch.stack([left, upper, right, upper, left, lower, right, lower], dim=1)
    block_nodes = _around(corner_node[starts], h=h, w=w)
    part, corner_length = nodes.lengths(
        block_nodes.repeat_interleave(4, dim=0), bilinear_weights(corners.view(-1, 2).double())
    )
    corner_length = corner_length.view(-1, 4)
    directed = corner_length > _SMALLEST_NORM
    # A corner without direction adds nothing to a site: another one of the block stands in for it.
    stand_in = torch.where(
        directed, torch.arange(4, device=device), directed.int().argmax(dim=1, keepdim=True)
    )
    block_corners = (part.view(-1, 4, 4) / corner_length[..., None]).float()
    block_corners = block_corners.gather(1, stand_in[..., None].expand(-1, -1, 4))

    # Stretches: over the nodes of the cell, and over the corners of the block.
    extent = (high - low)[block_of]
    inner = torch.where(extent > 0, (fraction - low[block_of]) / extent, 0)
    over_corners = (bilinear_weights(inner.double()) * corner_length[block_of]).sum(1) / length
    stretch = torch.stack([coefficient.sum(1), over_corners.float()], dim=1)
    largest, smallest = _reduce(stretch, counts, "max"), _reduce(stretch, counts, "min")
    block_first = site[starts]
    return GridPlan(
        cell_nodes=block_nodes[cell_starts].int(),
        cell_stretch=torch.stack(
            [_reduce(largest[:, 0], per_cell, "max"), _reduce(smallest[:, 0], per_cell, "min")],
            dim=1,
        ),
        cell_blocks=torch.cat([cell_starts, cell_ends[-1:]]).int(),
        cell_first=_reduce(block_first.double(), per_cell, "min").long(),
        block_cell=block_cell.int(),
        block_sites=torch.cat([starts, ends[-1:]]).int(),
        block_corners=block_corners.contiguous(),
        block_stretch=torch.stack([largest[:, 1], smallest[:, 1]], dim=1),
        block_first=block_first,
        site=site,
        coefficient=coefficient,
    )


def _no_sites(device: torch.device) -> GridPlan:
    whole = torch.zeros(0, dtype=torch.int64, device=device)
    short = whole.int()
    real = torch.zeros(0, device=device)
    return GridPlan(
        cell_nodes=short.view(0, 4),
        cell_stretch=real.view(0, 2),
        cell_blocks=short.new_zeros(1),
        cell_first=whole,
        block_cell=short,
        block_sites=short.new_zeros(1),
        block_corners=real.view(0, 4, 4),
        block_stretch=real.view(0, 2),
        block_first=whole,
        site=whole,
        coefficient=real.view(0, 4),
    )


@dataclass(frozen=True, eq=False)
class UsedNodes:
    """The nodes of one image that take part, in order: rows or columns of the products.

    Attributes:
        unit: float32 (n, C), their unit descriptors.
        row: int32 (all nodes,), the row of every node; of one that takes no part that of another.
    """

    unit: Tensor
    row: Tensor

    @classmethod
    def by(cls, nodes: GridNodes, *plans: GridPlan | None, every: bool = False) -> UsedNodes:
        """The nodes around the cells of plans, or all."""
        used = (torch.ones if every else torch.zeros)(
            len(nodes.unit), dtype=torch.bool, device=nodes.unit.device
        )
        for plan in plans:
            if plan is not None:
                used[plan.cell_nodes.long()] = True
        return cls(nodes.unit[used], (used.cumsum(0).int() - 1).clamp(min=0))

    def number(self, node: Tensor) -> Tensor:
        """The rows of nodes."""
        return self.row[node.long()]

    def of(self, plan: GridPlan) -> GridPlan:
        """A plan whose cells name rows instead of nodes."""
        return replace(plan, cell_nodes=self.number(plan.cell_nodes))


@dataclass(frozen=True, eq=False)
class PixelTable:
    """The descriptor of every pixel of an image by its four nodes.

    Attributes:
        nodes: int32 (height * width, 4).
        coefficient: float32 (height * width, 4); all 0 where a pixel is no candidate or has no
            direction.
        width: of the image in pixels.
    """

    nodes: Tensor
    coefficient: Tensor
    width: int

    @classmethod
    def of(cls, nodes: GridNodes, item: DescriptorMap, keys: Sites) -> PixelTable:
        """The pixels of a map's image that are among `keys`, which are a lattice of its pixels."""
        h, w = nodes.grid
        assert keys.index is not None
        pixels = item.height * item.width
        index = keys.index.to(nodes.unit.device)
        around = torch.zeros(pixels, 4, dtype=torch.int32, device=index.device)
        coefficient = torch.zeros(pixels, 4, device=index.device)
        for xy, at in zip(_chunks(keys.xy.to(index.device)), _chunks(index), strict=True):
            corner, fraction = bilinear_corners(item, xy)
            here = corner_nodes(corner, h=h, w=w)
            around[at] = here.int()
            coefficient[at] = nodes.coefficients(here, bilinear_weights(fraction))[0]
        return cls(around, coefficient, item.width)


@dataclass(frozen=True, eq=False)
class _Located:
    """Sites that have a direction, in the caller's order."""

    site: Tensor  # int64 (N,), row of the caller's sites
    corner_node: Tensor  # int64 (N,), the node at the upper left of the site's cell
    block: Tensor  # int64 (N,), grows with `corner_node`, and within it with the part of the cell
    fraction: Tensor  # float32 (N, 2)
    length: Tensor  # float64 (N,), |s_p|
    coefficient: Tensor  # float32 (N, 4)


def _locate(
    nodes: GridNodes,
    maps: Sequence[DescriptorMap],
    sites: Sequence[Sites],
    shapes: Sequence[BlockShape],
) -> _Located:
    h, w = nodes.grid
    parts, first_site = [], 0
    # Room for the parts of a cell, so that blocks of all maps are in the order of their nodes.
    room = max(cut[0] * cut[1] for cut in (_cuts(*pair) for pair in zip(maps, shapes, strict=True)))
    for number, (item, places, shape) in enumerate(zip(maps, sites, shapes, strict=True)):
        cuts = _cuts(item, shape)
        for xy in _chunks(places.xy.to(nodes.unit.device)):
            corner, fraction = bilinear_corners(item, xy)
            around = corner_nodes(corner, h=h, w=w) + number * h * w
            part, length = nodes.lengths(around, bilinear_weights(fraction))
            site = torch.arange(first_site, first_site + len(xy), device=xy.device)
            usable = (length > _SMALLEST_NORM) & length.isfinite()
            fraction, corner_node = fraction.float(), around[:, 0]
            if not bool(usable.all()):
                site, corner_node, fraction = site[usable], corner_node[usable], fraction[usable]
                part, length = part[usable], length[usable]
            column, row = (
                (fraction[:, axis] * cut).long().clamp(max=cut - 1) for axis, cut in enumerate(cuts)
            )
            block = corner_node * room + row * cuts[0] + column
            coefficient = (part / length[:, None]).float()
            parts.append((site, corner_node, block, fraction, length, coefficient))
            first_site += len(xy)
    return _Located(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _cuts(item: DescriptorMap, shape: BlockShape) -> tuple[int, int]:
    """Into how many columns and rows of blocks a cell is cut."""
    return (
        max(1, round(item.cell_width / shape.spacing)),
        max(1, round(item.cell_height / shape.spacing)),
    )


def _chunks(values: Tensor) -> tuple[Tensor, ...]:
    return values.split(_CHUNK.get(values.device.type, _CHUNK["cpu"]))


def _around(corner_node: Tensor, *, h: int, w: int) -> Tensor:
    """int64 (N, 4): the nodes around cells, given each by its upper left node."""
    within = corner_node % (h * w)
    corner = torch.stack([within % w, within // w], dim=1)
    return corner_nodes(corner, h=h, w=w) + (corner_node - within)[:, None]


def _reduce(values: Tensor, counts: Tensor, how: str) -> Tensor:
    """The smallest or largest of runs of `counts` values (N, ...): (runs, ...)."""
    return torch.segment_reduce(values, how, lengths=counts, axis=0, unsafe=True)
