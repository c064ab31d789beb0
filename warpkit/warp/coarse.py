"""A field found on a coarse lattice of the target, brought to its pixels.

In: the matches of lattice sites. Out: source coordinates at pixels. Only engines that compare all
pairs of sites need it: `dense_warp` coarsens both images where there are too many pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from warpkit.coords import lattice_sites, pixel_to_grid
from warpkit.match import filters
from warpkit.match.nearest_set import nearest_set
from warpkit.types import DescriptorMap, Sites

__all__ = ["LatticeField", "lattice_to_pixels"]

_SMOOTH_STEPS = 3.0  # neighbouring matches closer than this many lattice steps are interpolated


class LatticeField(NamedTuple):
    """Matches on a target lattice of R x C sites.

    Attributes:
        source_xy: float32 (R, C, 2), only meaningful where searched.
        searched: bool (R, C), sites inside the target mask.
        kept: bool (R, C), searched sites whose match passed the filters.
    """

    source_xy: Tensor
    searched: Tensor
    kept: Tensor

    @classmethod
    def of(cls, sites: Sites, matched_xy: Tensor, kept: Tensor) -> LatticeField:
        """The field of lattice sites (N), their matches (N, 2) and bool (N,) which to keep."""
        assert sites.lattice is not None and sites.index is not None
        rows, columns = sites.lattice
        source_xy = matched_xy.new_zeros(rows * columns, 2)
        source_xy[sites.index] = matched_xy
        searched = torch.zeros(rows * columns, dtype=torch.bool, device=kept.device)
        searched[sites.index] = True
        kept_sites = torch.zeros_like(searched)
        kept_sites[sites.index] = kept
        size = (rows, columns)
        return cls(source_xy.view(*size, 2), searched.view(size), kept_sites.view(size))


def lattice_to_pixels(
    field: LatticeField,
    pixels: Sites,
    source: DescriptorMap,
    target: DescriptorMap,
    source_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """A field on a lattice brought to pixels.

    It is interpolated where it is smooth; elsewhere a pixel takes the match of the nearest site,
    moved along with the pixel, unless that would leave the mask.

    Args:
        field: matches on a lattice of the target.
        pixels: N pixels of the target.
        source: map of the source image.
        target: map of the target image.
        source_mask: bool (source height, width), where matches may lie.

    Returns:
        Source coordinates float32 (N, 2) of `pixels`, and bool (N,) where they are valid.
    """
    rows, columns = field.searched.shape
    device = pixels.xy.device
    cell = torch.tensor([target.width / columns, target.height / rows], device=device)
    grid = pixel_to_grid(pixels.xy, cell)
    last = torch.tensor([columns - 1, rows - 1], device=device)

    # The nearest site, moved along with the pixel.
    home_u, home_v = torch.floor(grid + 0.5).long().clamp(min=0).minimum(last).unbind(1)
    nearest = nearest_set(field.searched)[home_v, home_u]
    own_match = field.source_xy.view(-1, 2)[nearest]
    valid = field.kept.view(-1)[nearest]
    sites = lattice_sites(
        height=target.height, width=target.width, rows=rows, columns=columns, device=device
    )
    ratio = torch.tensor(
        [source.width / target.width, source.height / target.height], device=device
    )
    source_xy = own_match + (pixels.xy - sites.xy[nearest]) * ratio

    # Between four sites whose matches lie close together: bilinear.
    corner = torch.floor(grid)
    a, b = (grid - corner).unbind(1)
    u, v = corner.long().clamp(min=0).unbind(1)
    spacing = max(source.width / columns, source.height / rows)
    smooth = _smooth_cells(field, _SMOOTH_STEPS * spacing)[v, u] & (corner >= 0).all(dim=1)
    u1, v1 = (u + 1).clamp(max=columns - 1), (v + 1).clamp(max=rows - 1)
    between = (
        field.source_xy[v, u] * ((1 - a) * (1 - b))[:, None]
        + field.source_xy[v, u1] * (a * (1 - b))[:, None]
        + field.source_xy[v1, u] * ((1 - a) * b)[:, None]
        + field.source_xy[v1, u1] * (a * b)[:, None]
    )
    source_xy = torch.where(smooth[:, None], between, source_xy)

    allowed = torch.ones(source.height, source.width, dtype=torch.bool, device=device)
    if source_mask is not None:
        allowed = source_mask.to(device)
    stays = filters.inside_mask(allowed, source_xy)
    return torch.where(stays[:, None], source_xy, own_match), valid


def _smooth_cells(field: LatticeField, limit: float) -> Tensor:
    """bool (R, C): site (v, u) and those right, below and diagonal are kept, with close matches.

    False in the last row and column, which have no such neighbours.
    """
    right = (field.source_xy[:, 1:] - field.source_xy[:, :-1]).norm(dim=-1) < limit
    below = (field.source_xy[1:] - field.source_xy[:-1]).norm(dim=-1) < limit
    kept = field.kept
    smooth = torch.zeros_like(kept)
    smooth[:-1, :-1] = (
        (right[:-1] & right[1:] & below[:, :-1] & below[:, 1:])
        & (kept[:-1, :-1] & kept[:-1, 1:] & kept[1:, :-1] & kept[1:, 1:])
    )  # fmt: skip
    return smooth
