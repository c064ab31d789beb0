"""Keypoint matching: for points of a source image the best pixels of a target image.

In: two `DescriptorMap`s, points and optional masks. Out: `Matches`.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from warpkit.checks import check_points, require
from warpkit.coords import lattice_sites, point_sites
from warpkit.match.filters import above_similarity, cycle_distance, inside_mask
from warpkit.match.matcher import Matcher, create_matcher
from warpkit.match.pair import Window, search_pair
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap, Matches, Sites

__all__ = ["candidate_sites", "checked_mask", "default_matcher", "match_points"]

# Up to here building an index costs more than FAISS's search saves (measured on two CPU cores,
# 410,000 candidates, 128 channels).
_FEW_QUERIES = 256


def match_points(
    source: DescriptorMap,
    target: DescriptorMap,
    points: Any,
    *,
    target_mask: Tensor | None = None,
    source_mask: Tensor | None = None,
    k: int = 1,
    matcher: Matcher | None = None,
    filters: MatchFilters | None = None,
) -> Matches:
    """The k most similar target pixels of every source point.

    Convention: points are (x, y) pixels of the source image, read exactly where they are (sub-
    pixel); candidates are the target's pixels, so matches are whole pixels unless `subpixel`.

    Args:
        source: map of the source image.
        target: map of the target image.
        points: (N, 2), tensor, array or list.
        target_mask: bool (target height, width); restricts the candidates.
        source_mask: bool (source height, width); restricts where the way back may lead to.
        k: matches per point.
        matcher: engine of the search; `default_matcher` if None.
        filters: which matches count, and whether they are refined; `mutual` asks that the way back
            ends at the pixel that holds the point.

    Returns:
        `Matches` (N, k) on the device of `source`; rejected ones are not `valid`.

    Raises:
        InputError: for points outside the source, a mask of another size, an empty mask, or maps
            that do not fit together.
    """
    if isinstance(points, Tensor):
        points = points.detach().cpu().numpy()
    checked = check_points(points, height=source.height, width=source.width)
    queries = point_sites(torch.from_numpy(checked).to(source.data.device))
    keys = candidate_sites(target, checked_mask(target, target_mask, "target_mask"))
    homes = None
    filters = filters or MatchFilters()
    if filters.looks_back:
        homes = candidate_sites(source, checked_mask(source, source_mask, "source_mask"))
    found = search_pair(
        matcher or default_matcher(source, queries=len(queries), k=k),
        source,
        target,
        queries,
        keys,
        k=k,
        homes=homes,
        window=Window() if filters.subpixel else None,
    )
    valid = found.forward.found
    if homes is not None and found.returned is not None:
        if filters.mutual:
            # The pixel that holds a point; one on the far edge of the image belongs to the last.
            limit = torch.tensor([source.width - 1, source.height - 1], device=queries.xy.device)
            home = torch.minimum(torch.floor(queries.xy + 0.5), limit)
            valid = valid & (cycle_distance(home, homes.xy, found.returned) == 0)
        if filters.cycle_distance is not None:
            away = cycle_distance(queries.xy, homes.xy, found.returned)
            valid = valid & (away <= filters.cycle_distance)
    target_xy = keys.xy[found.forward.index.clamp(min=0)] * found.forward.found[..., None]
    similarity = found.forward.similarity
    if found.refined is not None:
        target_xy, similarity = found.refined.xy, found.refined.similarity
    matches = Matches(queries.xy, target_xy, similarity, valid)
    if filters.min_similarity is not None:
        matches = above_similarity(matches, filters.min_similarity)
    return matches


def default_matcher(descriptors: DescriptorMap, *, queries: int = 1, k: int = 1) -> Matcher:
    """The engine used where none is given.

    `grid` for the best match of every query. For more than one: `reference` for few queries and
    for maps on a GPU, where it is fast; otherwise `faiss` if it is installed. They give the same
    matches up to ties within float rounding.
    """
    if k == 1:
        return create_matcher("grid")
    few = queries <= _FEW_QUERIES or descriptors.data.device.type != "cpu"
    if few or importlib.util.find_spec("faiss") is None:
        return create_matcher("reference")
    return create_matcher("faiss")


def checked_mask(descriptors: DescriptorMap, mask: Tensor | None, name: str) -> Tensor | None:
    """A mask of an image, on the device of its map.

    Args:
        mask: bool (height, width) of the image on any device, or None for all of it.
        name: what the mask is called in errors.

    Raises:
        InputError: for a mask that is no bool tensor, has another size, or is empty.
    """
    if mask is None:
        return None
    height, width = descriptors.height, descriptors.width
    require(
        isinstance(mask, Tensor) and mask.dtype == torch.bool,
        f"{name} must be a bool tensor (height, width), got {getattr(mask, 'dtype', type(mask))}",
    )
    require(
        tuple(mask.shape) == (height, width),
        f"{name} is {' x '.join(map(str, mask.shape))} (height x width) but its image is {height} x"
        f" {width}: give a mask of the image's own size",
    )
    mask = mask.to(descriptors.data.device)
    require(
        bool(mask.any()),
        f"{name} is empty (no pixel is set): give a mask that covers the object",
    )
    return mask


def candidate_sites(
    descriptors: DescriptorMap, mask: Tensor | None = None, *, factor: int = 1
) -> Sites:
    """The places of an image that take part in a search, on the device of its map.

    Args:
        mask: bool (height, width) of the image, with a pixel that is set, or None for all of it.
            Every site rounds to a pixel that is set.
        factor: one site per block of about `factor` x `factor` pixels.
    """
    height, width, device = descriptors.height, descriptors.width, descriptors.data.device
    rows, columns = -(-height // factor), -(-width // factor)
    sites = lattice_sites(
        height=height, width=width, rows=rows, columns=columns, mask=mask, device=device
    )
    if mask is None:
        return sites
    # A site halfway between two pixels may round to one of them in float64, where the lattice is
    # made, and to the other in float32.
    inside = inside_mask(mask.to(device), sites.xy)
    if not bool(inside.any()):
        return lattice_sites(height=height, width=width, mask=mask, device=device)
    if not bool(inside.all()) and sites.index is not None:
        return Sites(sites.xy[inside], sites.lattice, sites.index[inside])
    return sites
