"""Keypoint matching: for points of a source image the best pixels of a target image.

In: two `DescriptorMap`s, points and optional masks. Out: `Matches`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from warpkit.checks import check_points, require
from warpkit.coords import lattice_sites, point_sites
from warpkit.match.filters import (
    above_similarity,
    chosen_keys,
    cycle_distance,
    inside_mask,
    refine_subpixel,
    round_trip,
)
from warpkit.match.grid.contenders import contending_pixels
from warpkit.match.matcher import Matcher, Neighbours, create_matcher
from warpkit.match.pair import Window, search_pair
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap, Matches, Sites

__all__ = ["candidate_sites", "checked_mask", "default_matcher", "match_points"]

# Up to here building an index costs more than FAISS's search saves (measured on two CPU cores,
# 410,000 candidates, 128 channels).
_FEW_QUERIES = 256

# To compare so few points with pixels whose descriptors have so many values together takes less
# time than to load the compiled loops (0.3 s for 320 x 192 pixels of 256 channels on one core).
_FEW_POINTS = 64
_FEW_VALUES = 2**25

# In images of more pixels than this, so many points at a time are matched among the pixels that can
# be the best of one of them. A point leaves about 0.3 % of the pixels: for more points than the
# last, one plan of all pixels takes less time.
_LARGE = 2**20
_FEW = 32
_MOST_APART = 512


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
    xy = torch.from_numpy(checked).to(source.data.device)
    filters = filters or MatchFilters()
    matcher = matcher or default_matcher(target, queries=len(xy), k=k)
    there = checked_mask(target, target_mask, "target_mask")
    here = checked_mask(source, source_mask, "source_mask") if filters.looks_back else None
    pixels = max(item.height * item.width for item in (source, target))
    if k > 1 or matcher.exhaustive or pixels <= _LARGE or len(xy) > _MOST_APART:
        return _match(source, target, xy, there, here, k, matcher, filters)
    parts = [
        _match_few(source, target, part, there, here, matcher, filters) for part in xy.split(_FEW)
    ]
    return Matches(*(torch.cat([getattr(p, name.name) for p in parts]) for name in fields(Matches)))


def _match(
    source: DescriptorMap,
    target: DescriptorMap,
    xy: Tensor,
    target_mask: Tensor | None,
    source_mask: Tensor | None,
    k: int,
    matcher: Matcher,
    filters: MatchFilters,
) -> Matches:
    """The matches of points among all pixels."""
    keys = candidate_sites(target, target_mask)
    homes = candidate_sites(source, source_mask) if filters.looks_back else None
    window = Window() if filters.subpixel else None
    queries = point_sites(xy)
    found = search_pair(matcher, source, target, queries, keys, k=k, homes=homes, window=window)
    matches = _kept(xy, keys, found.forward, homes, found.returned, source, filters)
    if found.refined is not None:
        matches = replace(matches, target_xy=found.refined.xy, similarity=found.refined.similarity)
    return _similar(matches, filters)


def _match_few(
    source: DescriptorMap,
    target: DescriptorMap,
    xy: Tensor,
    target_mask: Tensor | None,
    source_mask: Tensor | None,
    matcher: Matcher,
    filters: MatchFilters,
) -> Matches:
    """The same among the pixels that a bound leaves, without any table of all pixels."""
    keys = contending_pixels(source, target, xy, target_mask)
    forward = matcher.search(source, target, point_sites(xy), keys)
    homes = returned = None
    if filters.looks_back:
        chosen, places = chosen_keys(forward, keys)
        homes = contending_pixels(target, source, places.xy, source_mask)
        returned = round_trip(chosen, matcher.search(target, source, places, homes))
    matches = _kept(xy, keys, forward, homes, returned, source, filters)
    if filters.subpixel:
        every = replace(matches, valid=forward.found)
        window = Window()
        refined = refine_subpixel(
            every,
            source,
            target,
            target_mask=target_mask,
            radius=window.radius,
            temperature=window.temperature,
        )
        matches = replace(refined, valid=matches.valid)
    return _similar(matches, filters)


def _kept(
    xy: Tensor,
    keys: Sites,
    forward: Neighbours,
    homes: Sites | None,
    returned: Tensor | None,
    source: DescriptorMap,
    filters: MatchFilters,
) -> Matches:
    """Matches at whole pixels, valid where the way back ends as the filters ask."""
    valid = forward.found
    if homes is not None and returned is not None:
        if filters.mutual:
            # The pixel that holds a point; one on the far edge of the image belongs to the last.
            limit = torch.tensor([source.width - 1, source.height - 1], device=xy.device)
            home = torch.minimum(torch.floor(xy + 0.5), limit)
            valid = valid & (cycle_distance(home, homes.xy, returned) == 0)
        if filters.cycle_distance is not None:
            valid = valid & (cycle_distance(xy, homes.xy, returned) <= filters.cycle_distance)
    target_xy = keys.xy[forward.index.clamp(min=0)] * forward.found[..., None]
    return Matches(xy, target_xy, forward.similarity, valid)


def _similar(matches: Matches, filters: MatchFilters) -> Matches:
    if filters.min_similarity is None:
        return matches
    return above_similarity(matches, filters.min_similarity)


def default_matcher(
    descriptors: DescriptorMap, *, queries: int | None = None, k: int = 1
) -> Matcher:
    """The engine used where none is given.

    `grid` for the best match of every query, but `reference` for a few points in a small image. For
    more matches than one: `reference` for few queries and for maps on a GPU, where it is fast;
    otherwise `faiss` if it is installed. They give the same matches up to ties within float
    rounding.

    Args:
        descriptors: map of the candidates.
        queries: places to search for; None for a dense field's.
        k: matches per query.
    """
    if k == 1:
        values = descriptors.height * descriptors.width * descriptors.channels
        few = queries is not None and queries <= _FEW_POINTS and values <= _FEW_VALUES
        return create_matcher("reference" if few else "grid")
    few = (queries is not None and queries <= _FEW_QUERIES) or descriptors.data.device.type != "cpu"
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
