"""Grids of nodes over the part of an image that is matched: where a field is solved.

In: descriptor maps and masks. Out: `Nodes`, unit descriptors averaged over each node's square,
inside the mask alone. Convention: node `(i, j)` lies at pixel `origin + pitch * (i, j)`; nodes are
as far apart in both directions, so lengths in nodes mean the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import normalise, pixel_to_grid
from warpkit.match.nearest_set import distance_to
from warpkit.types import DescriptorMap

__all__ = ["Nodes", "Region", "make_nodes", "region_of", "stack_nodes"]

_RIM = 0.06  # of the object's side: how far inside the outline is still near it
_MASK_SIDE = 320  # pixels on the longer side of an object to which its mask is reduced
_LEAST_COVER = 0.3  # share of a node's square inside the mask from which it takes part


@dataclass(frozen=True, eq=False)
class Region:
    """The part of an image that is matched.

    Attributes:
        mask: bool (H, W); None for all of it.
        box: x1, y1, x2, y2 around it, in pixels, edges included.
        planes: float32 (1 or 2, h, w), the mask reduced to a few hundred pixels, and where outlines
            matter how near the outline is: 1 on it, falling to 0 inside; None without a mask.
    """

    mask: Tensor | None
    box: tuple[float, float, float, float]
    planes: Tensor | None

    def mirrored(self, width: int) -> Region:
        """The same in the image turned left-right, `width` pixels wide."""
        if self.mask is None or self.planes is None:
            return self
        x1, y1, x2, y2 = self.box
        box = (width - 1 - x2, y1, width - 1 - x1, y2)
        return Region(self.mask.flip(1), box, self.planes.flip(2))

    @property
    def side(self) -> float:
        """The longer side of the box in pixels."""
        x1, y1, x2, y2 = self.box
        return max(x2 - x1, y2 - y1)


@dataclass(frozen=True, eq=False)
class Nodes:
    """Nodes of B problems, padded to one size; padding has weight 0.

    Attributes:
        descriptors: float32 (B, C, h, w), unit vectors.
        weight: float32 (B, h, w), share of the node's square inside the region; 0 where the node
            takes no part.
        rim: float32 (B, h, w), see `Region`; zeros without masks.
        origin: float32 (B, 2), pixel (x, y) of node (0, 0).
        pitch: float32 (B,), pixels between nodes.
        edge: float32 (B, 4), first and last node (x, y, x, y) of the image's border; infinitely far
            where the region has an outline of its own.
    """

    descriptors: Tensor
    weight: Tensor
    rim: Tensor
    origin: Tensor
    pitch: Tensor
    edge: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.weight.shape[1]), int(self.weight.shape[2])

    def field_to_pixels(self, nodes: Tensor) -> Tensor:
        """Node coordinates (B, ..., 2) in pixels."""
        shape = (-1, *[1] * (nodes.ndim - 2))
        return self.origin.view(*shape, 2) + nodes * self.pitch.view(*shape, 1)

    def to_nodes(self, pixels: Tensor) -> Tensor:
        """Pixels (B, ..., 2) in node coordinates."""
        shape = (-1, *[1] * (pixels.ndim - 2))
        return (pixels - self.origin.view(*shape, 2)) / self.pitch.view(*shape, 1)

    def select(self, rows: Tensor) -> Nodes:
        """The problems of these rows."""
        return Nodes(
            self.descriptors[rows],
            self.weight[rows],
            self.rim[rows],
            self.origin[rows],
            self.pitch[rows],
            self.edge[rows],
        )


def region_of(mask: Tensor | None, *, height: int, width: int, outlined: bool) -> Region:
    """The region of a mask, bool (height, width), not empty.

    Args:
        outlined: whether the outline matters: both images have a mask.
    """
    if mask is None:
        return Region(None, (-0.5, -0.5, width - 0.5, height - 0.5), None)
    first, last = [], []
    for d in (0, 1):
        line = mask.any(dim=d).int()
        first.append(line.argmax())
        last.append(len(line) - 1 - line.flip(0).argmax())
    x1, y1, x2, y2 = torch.stack(first + last).tolist()
    box = (x1 - 0.5, y1 - 0.5, x2 + 0.5, y2 + 0.5)
    planes = mask.float()[None]
    side = max(box[2] - box[0], box[3] - box[1])
    if outlined:
        depth = _depth(mask, box)
        planes = torch.cat([planes, planes * torch.exp(-depth / (_RIM * side))[None]])
    if side > _MASK_SIDE:
        size = [max(1, round(length * _MASK_SIDE / side)) for length in (height, width)]
        planes = F.interpolate(planes[None], size=size, mode="area")[0]
    return Region(mask, box, planes)


def _depth(mask: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """How deep every pixel lies inside a mask, float32 (H, W), in pixels; zeros outside its box.

    The picture's border is no outline: an object that touches it goes on beyond.
    """
    height, width = mask.shape
    # One pixel of what is around the box, where there is any.
    rows = slice(max(0, int(box[1] - 0.5)), min(height, int(box[3] + 1.5)))
    columns = slice(max(0, int(box[0] - 0.5)), min(width, int(box[2] + 1.5)))
    depth = torch.zeros(mask.shape, device=mask.device)
    depth[rows, columns] = distance_to(~mask[rows, columns])
    return depth


@dataclass(frozen=True)
class _Layout:
    """Where the nodes of a region lie.

    Attributes:
        rows, columns: of the nodes.
        places: every node is the mean of places x places points in its square.
        pitch: pixels between nodes.
        left, top: of the first square, in pixels.
    """

    rows: int
    columns: int
    places: int
    pitch: float
    left: float
    top: float

    @classmethod
    def of(cls, at: DescriptorMap, region: Region, nodes: int, finest: float) -> _Layout:
        x1, y1, x2, y2 = region.box
        cell = min(at.cell_width, at.cell_height)
        pitch = max(region.side / nodes, finest * cell)
        columns = max(2, math.ceil((x2 - x1) / pitch - 1e-6))
        rows = max(2, math.ceil((y2 - y1) / pitch - 1e-6))
        left, top = (x1 + x2) / 2 - columns * pitch / 2, (y1 + y2) / 2 - rows * pitch / 2
        return cls(rows, columns, max(1, math.ceil(pitch / cell - 1e-6)), pitch, left, top)


def make_nodes(
    maps: Sequence[DescriptorMap], regions: Sequence[Region], *, nodes: int, finest: float = 0.0
) -> Nodes:
    """Nodes over a region of each image.

    Args:
        maps: of whole images.
        regions: what is matched, of every map.
        nodes: on the longer side of each region's box.
        finest: least distance of nodes in cells of the map.
    """
    layouts = [
        _Layout.of(at, region, nodes, finest) for at, region in zip(maps, regions, strict=True)
    ]
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, (at, region, layout) in enumerate(zip(maps, regions, layouts, strict=True)):
        planes = 0 if region.planes is None else len(region.planes)
        alike.setdefault((at.data.shape, layout.places, planes), []).append(i)
    parts = [
        _nodes_of_alike(
            [maps[i] for i in rows], [regions[i] for i in rows], [layouts[i] for i in rows]
        )
        for rows in alike.values()
    ]
    order = [i for rows in alike.values() for i in rows]
    found = stack_nodes(parts)
    if order == sorted(order):
        return found
    back = torch.tensor(order).argsort()
    return found.select(back.to(found.weight.device))


def _nodes_of_alike(
    maps: Sequence[DescriptorMap], regions: Sequence[Region], layouts: Sequence[_Layout]
) -> Nodes:
    """As `make_nodes`, of maps of one grid, as many places in a node, and as many planes."""
    device, n = maps[0].data.device, layouts[0].places
    rows, columns = max(at.rows for at in layouts), max(at.columns for at in layouts)
    facts = torch.tensor(
        [
            (
                *(layout.left, layout.top, layout.pitch, layout.columns, layout.rows),
                *(at.width, at.height, at.cell_width, at.cell_height),
            )
            for at, layout in zip(maps, layouts, strict=True)
        ],
        device=device,
    )
    left, top, pitch, own_columns, own_rows, width, height, cell_x, cell_y = facts[
        ..., None
    ].unbind(1)
    step = pitch / n
    x = left + (torch.arange(columns * n, device=device) + 0.5) * step  # (B, columns * n)
    y = top + (torch.arange(rows * n, device=device) + 0.5) * step
    h, w = maps[0].grid_size
    u = pixel_to_grid(x, cell_x)[:, None].expand(-1, y.shape[1], -1)
    v = pixel_to_grid(y, cell_y)[..., None].expand(-1, -1, x.shape[1])
    values = F.grid_sample(
        torch.stack([at.data.float() for at in maps]),
        normalise(torch.stack([u, v], dim=-1), height=h, width=w),
        padding_mode="border",
        align_corners=False,
    )
    plain = _pooled(values, n)
    present = (torch.arange(rows, device=device) < own_rows)[..., None]
    present = present & (torch.arange(columns, device=device) < own_columns)[:, None]
    if regions[0].planes is None:
        zero = torch.zeros_like(own_columns)
        edge = torch.cat([zero, zero, own_columns - 1, own_rows - 1], dim=1)
        across, down = (_within(v, end, step) for v, end in ((x, width), (y, height)))
        weight = _pooled((down[..., None] * across[:, None])[:, None], n)[:, 0]
        rim = torch.zeros_like(weight)
    else:
        edge = torch.tensor([[-math.inf] * 2 + [math.inf] * 2], device=device).expand(len(maps), -1)
        planes, cells = _side_by_side([r.planes for r in regions if r.planes is not None])
        lines = _overlaps(top, step, rows * n, height, cells[:, :1], planes.shape[2])
        posts = _overlaps(left, step, columns * n, width, cells[:, 1:], planes.shape[3])
        covered = lines[:, None] @ planes @ posts[:, None].transpose(2, 3)
        weight = _pooled(covered[:, :1], n)
        rim = _pooled(covered[:, 1], n) if planes.shape[1] > 1 else torch.zeros_like(weight[:, 0])
        # Nodes outside stay what they are: they count as hubs.
        plain = torch.where(weight > 1e-3, _pooled(values * covered[:, :1], n), plain)
        weight = weight[:, 0]
    # Where a region is so thin that no node is covered well, the best ones are it.
    least = (weight * present).amax(dim=(1, 2), keepdim=True).mul(0.5).clamp(max=_LEAST_COVER)
    return Nodes(
        F.normalize(plain, dim=1, eps=1e-6) * present[:, None],
        weight * (weight >= least) * present,
        rim * present,
        torch.cat([left, top], dim=1) + pitch / 2,
        pitch[:, 0],
        edge,
    )


def _side_by_side(planes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Planes (P, h, w) padded to one size, (B, P, H, W), and the sizes h and w, (B, 2)."""
    height, width = (max(one.shape[d] for one in planes) for d in (1, 2))
    padded = [F.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in planes]
    sizes = torch.tensor([one.shape[1:] for one in planes], device=planes[0].device)
    return torch.stack(padded), sizes


def _within(at: Tensor, length: Tensor, step: Tensor) -> Tensor:
    """Which places (B, M) lie on a line of an image, 1 or 0.

    Where the line is so short that it lies between two places: how far their steps reach into it.
    """
    inside = ((at > -0.5) & (at < length - 0.5)).float()
    shared = (at + step / 2).minimum(length - 0.5) - (at - step / 2).clamp(min=-0.5)
    return torch.where(inside.any(dim=1, keepdim=True), inside, shared.clamp(min=0) / step)


def _pooled(values: Tensor, n: int) -> Tensor:
    """Means over squares of n x n."""
    return values if n == 1 else F.avg_pool2d(values, n)


def _overlaps(
    first: Tensor, side: Tensor, count: int, length: Tensor, cells: Tensor, most: int
) -> Tensor:
    """How far intervals cover the cells of lines: (B, count, most), shares of an interval.

    Args:
        first: (B, 1), where the first interval begins, in pixels.
        side: (B, 1), of an interval in pixels; they follow each other.
        length: (B, 1), of the line in pixels, from -0.5 on.
        cells: (B, 1), that the line is divided into.
        most: cells of the longest line.
    """
    scale = cells / length
    edges = (first + 0.5 + torch.arange(count + 1, device=first.device) * side) * scale
    cell = torch.arange(most + 1, device=first.device)
    low = torch.maximum(edges[:, :-1, None], cell[:-1])
    high = torch.minimum(edges[:, 1:, None], cell[1:])
    return (high - low).clamp(min=0) / (side * scale)[..., None]


def stack_nodes(parts: Sequence[Nodes]) -> Nodes:
    """Problems side by side, padded below and to the right."""
    if len(parts) == 1:
        return parts[0]
    rows = max(part.size[0] for part in parts)
    columns = max(part.size[1] for part in parts)

    def padded(values: Tensor) -> Tensor:
        return F.pad(values, (0, columns - values.shape[-1], 0, rows - values.shape[-2]))

    return Nodes(
        torch.cat([padded(part.descriptors) for part in parts]),
        torch.cat([padded(part.weight) for part in parts]),
        torch.cat([padded(part.rim) for part in parts]),
        torch.cat([part.origin for part in parts]),
        torch.cat([part.pitch for part in parts]),
        torch.cat([part.edge for part in parts]),
    )
