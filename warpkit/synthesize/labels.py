"""Pseudo-labels of a pair: dense matches inside masks, filtered, a few well spread ones chosen.

In: two descriptor maps and masks. Out: `MatchCandidates` with what every filter looks at, and
`Labels`. On known warps the same places have exact labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from warpkit.arrays import Mask, mask_box
from warpkit.checks import check_mask
from warpkit.coherent import CoherentField, FieldTask
from warpkit.coords import sample_bilinear
from warpkit.match.farthest import farthest_points
from warpkit.match.filters import (
    affine_residual,
    competing_similarity,
    cycle_distance,
    distance_ratio,
    inside_mask,
)
from warpkit.match.matcher import Matcher
from warpkit.match.pair import Window, search_pair
from warpkit.match.points import candidate_sites, default_matcher
from warpkit.synthesize.config import FilterConfig, PairLabelConfig
from warpkit.types import DescriptorMap, Sites

__all__ = [
    "FILTERS",
    "Labels",
    "MatchCandidates",
    "choose_labels",
    "exact_candidates",
    "filter_candidates",
    "find_candidates",
    "label_task",
    "object_side",
]


FILTERS = ("similarity", "cycle", "ratio", "flip", "coherence", "affine")
"""The filters in the order in which they run."""


@dataclass(frozen=True, eq=False)
class MatchCandidates:
    """Every match that was considered in a pair, on the CPU.

    Attributes:
        source_xy: float32 (N, 2), pixels of the source image.
        target_xy: float32 (N, 2), pixels of the target image.
        similarity: float32 (N,).
        cycle: float32 (N,), distance to which the way back leads, share of the source object.
        ratio: float32 (N,), see `warpkit.match.distance_ratio`.
        flip: float32 (N,), distance to the match in the mirrored target, share of the target
            object; 0 where that was not looked for.
        coherence: float32 (N,), distance to where the coherent field of the pair leads, share of
            the target object; 0 where that was not looked for.
        target_side: longer side of the target object in pixels.
    """

    source_xy: Tensor
    target_xy: Tensor
    similarity: Tensor
    cycle: Tensor
    ratio: Tensor
    flip: Tensor
    coherence: Tensor
    target_side: float

    def __len__(self) -> int:
        return len(self.source_xy)

    def rows(self, kept: Tensor) -> MatchCandidates:
        """The matches of a bool or index tensor."""
        columns = {
            column.name: getattr(self, column.name)[kept]
            for column in fields(self)
            if column.name != "target_side"
        }
        return MatchCandidates(**columns, target_side=self.target_side)


@dataclass(frozen=True, eq=False)
class Labels:
    """Corresponding points of a pair.

    Attributes:
        source_xy: float32 (K, 2), pixels of the source image.
        target_xy: float32 (K, 2), pixels of the target image.
        similarity: float32 (K,); None for exact labels.
        coherence: float32 (K,), see `MatchCandidates`; None for exact labels, without the filter.
        left: matches left after each step, `candidates` first, then every filter that is on.
    """

    source_xy: Tensor
    target_xy: Tensor
    similarity: Tensor | None
    coherence: Tensor | None
    left: Mapping[str, int]


def object_side(mask: Mask) -> float:
    """The longer side of a mask's box in pixels, at least 1."""
    x1, y1, x2, y2 = mask_box(mask)
    return max(x2 - x1, y2 - y1, 1.0)


def label_task(
    source: DescriptorMap,
    target: DescriptorMap,
    source_mask: Mask,
    target_mask: Mask,
    *,
    flipped: DescriptorMap | None = None,
) -> FieldTask:
    """What to solve for the coherent field that `find_candidates` takes: from source to target.

    A field gives places for the pixels of its target, so the roles are exchanged.

    Args:
        flipped: map of the target image mirrored left-right.
    """
    return FieldTask(
        source=target,
        target=source,
        mirrored=flipped,
        source_mask=torch.from_numpy(target_mask),
        target_mask=torch.from_numpy(source_mask),
    )


def find_candidates(
    source: DescriptorMap,
    target: DescriptorMap,
    source_mask: Mask,
    target_mask: Mask,
    *,
    flipped: DescriptorMap | None = None,
    field: CoherentField | None = None,
    stride: int | None = None,
    exclusion: float = 0.15,
    matcher: Matcher | None = None,
) -> MatchCandidates:
    """Match every place of the source object to its most similar target pixel.

    Args:
        source: map of the source image.
        target: map of the target image.
        source_mask: bool, of the source image's size, not empty.
        target_mask: bool, of the target image's size, not empty.
        flipped: map of the target image mirrored left-right.
        field: the solved `label_task` of the pair.
        stride: distance of the places in pixels; None is the descriptor's cell.
        exclusion: competitors lie farther than this from a match, as a share of the target object.
        matcher: engine of the search.

    Returns:
        The matches that were found.
    """
    for mask, at, name in ((source_mask, source, "source"), (target_mask, target, "target")):
        check_mask(mask, height=at.height, width=at.width, name=f"{name} mask")
    stride = stride or max(1, round(min(source.cell_height, source.cell_width)))
    queries = candidate_sites(source, torch.from_numpy(source_mask), factor=stride)
    keys = candidate_sites(target, torch.from_numpy(target_mask))
    matcher = matcher or default_matcher(source)
    found = search_pair(matcher, source, target, queries, keys, homes=queries, window=Window())
    assert found.returned is not None and found.refined is not None
    back = cycle_distance(queries.xy, queries.xy, found.returned)[:, 0]
    side = object_side(target_mask)
    target_xy = found.refined.xy[:, 0]
    cells = candidate_sites(
        target,
        torch.from_numpy(target_mask),
        factor=max(1, round(min(target.cell_height, target.cell_width))),
    )
    second = competing_similarity(
        source, target, queries.xy, target_xy, cells, exclusion_radius=exclusion * side
    )
    similarity = found.refined.similarity[:, 0]
    moved = torch.zeros_like(back)
    if flipped is not None:
        mirror = _mirrored_match(matcher, source, flipped, queries, target_mask)
        moved = (mirror - target_xy).norm(dim=1) / side
    apart = torch.zeros_like(back)
    if field is not None:
        apart = (field.at(queries.xy)[0] - target_xy).norm(dim=1) / side
    kept = found.forward.found[:, 0]
    return MatchCandidates(
        source_xy=queries.xy[kept].cpu(),
        target_xy=target_xy[kept].cpu(),
        similarity=similarity[kept].cpu(),
        cycle=(back / object_side(source_mask))[kept].cpu(),
        ratio=distance_ratio(similarity, second)[kept].cpu(),
        flip=moved[kept].cpu(),
        coherence=apart[kept].cpu(),
        target_side=side,
    )


def _mirrored_match(
    matcher: Matcher, source: DescriptorMap, flipped: DescriptorMap, queries: Sites, mask: Mask
) -> Tensor:
    """Matches (N, 2) in the mirrored target, mirrored back."""
    mirrored = torch.from_numpy(np.ascontiguousarray(mask[:, ::-1]))
    keys = candidate_sites(flipped, mirrored)
    found = search_pair(matcher, source, flipped, queries, keys, window=Window())
    assert found.refined is not None
    x, y = found.refined.xy[:, 0].unbind(1)
    return torch.stack([flipped.width - 1 - x, y], dim=1)


def filter_candidates(
    candidates: MatchCandidates, config: FilterConfig
) -> tuple[Tensor, dict[str, int]]:
    """Run the filters that are on, one after the other.

    Returns:
        bool (N,) of the matches that are kept, and how many were left after each step:
        `candidates`, then the filters by name.
    """
    kept = torch.ones(len(candidates), dtype=torch.bool)
    left = {"candidates": len(candidates)}
    for name in FILTERS:
        limit = getattr(config, name)
        if limit is None:
            continue
        kept = kept & _passes(candidates, name, limit, kept)
        left[name] = int(kept.sum())
    return kept, left


def _passes(candidates: MatchCandidates, name: str, limit: float, kept: Tensor) -> Tensor:
    if name == "similarity":
        return candidates.similarity >= limit
    if name != "affine":
        value: Tensor = getattr(candidates, name)
        return value <= limit
    # Only matches that the other filters trust speak for their neighbours.
    away = torch.full((len(candidates),), torch.inf)
    away[kept] = affine_residual(candidates.source_xy[kept], candidates.target_xy[kept])
    return away / candidates.target_side <= limit


def choose_labels(candidates: MatchCandidates, config: PairLabelConfig) -> Labels:
    """Filter matches and take at most `config.points` that are spread over the source object."""
    kept, left = filter_candidates(candidates, config.filters)
    rows = torch.nonzero(kept)[:, 0]
    rows = rows[farthest_points(candidates.source_xy[rows], config.points)]
    chosen = candidates.rows(rows)
    coherence = None if config.filters.coherence is None else chosen.coherence
    return Labels(chosen.source_xy, chosen.target_xy, chosen.similarity, coherence, left)


def exact_candidates(
    field: Tensor, source_mask: Mask, target_mask: Mask, *, stride: int
) -> tuple[Tensor, Tensor]:
    """Exact labels of a known warp at the places that `find_candidates` would match.

    Args:
        field: float (H, W, 2), for every pixel of the source (the bent image) the target pixel that
            it shows.
        source_mask: bool (H, W).
        target_mask: bool, of the target image's size.
        stride: distance of the places in pixels.

    Returns:
        Source and target points, float32 (N, 2) each, those that lie in both masks.
    """
    height, width = source_mask.shape
    blank = DescriptorMap.covering(torch.zeros(1, 1, 1), height=height, width=width)
    sites = candidate_sites(blank, torch.from_numpy(source_mask), factor=stride)
    target_xy = sample_bilinear(field.permute(2, 0, 1), sites.xy)
    inside = inside_mask(torch.from_numpy(target_mask), target_xy)
    return sites.xy[inside], target_xy[inside]
