"""Points through a coherent field, and the choice between it and nearest neighbours.

In: descriptor maps of two images and points of the source. Out: one match a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from warpkit.checks import check_points, one_of
from warpkit.coherent.config import CoherentConfig, Mirror
from warpkit.coherent.field import CoherentField, coherent_field
from warpkit.coherent.guides import Guides
from warpkit.coords import sample_descriptors
from warpkit.match.points import match_points
from warpkit.types import DescriptorMap, Matches

__all__ = ["FIELDS", "FieldMatches", "FieldName", "match_points_coherent", "points_config"]

FieldName = Literal["nearest", "coherent", "auto"]
FIELDS: tuple[FieldName, ...] = ("nearest", "coherent", "auto")

# `auto` prefers pixels where cost + _FOLD_PRICE * share of folds + _FAR_PRICE * share of far points
# is above _MOST_DOUBT: chosen on CUB's training species and every second pair of PF-WILLOW here.
_MOST_DOUBT = 0.09
_FOLD_PRICE = 0.1
_FAR_PRICE = 0.025
_FAR = 0.1  # of the target's longer side, between a point's nearest neighbour and its place


@dataclass(frozen=True, eq=False)
class FieldMatches:
    """Matched points and the field they went through.

    Attributes:
        matches: one match a point, k = 1.
        field: the field over the SOURCE image that leads to the target's pixels.
        chosen: `coherent`, or `nearest` where `auto` trusted the pixels more.
    """

    matches: Matches
    field: CoherentField
    chosen: FieldName


def points_config(mirror: Mirror = "auto") -> CoherentConfig:
    """The settings for points: sides have names (a left eye), so that a mirrored image must be much
    more alike, and layers stay apart, as points fall on one or the other.
    """
    return CoherentConfig(
        mirror=mirror,
        mirror_margin=0.05,
        mirror_evidence=0.0,
        channels=96,
        layers=3,
        layer_price=0.02,
        merge=False,
    )


def match_points_coherent(
    source: DescriptorMap,
    target: DescriptorMap,
    points: Any,
    *,
    mirrored: DescriptorMap | None = None,
    source_mask: Tensor | None = None,
    target_mask: Tensor | None = None,
    guides: Guides | None = None,
    field: FieldName = "coherent",
    config: CoherentConfig | None = None,
) -> FieldMatches:
    """Where a coherent field leads points of the source.

    The field is solved over the source (it is a warp whose target is the source image). With
    `auto` it is used where coherence costs little cosine against nearest neighbours, little is
    folded, and few points' nearest neighbours lie far from it; else every point takes the most
    similar pixel.

    Args:
        source: map of the source image.
        target: map of the target image.
        points: (N, 2), (x, y) pixels of the source, also between pixels.
        mirrored: map of the TARGET image mirrored left-right (see `FieldTask.mirrored`).
        source_mask: bool (source height, width).
        target_mask: bool (target height, width), the only pixels that are candidates.
        guides: pairs of points, source first.
        field: `coherent` or `auto`.
        config: how to solve; `points_config()` if None.

    Raises:
        InputError: points outside the source, masks or maps that do not fit.
    """
    one_of(field, ("coherent", "auto"), "field")
    if isinstance(points, Tensor):
        points = points.detach().cpu().numpy()
    checked = check_points(points, height=source.height, width=source.width)
    xy = torch.from_numpy(checked).to(source.data.device)
    turned = None if guides is None else Guides(guides.target_xy, guides.source_xy)
    solved = coherent_field(
        target,
        source,
        mirrored=mirrored,
        source_mask=target_mask,
        target_mask=source_mask,
        guides=turned,
        config=config or points_config(),
    )
    places, _ = solved.at(xy)
    doubt = solved.cost + _FOLD_PRICE * solved.quality.folds / 100
    # Nearest neighbours are asked only where they can change the choice.
    if field == "auto" and guides is None and doubt + _FAR_PRICE > _MOST_DOUBT:
        found = match_points(source, target, checked, target_mask=target_mask)
        apart = (found.target_xy[:, 0] - places).norm(dim=1) / max(target.height, target.width)
        far = float((apart > _FAR).float().mean())
        if doubt + _FAR_PRICE * far > _MOST_DOUBT:
            return FieldMatches(found, solved, "nearest")
    alike = sample_descriptors(source, xy) * sample_descriptors(target, places)
    similarity = alike.sum(dim=1).clamp(-1, 1)
    valid = torch.ones(len(xy), 1, dtype=torch.bool, device=xy.device)
    return FieldMatches(
        Matches(xy, places[:, None], similarity[:, None], valid), solved, "coherent"
    )
