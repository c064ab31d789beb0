"""Grids of nodes over the part of an image that is matched: where a field is solved.

In: descriptor maps and masks. Out: `Nodes`, unit descriptors averaged over each node's square,
inside the mask alone. Convention: node `(i, j)` lies at pixel `origin + pitch * (i, j)`; nodes are
as far apart in both directions, so lengths in nodes mean the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import normalise, pixel_to_grid
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
    inside = mask.cpu().numpy()
    rows, columns = (np.flatnonzero(inside.any(axis=d)) for d in (1, 0))
    box = (
        float(columns[0]) - 0.5,
        float(rows[0]) - 0.5,
        float(columns[-1]) + 0.5,
        float(rows[-1]) + 0.5,
    )
    planes = mask.float()[None]
    side = max(box[2] - box[0], box[3] - box[1])
    if outlined:
        depth = torch.from_numpy(_depth(inside, box)).to(mask.device)
        planes = torch.cat([planes, planes * torch.exp(-depth / (_RIM * side))[None]])
    if side > _MASK_SIDE:
        size = [max(1, round(length * _MASK_SIDE / side)) for length in (height, width)]
        planes = F.interpolate(planes[None], size=size, mode="area")[0]
    return Region(mask, box, planes)


def _depth(
    inside: npt.NDArray[np.bool_], box: tuple[float, float, float, float]
) -> npt.NDArray[np.float32]:
    """How deep every pixel lies inside a mask, (H, W), in pixels; zeros outside its box.

    The picture's border is no outline: an object that touches it goes on beyond.
    """
    import cv2

    height, width = inside.shape
    # One pixel of what is around the box, where there is any.
    rows = slice(max(0, int(box[1] - 0.5)), min(height, int(box[3] + 1.5)))
    columns = slice(max(0, int(box[0] - 0.5)), min(width, int(box[2] + 1.5)))
    depth = np.zeros((height, width), np.float32)
    depth[rows, columns] = cv2.distanceTransform(
        inside[rows, columns].astype("uint8"), cv2.DIST_L2, 5
    )
    return depth


def make_nodes(
    descriptors: DescriptorMap, region: Region, *, nodes: int, finest: float = 0.0
) -> Nodes:
    """Nodes over a region of one image, B = 1.

    Args:
        descriptors: of the whole image.
        region: what is matched.
        nodes: on the longer side of the region's box.
        finest: least distance of nodes in cells of the map.
    """
    x1, y1, x2, y2 = region.box
    height, width = descriptors.height, descriptors.width
    cell = min(descriptors.cell_width, descriptors.cell_height)
    pitch = max(region.side / nodes, finest * cell)
    columns = max(2, math.ceil((x2 - x1) / pitch - 1e-6))
    rows = max(2, math.ceil((y2 - y1) / pitch - 1e-6))
    device = descriptors.data.device
    # Every node is the mean of n x n places in its square.
    n = max(1, math.ceil(pitch / cell - 1e-6))
    step = pitch / n
    left = (x1 + x2) / 2 - columns * pitch / 2  # of the first square
    top = (y1 + y2) / 2 - rows * pitch / 2
    x = left + (torch.arange(columns * n, device=device) + 0.5) * step
    y = top + (torch.arange(rows * n, device=device) + 0.5) * step
    h, w = descriptors.grid_size
    u = pixel_to_grid(x, descriptors.cell_width)[None].expand(len(y), -1)
    v = pixel_to_grid(y, descriptors.cell_height)[:, None].expand(-1, len(x))
    values = F.grid_sample(
        descriptors.data.float()[None],
        normalise(torch.stack([u, v], dim=-1), height=h, width=w)[None],
        padding_mode="border",
        align_corners=False,
    )
    plain = _pooled(values, n)
    far = float("inf")
    if region.planes is None:
        edge = [0.0, 0.0, columns - 1.0, rows - 1.0]
        within_x, within_y = ((v > -0.5) & (v < end - 0.5) for v, end in ((x, width), (y, height)))
        cover = (within_y[:, None] & within_x).float()[None]
        weight = _pooled(cover, n)
        rim = torch.zeros_like(weight)
    else:
        edge = [-far, -far, far, far]
        planes = region.planes
        down = _overlaps(top, step, rows * n, height, planes.shape[1], device)
        across = _overlaps(left, step, columns * n, width, planes.shape[2], device)
        cover, *rest = (down @ planes @ across.T)[:, None]
        weight = _pooled(cover, n)
        rim = _pooled(rest[0], n) if rest else torch.zeros_like(weight)
        # Nodes outside stay what they are: they count as hubs.
        plain = torch.where(weight > 1e-3, _pooled(values * cover, n), plain)
    # Where a region is so thin that no node is covered well, the best ones are it.
    least = (weight.max() * 0.5).clamp(max=_LEAST_COVER)
    facts = torch.tensor([left + pitch / 2, top + pitch / 2, pitch, *edge], device=device)
    return Nodes(
        F.normalize(plain, dim=1, eps=1e-6),
        weight * (weight >= least),
        rim,
        facts[None, :2],
        facts[None, 2],
        facts[None, 3:],
    )


def _pooled(values: Tensor, n: int) -> Tensor:
    """Means over squares of n x n."""
    return values if n == 1 else F.avg_pool2d(values, n)


def _overlaps(
    first: float, side: float, count: int, length: int, cells: int, device: torch.device
) -> Tensor:
    """How far intervals cover the cells of a line: (count, cells), shares of an interval.

    Args:
        first: where the first interval begins, in pixels.
        side: of an interval in pixels; they follow each other.
        length: of the line in pixels, from -0.5 on.
        cells: that the line is divided into.
    """
    scale = cells / length
    edges = (first + 0.5 + torch.arange(count + 1, device=device) * side) * scale
    cell = torch.arange(cells + 1, device=device)
    low = torch.maximum(edges[:-1, None], cell[:-1])
    high = torch.minimum(edges[1:, None], cell[1:])
    return (high - low).clamp(min=0) / (side * scale)


def stack_nodes(parts: Sequence[Nodes]) -> Nodes:
    """Problems side by side, padded below and to the right."""
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
