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

from warpkit.coords import normalise, pixel_grid, pixel_to_grid
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
        integral: float64 (1 or 2, h + 1, w + 1), sums above and to the left, of the mask reduced to
            a few hundred pixels, and where outlines matter of how near the outline is: 1 on it,
            falling to 0 inside; None without a mask.
    """

    mask: Tensor | None
    box: tuple[float, float, float, float]
    integral: Tensor | None

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

    def to_pixels(self, nodes: Tensor) -> Tensor:
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
    rows, columns = (torch.nonzero(mask.any(dim=d))[:, 0] for d in (1, 0))
    box = (
        float(columns[0]) - 0.5,
        float(rows[0]) - 0.5,
        float(columns[-1]) + 0.5,
        float(rows[-1]) + 0.5,
    )
    planes = mask.float()[None]
    side = max(box[2] - box[0], box[3] - box[1])
    if outlined:
        planes = torch.cat([planes, planes * torch.exp(-_depth(mask, box) / (_RIM * side))[None]])
    if side > _MASK_SIDE:
        size = [max(1, round(length * _MASK_SIDE / side)) for length in (height, width)]
        planes = F.interpolate(planes[None], size=size, mode="area")[0]
    integral = planes.double().cumsum(dim=1).cumsum(dim=2)
    return Region(mask, box, F.pad(integral, (1, 0, 1, 0)))


def _depth(mask: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """How deep every pixel lies inside the mask, (H, W), in pixels; zeros outside its box.

    The picture's border is no outline: an object that touches it goes on beyond.
    """
    import cv2

    height, width = mask.shape
    # One pixel of what is around the box, where there is any.
    rows = slice(max(0, int(box[1] - 0.5)), min(height, int(box[3] + 1.5)))
    columns = slice(max(0, int(box[0] - 0.5)), min(width, int(box[2] + 1.5)))
    inside = mask[rows, columns].cpu().numpy().astype("uint8")
    depth = torch.zeros(height, width, device=mask.device)
    found = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    depth[rows, columns] = torch.from_numpy(found).to(mask.device)
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
    cell = min(descriptors.cell_width, descriptors.cell_height)
    pitch = max(region.side / nodes, finest * cell)
    columns = max(2, math.ceil((x2 - x1) / pitch - 1e-6))
    rows = max(2, math.ceil((y2 - y1) / pitch - 1e-6))
    device = descriptors.data.device
    centre = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2], device=device)
    origin = centre - torch.tensor([columns - 1, rows - 1], device=device) * (pitch / 2)
    # Every node is the mean of n x n places in its square.
    n = max(1, math.ceil(pitch / cell - 1e-6))
    places = pixel_grid(height=rows * n, width=columns * n, device=device)
    places = origin + (places - (n - 1) / 2) * (pitch / n)
    on_map = torch.stack(
        [
            pixel_to_grid(places[..., 0], descriptors.cell_width),
            pixel_to_grid(places[..., 1], descriptors.cell_height),
        ],
        dim=-1,
    )
    h, w = descriptors.grid_size
    values = F.grid_sample(
        descriptors.data.float()[None],
        normalise(on_map, height=h, width=w)[None],
        padding_mode="border",
        align_corners=False,
    )
    size = torch.tensor([descriptors.width, descriptors.height], device=device)
    cover = ((places > -0.5) & (places < size - 0.5)).all(dim=-1).float()
    rim = torch.zeros_like(cover)
    if region.integral is not None:
        cover_in, *rest = _means(region.integral, size, centre, (rows * n, columns * n), pitch / n)
        cover = cover * cover_in
        if rest:
            rim = rest[0]
    far = float("inf")
    edge = [-far, -far, far, far]
    if region.mask is None:
        edge = [0.0, 0.0, columns - 1.0, rows - 1.0]
    weight = F.avg_pool2d(cover[None, None], n)
    plain = F.avg_pool2d(values, n)
    if region.mask is not None:  # nodes outside stay what they are: they count as hubs
        inside = F.avg_pool2d(values * cover, n)
        plain = torch.where(weight > 1e-3, inside, plain)
    weight = weight[0]
    # Where a region is so thin that no node is covered well, the best ones are it.
    least = min(_LEAST_COVER, 0.5 * float(weight.max()))
    return Nodes(
        F.normalize(plain, dim=1, eps=1e-6),
        weight * (weight >= least),
        F.avg_pool2d(rim[None, None], n)[0],
        origin[None],
        torch.tensor([pitch], device=device),
        torch.tensor([edge], device=device),
    )


def _means(
    integral: Tensor, size: Tensor, centre: Tensor, count: tuple[int, int], side: float
) -> Tensor:
    """Means of planes over a grid of squares: (P, *count). Exact for any side: objects of a few
    pixels count, too.

    Args:
        integral: (P, h + 1, w + 1), of planes that show the whole image.
        size: of the image in pixels, (width, height).
        centre: pixel (x, y) of the grid's centre.
        side: of a square, in pixels.
    """
    device = integral.device
    last = torch.tensor([integral.shape[2] - 1, integral.shape[1] - 1], device=device)
    scale = last / size
    edges = pixel_grid(height=count[0] + 1, width=count[1] + 1, device=device)
    middle = torch.tensor([count[1], count[0]], device=device) / 2
    at = (centre + (edges - middle) * side + 0.5) * scale
    at = at.clamp(min=0).minimum(last)
    low = at.floor().long().minimum(last - 1)
    share = (at - low).double()
    u, v = low.unbind(dim=-1)
    across = [
        integral[:, row, u] * (1 - share[..., 0]) + integral[:, row, u + 1] * share[..., 0]
        for row in (v, v + 1)
    ]
    found = across[0] * (1 - share[..., 1]) + across[1] * share[..., 1]
    total = found[:, 1:, 1:] - found[:, 1:, :-1] - found[:, :-1, 1:] + found[:, :-1, :-1]
    return (total / (side * side * float(scale.prod()))).clamp(0, 1).float()


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
