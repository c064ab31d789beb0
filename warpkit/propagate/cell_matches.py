"""Coarse correspondences of one object between two frames, cell by cell.

In: descriptor maps and object masks of both frames. Out: points of the one and their places in the
other, with how sure they are. Only cells on the object take part, on either side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.arrays import Image
from warpkit.coords import grid_to_pixel
from warpkit.propagate.affinity import with_colour
from warpkit.propagate.coverage import cell_colours, cell_coverage
from warpkit.types import DescriptorMap

__all__ = ["ObjectCells", "PointMatches", "match_cells"]


_COLOUR = 1.0  # weight of the squared colour distance beside the cosine
_LEAST_CELLS = 12  # where fewer cells are wholly on the object, those in part take part too
_MOST_CELLS = 1600  # of a larger object every second, third, ... cell in both directions is taken


@dataclass(frozen=True, eq=False)
class ObjectCells:
    """The cells of one frame that lie on an object.

    Attributes:
        rows: float (N, C), what queries are multiplied with.
        queries: float (N, C), see `with_colour`.
        xy: float (N, 2), their centres, pixels.
        cell: distance of neighbouring cells in pixels, the larger one of both directions.
    """

    rows: Tensor
    queries: Tensor
    xy: Tensor
    cell: float

    @classmethod
    def of(
        cls, descriptors: DescriptorMap, image: Image, mask: npt.NDArray[np.bool_]
    ) -> ObjectCells:
        """Cells mostly on the mask; where these are few, those that touch it."""
        device = descriptors.data.device
        plane = torch.from_numpy(mask).to(device, torch.float32)[None]
        share = cell_coverage(plane, descriptors)[0].flatten()
        inside = share > 0.5
        if int(inside.sum()) < _LEAST_CELLS:
            inside = share > 0.05
        unit = F.normalize(descriptors.data.float().permute(1, 2, 0), dim=2, eps=1e-12)
        queries, keys = with_colour(unit, cell_colours(image, descriptors), weight=_COLOUR)
        height, width = descriptors.grid_size
        v, u = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        step = math.ceil(math.sqrt(int(inside.sum()) / _MOST_CELLS))
        if step > 1:
            inside &= ((u % step == 0) & (v % step == 0)).flatten()
        xy = torch.stack(
            [
                grid_to_pixel(u, descriptors.cell_width),
                grid_to_pixel(v, descriptors.cell_height),
            ],
            dim=-1,
        )
        return cls(
            keys.flatten(0, 1)[inside],
            queries.flatten(0, 1)[inside],
            xy.flatten(0, 1)[inside],
            max(descriptors.cell_width, descriptors.cell_height) * max(1, step),
        )

    def scaled(self, factor: float) -> ObjectCells:
        """The same cells of the frame resized by a factor."""
        return replace(self, xy=grid_to_pixel(self.xy, factor), cell=self.cell * factor)


@dataclass(frozen=True, eq=False)
class PointMatches:
    """Points of one frame found in another.

    Attributes:
        xy: float32 (N, 2), pixels of the frame.
        source_xy: float32 (N, 2), pixels of the first frame.
        weight: float32 (N,), in (0, 1].
        cell: the scale of their error in pixels.
    """

    xy: npt.NDArray[np.float32]
    source_xy: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    cell: float


def match_cells(first: ObjectCells, frame: ObjectCells) -> PointMatches | None:
    """Every cell of the frame with its best cell in the first frame.

    A match weighs less the farther its way back ends from where it began.

    Returns:
        None if either frame shows no cell of the object.
    """
    if not len(first.xy) or not len(frame.xy):
        return None
    score = frame.queries @ first.rows.T
    there = score.argmax(dim=1)
    # On the way back the frame's own part of the colour distance, left out of `score`, counts: it
    # is the last channel of its rows.
    back = (score + frame.rows[:, -1:]).argmax(dim=0)[there]
    away = (frame.xy[back] - frame.xy).norm(dim=1) / frame.cell
    weight = 1 / (1 + (away / 1.5) ** 2) ** 2
    # Between cells: the mean of the best cell's neighbours, weighted by similarity.
    near = (first.xy[there][:, None] - first.xy[None]).abs().amax(dim=-1) <= 1.01 * first.cell
    lead = (score - score.amax(dim=1, keepdim=True)) / 0.05
    share = torch.softmax(lead.masked_fill(~near, -torch.inf), dim=1)
    found = share @ first.xy
    return PointMatches(
        frame.xy.cpu().numpy().astype(np.float32),
        found.cpu().numpy().astype(np.float32),
        weight.cpu().numpy().astype(np.float32),
        frame.cell,
    )
