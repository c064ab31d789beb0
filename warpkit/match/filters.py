"""Filters that keep or reject matches, and their sub-pixel refinement.

In: `Neighbours` or `Matches`. Out: masks, distances or new `Matches`; nothing is changed in place.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from warpkit.checks import require
from warpkit.coords import sample_descriptors, sample_nearest
from warpkit.match.matcher import Neighbours
from warpkit.types import DescriptorMap, Matches, Sites

__all__ = [
    "above_similarity",
    "affine_residual",
    "chosen_keys",
    "competing_similarity",
    "cycle_distance",
    "distance_ratio",
    "inside_mask",
    "ratio_test",
    "refine_subpixel",
    "round_trip",
]

_WINDOW_FLOATS = 2**24  # descriptors of one block of refinement windows: 64 MB
_SCORE_FLOATS = 2**24  # similarities of one block of queries: 64 MB
_REWEIGHTINGS = 4  # of the robust affine fit


def chosen_keys(forward: Neighbours, keys: Sites) -> tuple[Neighbours, Sites]:
    """The keys that at least one query chose, and the neighbours renumbered to them.

    A search back need only start from these.
    """
    used, row = torch.unique(forward.index.clamp(min=0), return_inverse=True)
    used_on_sites = used.to(keys.xy.device)
    sites = Sites(
        keys.xy[used_on_sites],
        keys.lattice,
        None if keys.index is None else keys.index[used_on_sites],
    )
    return replace(forward, index=torch.where(forward.found, row, -1)), sites


def round_trip(forward: Neighbours, backward: Neighbours) -> Tensor:
    """Where a match leads when it is followed back: query -> key -> best site of the key.

    Args:
        forward: (N, k), indices of M keys.
        backward: (M, any), what the keys found; only its best column is read.

    Returns:
        int64 (N, k), rows of the sites that `backward` searched; -1 where a step found nothing.
    """
    returned = backward.index[:, 0][forward.index.clamp(min=0)]
    return torch.where(forward.found, returned, -1)


def cycle_distance(start_xy: Tensor, returned_xy: Tensor, returned: Tensor) -> Tensor:
    """Distance in pixels between a start and the place the round trip leads back to.

    Convention: both in (x, y) pixels of the image in which the trip starts.

    Args:
        start_xy: (N, 2).
        returned_xy: (M, 2), the sites that the way back searched.
        returned: int64 (N, k), rows of `returned_xy` as `round_trip` gives them.

    Returns:
        float32 (N, k); infinite where nothing was found.

    Source: forward-backward error, Kalal et al., ICPR 2010.
    """
    distance = (returned_xy[returned.clamp(min=0)] - start_xy[:, None]).norm(dim=-1)
    return distance.masked_fill(returned < 0, torch.inf)


def above_similarity(matches: Matches, minimum: float) -> Matches:
    """Reject matches whose similarity is below `minimum`."""
    return replace(matches, valid=matches.valid & (matches.similarity >= minimum))


def ratio_test(matches: Matches, *, ratio: float, exclusion_radius: float) -> Matches:
    """Reject points whose best match is hardly better than a competing place.

    With d = 1 - cosine (half the squared distance of unit descriptors), all matches of a point
    are rejected unless `d_best <= ratio * d_second`. The second is the best valid match farther
    than `exclusion_radius` from the best one: the neighbours of a good match are good as well and
    are no competition. A point without a competitor among its k matches passes, so k must be
    large enough to reach beyond the radius.

    Args:
        ratio: largest allowed quotient, in (0, 1]; 0.64 is Lowe's 0.8 on unsquared distances.
        exclusion_radius: pixels of the target image.

    Raises:
        InputError: for k = 1 or a ratio outside (0, 1].

    Source: Lowe, IJCV 2004, section 7.1.
    """
    require(0 < ratio <= 1, f"ratio must be in (0, 1], got {ratio:g}")
    require(
        matches.similarity.shape[1] >= 2,
        "the ratio test compares the best match with others: search with k of 2 or more",
    )
    distance = 1 - matches.similarity
    apart = (matches.target_xy - matches.target_xy[:, :1]).norm(dim=-1) > exclusion_radius
    second = distance.masked_fill(~(apart & matches.valid), torch.inf).min(dim=1).values
    passed = distance[:, 0] <= ratio * second
    return replace(matches, valid=matches.valid & passed[:, None])


def distance_ratio(best: Tensor, second: Tensor) -> Tensor:
    """d_best / d_second of similarities (N,), with d = 1 - cosine as in `ratio_test`.

    Where there is no second (minus infinity) the ratio is 0; two perfect matches give 1.
    """
    first, other = (1 - best).clamp(min=0), (1 - second).clamp(min=0)
    return torch.where(other > 0, first / other, torch.ones_like(first))


def competing_similarity(
    query: DescriptorMap,
    key: DescriptorMap,
    query_xy: Tensor,
    key_xy: Tensor,
    keys: Sites,
    *,
    exclusion_radius: float,
) -> Tensor:
    """The similarity of every query's best competitor: the best key far from its match.

    Args:
        query: map in which `query_xy` are read.
        key: map in which `keys` are read.
        query_xy: (N, 2), pixels of the query image.
        key_xy: (N, 2), the match of every query in pixels of the key image.
        keys: candidates; a lattice of one site a cell is fine enough.
        exclusion_radius: pixels of the key image around a match that are no competition.

    Returns:
        float32 (N,); minus infinity where no candidate is far enough.
    """
    rows = sample_descriptors(key, keys.xy)  # (M, C)
    block = max(1, _SCORE_FLOATS // len(keys))
    parts = []
    for start in range(0, len(query_xy), block):
        end = start + block
        score = sample_descriptors(query, query_xy[start:end]) @ rows.T
        near = torch.cdist(key_xy[start:end], keys.xy) <= exclusion_radius
        parts.append(score.masked_fill(near, -torch.inf).max(dim=1).values)
    return torch.cat(parts)


def affine_residual(source_xy: Tensor, target_xy: Tensor, *, neighbours: int = 12) -> Tensor:
    """How far every match lies from where its neighbours' own motion would take it.

    An affine map is fitted to the nearest other matches (in the source) by least absolute
    deviations, and applied to the match's source point.

    Args:
        source_xy: (N, 2), pixels of the source image.
        target_xy: (N, 2), pixels of the target image.
        neighbours: how many other matches are asked; at least 4.

    Returns:
        float32 (N,), pixels of the target image; infinite where there are under four others, which
        say nothing.

    Raises:
        InputError: fewer than 4 neighbours asked for.

    Source: local consistency of matches, e.g. Ma et al., Locality Preserving Matching, IJCV 2019;
    least absolute deviations by iteratively reweighted least squares.
    """
    require(neighbours >= 4, f"an affine fit needs 4 neighbours or more, got {neighbours}")
    count = len(source_xy)
    if count < 5:
        return torch.full((count,), torch.inf, device=source_xy.device)
    source, target = source_xy.double(), target_xy.double()
    distance = torch.cdist(source, source)
    distance.fill_diagonal_(torch.inf)
    near = distance.topk(min(neighbours, count - 1), largest=False).indices  # (N, k)
    offset = source[near] - source[:, None]
    scale = offset.norm(dim=-1).mean(dim=1).clamp(min=1e-6)[:, None, None]
    design = torch.cat([offset / scale, torch.ones_like(offset[..., :1])], dim=-1)  # (N, k, 3)
    moved = target[near] - target[:, None]  # the match itself is at 0 on both sides
    weight = torch.ones_like(moved[..., :1])
    # Neighbours on one line leave a direction free: it is then taken as it is least.
    ridge = 1e-6 * torch.eye(3, dtype=torch.float64, device=source.device)
    fitted = moved.new_zeros(count, 3, 2)
    for _ in range(_REWEIGHTINGS):
        normal = design.transpose(1, 2) @ (weight * design) + ridge
        fitted = torch.linalg.solve(normal, design.transpose(1, 2) @ (weight * moved))
        error = (design @ fitted - moved).norm(dim=-1, keepdim=True)
        typical = error.median(dim=1, keepdim=True).values.clamp(min=1e-3)
        weight = 1 / (error / typical).clamp(min=1e-2)
    return fitted[:, 2].norm(dim=-1).float()


def refine_subpixel(
    matches: Matches,
    source: DescriptorMap,
    target: DescriptorMap,
    *,
    target_mask: Tensor | None = None,
    radius: int = 3,
    temperature: float = 0.02,
) -> Matches:
    """Move every match to the soft-argmax of the similarity in a window around it.

    Convention: the window holds the (2 * radius + 1)^2 pixels around the match; pixels outside
    the image or `target_mask` have weight exactly 0 (their score is minus infinity). A match
    that would leave the mask by this (the mean of a bent region can) stays where it was.

    Args:
        matches: matches at target pixels.
        source: map of the source image.
        target: map of the target image.
        target_mask: bool (target height, width), the candidates of the search.
        radius: pixels of the target image.
        temperature: of the softmax over cosines; towards 0 it becomes the argmax.

    Returns:
        Matches with new `target_xy` and the similarity found there.

    Raises:
        InputError: if `radius` or `temperature` is not positive.

    Source: window soft-argmax, Bulat et al., Subpixel Heatmap Regression, BMVC 2021; for
    diffusion features Zhang et al., Telling Left from Right, CVPR 2024.
    """
    require(radius >= 1, f"radius must be at least 1 pixel, got {radius}")
    require(temperature > 0, f"temperature must be positive, got {temperature:g}")
    device = target.data.device
    if target_mask is None:
        allowed = torch.ones(target.height, target.width, dtype=torch.bool, device=device)
    else:
        allowed = target_mask.to(device)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    offsets = torch.cartesian_prod(steps, steps).flip(-1)  # (window, 2), row-major, (x, y)

    target_xy, similarity = matches.target_xy.clone(), matches.similarity.clone()
    points, ranks = torch.nonzero(matches.valid, as_tuple=True)
    block = max(1, _WINDOW_FLOATS // (target.channels * len(offsets)))
    for start in range(0, len(points), block):
        point, rank = points[start : start + block], ranks[start : start + block]
        at = matches.target_xy[point, rank]
        pixel = torch.floor(at + 0.5)
        window = pixel[:, None] + offsets
        query = sample_descriptors(source, matches.source_xy[point])
        rows = sample_descriptors(target, window.flatten(0, 1)).unflatten(0, window.shape[:2])
        score = torch.einsum("nc,nwc->nw", query, rows) / temperature
        score = score.masked_fill(~inside_mask(allowed, window), -torch.inf)
        mean = (score.softmax(dim=1)[..., None] * window).sum(dim=1)
        # A window without an allowed pixel has no mean (NaN); inside_mask is False there.
        moved = torch.where(inside_mask(allowed, mean)[:, None], mean, at)
        target_xy[point, rank] = moved
        cosine = (query * sample_descriptors(target, moved)).sum(dim=1)
        similarity[point, rank] = cosine.clamp(-1, 1)
    return replace(matches, target_xy=target_xy, similarity=similarity)


def inside_mask(mask: Tensor, xy: Tensor) -> Tensor:
    """bool (...): points (..., 2) that round to a pixel of the image that is set in `mask`."""
    height, width = mask.shape
    column, row = torch.floor(xy + 0.5).unbind(-1)
    on_image = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return on_image & sample_nearest(mask, xy.flatten(0, -2).nan_to_num()).view(on_image.shape)
