"""The dense backward field: for every target pixel the source pixel that means the same.

In: two `DescriptorMap`s and their object masks. Out: a `Warp`.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from warpkit.checks import require
from warpkit.coords import lattice_sites, pixel_to_grid, sample_descriptors
from warpkit.match import filters
from warpkit.match.matcher import Matcher
from warpkit.match.points import candidate_sites, default_matcher
from warpkit.types import DescriptorMap, Sites, Warp

__all__ = ["dense_warp"]

_LOGGER = logging.getLogger("warpkit")
_BLOCK_FLOATS = 2**24  # descriptors of one block of pixels: 64 MB
_SMOOTH_STEPS = 3.0  # neighbouring matches closer than this many lattice steps are interpolated


def dense_warp(
    source: DescriptorMap,
    target: DescriptorMap,
    *,
    source_mask: Tensor | None = None,
    target_mask: Tensor | None = None,
    matcher: Matcher | None = None,
    max_pairs: float = 4e9,
    mutual: bool = False,
    cycle_distance: float | None = None,
    min_similarity: float | None = None,
) -> Warp:
    """Match every target pixel to its most similar source pixel.

    Convention: `source_xy[y, x]` is the (x, y) source pixel for target pixel (x, y). Every valid
    one rounds to a pixel inside `source_mask`; `valid` is `target_mask` less what filters reject.

    Where pixels times candidates exceed `max_pairs`, both images are searched on lattices that
    are coarser by one common factor, and the field found there is brought to every pixel:
    interpolated where it is smooth, else shifted from the nearest lattice site. The factor is
    logged by the logger `warpkit`.

    Args:
        source: map of the source image.
        target: map of the target image.
        source_mask: bool (source height, width), the candidates; None for the whole image.
        target_mask: bool (target height, width), the pixels to match; None for all.
        matcher: engine of the search; `match.points.default_matcher` if None.
        max_pairs: most query-candidate pairs to compare.
        mutual: reject matches whose own best target site is another one.
        cycle_distance: reject matches whose own best target site is farther than this, in pixels
            of the target.
        min_similarity: reject pixels whose cosine to their match is lower.

    Returns:
        `Warp` of the target's size, on the device of `target`.

    Raises:
        InputError: for a mask of another type or size or an empty one, maps that do not fit
            together, or a `max_pairs` below what the coarsest lattice needs.
    """
    factor, queries, keys = _sites_within(source, target, source_mask, target_mask, max_pairs)
    if factor > 1:
        _LOGGER.debug(
            "dense warp: one site for %d rows and columns (%d x %d sites, max_pairs %g)",
            *(factor, len(queries), len(keys), max_pairs),
        )
    matcher = matcher or default_matcher(target, queries=len(queries))
    forward = matcher.search(target, source, queries, keys)
    kept = forward.found[:, 0]
    if mutual or cycle_distance is not None:
        chosen, chosen_sites = filters.chosen_keys(forward, keys)
        backward = matcher.search(source, target, chosen_sites, queries)
        if mutual:
            kept = kept & filters.mutual_neighbours(chosen, backward)[:, 0]
        if cycle_distance is not None:
            returned = filters.round_trip(chosen, backward)
            away = filters.cycle_distance(queries.xy, queries.xy, returned)[:, 0]
            kept = kept & (away <= cycle_distance)
    matched_xy = keys.xy[forward.index[:, 0].clamp(min=0)]

    pixels = candidate_sites(target, target_mask, "target_mask")
    if queries.lattice == pixels.lattice:
        source_xy, found = matched_xy, kept
    else:
        field = _LatticeField.of(queries, matched_xy, kept)
        source_xy, found = _to_pixels(field, pixels, source, target, source_mask)
    similarity = _similarity(source, target, source_xy, pixels.xy)
    if min_similarity is not None:
        found = found & (similarity >= min_similarity)

    assert pixels.index is not None  # every pixel of an image is a lattice
    size = (target.height, target.width)
    row, column = pixels.index // target.width, pixels.index % target.width
    warp_xy = source_xy.new_zeros(*size, 2)
    warp_similarity = source_xy.new_zeros(size)
    valid = torch.zeros(size, dtype=torch.bool, device=source_xy.device)
    warp_xy[row, column] = source_xy * found[:, None]
    warp_similarity[row, column] = similarity * found
    valid[row, column] = found
    return Warp(warp_xy, warp_similarity, valid, source.height, source.width)


def _sites_within(
    source: DescriptorMap,
    target: DescriptorMap,
    source_mask: Tensor | None,
    target_mask: Tensor | None,
    max_pairs: float,
) -> tuple[int, Sites, Sites]:
    """The smallest factor, and its target and source sites, that needs at most `max_pairs`."""
    largest = max(source.height, source.width, target.height, target.width)
    for factor in range(1, largest + 1):
        queries = candidate_sites(target, target_mask, "target_mask", factor=factor)
        keys = candidate_sites(source, source_mask, "source_mask", factor=factor)
        if len(queries) * len(keys) <= max_pairs:
            break
    require(
        len(queries) * len(keys) <= max_pairs,
        f"max_pairs is {max_pairs:g} but even the coarsest lattices make"
        f" {len(queries) * len(keys)} pairs: allow more",
    )
    return factor, queries, keys


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


class _LatticeField(NamedTuple):
    """Matches on a target lattice of R x C sites."""

    source_xy: Tensor  # float32 (R, C, 2), only meaningful where searched
    searched: Tensor  # bool (R, C), sites inside the target mask
    kept: Tensor  # bool (R, C), searched sites whose match passed the filters

    @classmethod
    def of(cls, sites: Sites, matched_xy: Tensor, kept: Tensor) -> _LatticeField:
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


def _to_pixels(
    field: _LatticeField,
    pixels: Sites,
    source: DescriptorMap,
    target: DescriptorMap,
    source_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """A field on a lattice brought to pixels.

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
    nearest = _nearest_searched(field.searched)[home_v, home_u]
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


def _smooth_cells(field: _LatticeField, limit: float) -> Tensor:
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


def _nearest_searched(searched: Tensor) -> Tensor:
    """int64 (R, C): row-major index of the searched site nearest to every site."""
    import cv2

    # Distances are to the nearest zero; every zero gets a label of its own.
    _, label = cv2.distanceTransformWithLabels(
        (~searched).cpu().numpy().astype("uint8"),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    labels = torch.from_numpy(label).long().to(searched.device)
    site = labels.new_zeros(int(labels.max()) + 1)
    site[labels[searched]] = torch.nonzero(searched.flatten())[:, 0]
    return site[labels]
