"""The dense backward field: for every target pixel the source pixel that means the same.

In: two `DescriptorMap`s and their object masks. Out: a `Warp`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from warpkit.checks import require
from warpkit.coords import sample_descriptors
from warpkit.match.filters import cycle_distance, refine_subpixel
from warpkit.match.matcher import Matcher
from warpkit.match.pair import Window, search_many, search_pair
from warpkit.match.points import candidate_sites, checked_mask, default_matcher
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap, Matches, Sites, Warp
from warpkit.warp.coarse import LatticeField, lattice_to_pixels

__all__ = ["dense_warp", "dense_warps"]

_LOGGER = logging.getLogger("warpkit")
_BLOCK_FLOATS = 2**24  # descriptors of one block of pixels: 64 MB


def dense_warp(
    source: DescriptorMap,
    target: DescriptorMap,
    *,
    source_mask: Tensor | None = None,
    target_mask: Tensor | None = None,
    matcher: Matcher | None = None,
    filters: MatchFilters | None = None,
) -> Warp:
    """Match every target pixel to its most similar source pixel.

    Convention: `source_xy[y, x]` is the (x, y) source pixel for target pixel (x, y). Every valid
    one rounds to a pixel inside `source_mask`; `valid` is `target_mask` less what filters reject.

    An engine that compares all pairs of pixels (`Matcher.exhaustive`) cannot do so for whole
    photographs. Where pixels times candidates exceed `filters.max_pairs`, it searches on lattices
    that are coarser by one common factor in both images, and the field found there is brought to
    every pixel: interpolated where it is smooth, else shifted from the nearest lattice site. The
    factor is logged by the logger `warpkit`. The default engine `grid` needs none of this.

    Args:
        source: map of the source image.
        target: map of the target image.
        source_mask: bool (source height, width), the candidates; None for the whole image.
        target_mask: bool (target height, width), the pixels to match; None for all.
        matcher: engine of the search; `match.points.default_matcher` if None.
        filters: which matches count; distances are in pixels of the target.

    Returns:
        `Warp` of the target's size, on the device of `target`.

    Raises:
        InputError: for a mask of another type or size or an empty one, maps that do not fit
            together, or a `max_pairs` below what the coarsest lattice needs.
    """
    matcher = matcher or default_matcher(target)
    filters = filters or MatchFilters()
    source_mask = checked_mask(source, source_mask, "source_mask")
    target_mask = checked_mask(target, target_mask, "target_mask")
    queries, keys = _sites(matcher, source, target, source_mask, target_mask, filters.max_pairs)
    whole = queries.lattice == (target.height, target.width)
    pixels = queries if whole else candidate_sites(target, target_mask)
    found = search_pair(
        matcher,
        target,
        source,
        queries,
        keys,
        homes=queries if filters.looks_back else None,
        window=Window() if filters.subpixel and whole else None,
    )
    kept = found.forward.found[:, 0]
    if found.returned is not None:
        returned = found.returned
        if filters.mutual:
            home = torch.arange(len(queries), device=returned.device)
            kept = kept & (returned[:, 0] == home)
        if filters.cycle_distance is not None:
            away = cycle_distance(queries.xy, queries.xy, returned)[:, 0]
            kept = kept & (away <= filters.cycle_distance)
    source_xy = keys.xy[found.forward.index[:, 0].clamp(min=0)]
    similarity = found.forward.similarity[:, 0]
    if found.refined is not None:
        source_xy, similarity = found.refined.xy[:, 0], found.refined.similarity[:, 0]
    if not whole:
        field = LatticeField.of(queries, source_xy, kept)
        source_xy, kept = lattice_to_pixels(field, pixels, source, target, source_mask)
        similarity = _similarity(source, target, source_xy, pixels.xy)
        if filters.subpixel:
            coarse = Matches(pixels.xy, source_xy[:, None], similarity[:, None], kept[:, None])
            fine = refine_subpixel(coarse, target, source, target_mask=source_mask)
            source_xy, similarity = fine.target_xy[:, 0], fine.similarity[:, 0]
    if filters.min_similarity is not None:
        kept = kept & (similarity >= filters.min_similarity)
    return _warp(source, target, pixels, source_xy, similarity, kept)


def dense_warps(
    source: DescriptorMap,
    targets: Sequence[DescriptorMap],
    *,
    source_mask: Tensor | None = None,
    matcher: Matcher | None = None,
    filters: MatchFilters | None = None,
) -> list[Warp]:
    """`dense_warp` from one source to many targets: the frames of a clip.

    The engine `grid` does the work on the source once and searches frames of one size together.

    Args:
        source: map of the source image.
        targets: maps of the target images, all of whose pixels are matched.
        source_mask: bool (source height, width), the candidates; None for the whole image.
        matcher: engine of the search; `match.points.default_matcher` if None.
        filters: see `dense_warp`.

    Returns:
        One `Warp` per target, in order, on the targets' device.

    Raises:
        InputError: as `dense_warp` does.
    """
    matcher = matcher or default_matcher(source)
    filters = filters or MatchFilters()
    if matcher.exhaustive or filters.looks_back or filters.subpixel:
        return [
            dense_warp(source, target, source_mask=source_mask, matcher=matcher, filters=filters)
            for target in targets
        ]
    keys = candidate_sites(source, checked_mask(source, source_mask, "source_mask"))
    pixels = [candidate_sites(target) for target in targets]
    warps = []
    for target, sites, found in zip(
        targets,
        pixels,
        search_many(matcher, list(zip(targets, pixels, strict=True)), source, keys),
        strict=True,
    ):
        similarity, kept = found.similarity[:, 0], found.found[:, 0]
        if filters.min_similarity is not None:
            kept = kept & (similarity >= filters.min_similarity)
        source_xy = keys.xy[found.index[:, 0].clamp(min=0)]
        warps.append(_warp(source, target, sites, source_xy, similarity, kept))
    return warps


def _sites(
    matcher: Matcher,
    source: DescriptorMap,
    target: DescriptorMap,
    source_mask: Tensor | None,
    target_mask: Tensor | None,
    max_pairs: float,
) -> tuple[Sites, Sites]:
    """Target and source sites: pixels, or lattices with at most `max_pairs` pairs.

    The lattices are coarser by the smallest factor that does.
    """
    largest = max(source.height, source.width, target.height, target.width)
    for factor in range(1, largest + 1):
        queries = candidate_sites(target, target_mask, factor=factor)
        keys = candidate_sites(source, source_mask, factor=factor)
        if not matcher.exhaustive or len(queries) * len(keys) <= max_pairs:
            break
    else:
        require(
            False,
            f"max_pairs is {max_pairs:g} but even the coarsest lattices make"
            f" {len(queries) * len(keys)} pairs: allow more",
        )
    if factor > 1:
        _LOGGER.debug(
            "dense warp: one site for %d rows and columns (%d x %d sites, max_pairs %g)",
            *(factor, len(queries), len(keys), max_pairs),
        )
    return queries, keys


def _warp(
    source: DescriptorMap,
    target: DescriptorMap,
    pixels: Sites,
    source_xy: Tensor,
    similarity: Tensor,
    valid: Tensor,
) -> Warp:
    """A warp from the matches of N pixels of the target: (N, 2), (N,) and bool (N,)."""
    assert pixels.index is not None
    size = (target.height, target.width)
    row, column = pixels.index // target.width, pixels.index % target.width
    warp_xy = source_xy.new_zeros(*size, 2)
    warp_similarity = source_xy.new_zeros(size)
    warp_valid = torch.zeros(size, dtype=torch.bool, device=source_xy.device)
    warp_xy[row, column] = source_xy * valid[:, None]
    warp_similarity[row, column] = similarity * valid
    warp_valid[row, column] = valid
    return Warp(warp_xy, warp_similarity, warp_valid, source.height, source.width)


def _similarity(
    source: DescriptorMap, target: DescriptorMap, source_xy: Tensor, target_xy: Tensor
) -> Tensor:
    """Cosine of source and target descriptors at paired points (N, 2): float32 (N,)."""
    block = max(1, _BLOCK_FLOATS // source.channels)
    parts = []
    for start in range(0, len(source_xy), block):
        rows = sample_descriptors(source, source_xy[start : start + block])
        rows = rows * sample_descriptors(target, target_xy[start : start + block])
        parts.append(rows.sum(dim=1).clamp(-1.0, 1.0))
    return torch.cat(parts)
