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
from warpkit.coherent.pairs import mirror_x
from warpkit.coherent.point_reading import read_points
from warpkit.coords import sample_descriptors
from warpkit.match.matcher import exact_products
from warpkit.match.points import match_points
from warpkit.types import DescriptorMap, Matches

__all__ = ["FIELDS", "FieldMatches", "FieldName", "match_points_coherent", "points_config"]

FieldName = Literal["nearest", "coherent", "auto"]
FIELDS: tuple[FieldName, ...] = ("nearest", "coherent", "auto")

# `auto` leaves more to the descriptors the more a field costs, and all where it costs most. Chosen
# on CUB's training species and PF-WILLOW's cars and motorbikes.
_SURE = 0.055  # cost up to which a field is taken as it is
_GROWTH = 3.0  # reach of the descriptors for what a field costs more
_MOST_REACH = 0.1
_MOST_DOUBT = 0.14
_FOLD_PRICE = 0.1  # cost of a field that is folded all over


@dataclass(frozen=True, eq=False)
class FieldMatches:
    """Matched points and the field they went through.

    Attributes:
        matches: one match a point, k = 1.
        field: the field over the SOURCE image that leads to the target's pixels.
        chosen: `coherent`, or `nearest` where `auto` left the field out.
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

    The field is solved over the source (it is a warp whose target is the source image). `auto`
    takes its answer where coherence costs little cosine against nearest neighbours and little is
    folded. Where it costs more, each point takes the mean of the target's cells around that answer,
    weighed by how alike they are (`read_points`), farther around the more it costs; where it costs
    most, the most similar pixel. With guides the field decides.

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
    query = sample_descriptors(source, xy)
    if field == "auto" and guides is None:
        doubt = solved.cost + _FOLD_PRICE * solved.quality.folds / 100
        if doubt > _MOST_DOUBT:
            found = match_points(source, target, checked, target_mask=target_mask)
            return FieldMatches(found, solved, "nearest")
        seen = mirrored if solved.quality.mirrored else None
        reach = min(_MOST_REACH, _GROWTH * max(0.0, doubt - _SURE))
        with exact_products(query.device):
            places = _read(query, (target, seen), places, target_mask, reach)
    similarity = (query * sample_descriptors(target, places)).sum(dim=1).clamp(-1, 1)
    valid = torch.ones(len(xy), 1, dtype=torch.bool, device=xy.device)
    return FieldMatches(
        Matches(xy, places[:, None], similarity[:, None], valid), solved, "coherent"
    )


def _read(
    query: Tensor,
    maps: tuple[DescriptorMap, DescriptorMap | None],
    places: Tensor,
    mask: Tensor | None,
    reach: float,
) -> Tensor:
    """As `read_points`, in the target; in the mirrored one where the field was solved there."""
    target, mirrored = maps
    mask = None if mask is None else mask.to(query.device)
    if mirrored is None:
        return read_points(query, target, places, mask, reach)
    turned = mirror_x(places, target.width)
    mask = None if mask is None else mask.flip(1)
    return mirror_x(read_points(query, mirrored, turned, mask, reach), target.width)
