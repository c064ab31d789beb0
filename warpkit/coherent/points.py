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
from warpkit.coherent.point_reading import CLOSELY, LOOSELY, Reading, read_points
from warpkit.coords import sample_descriptors
from warpkit.match.matcher import exact_products
from warpkit.match.points import match_points
from warpkit.types import DescriptorMap, Matches

__all__ = ["FIELDS", "FieldName", "FieldMatches", "match_points_coherent", "points_config"]

FieldName = Literal["nearest", "coherent", "auto"]
FIELDS: tuple[FieldName, ...] = ("nearest", "coherent", "auto")

# Where a field costs more than this, `auto` reads its points loosely, and takes nearest neighbours
# where it costs far more. Chosen on CUB's training species and PF-WILLOW's cars and motorbikes.
_DOUBT = 0.06
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

    The field is solved over the source (it is a warp whose target is the source image). Each point
    then takes the mean of the target's cells near the field's answer, weighed by how alike they are
    (`read_points`); with guides the field's answer itself. With `auto` more is left to the
    descriptors where coherence costs much cosine against nearest neighbours, and all of it where
    it costs most.

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
    reading = CLOSELY
    if field == "auto" and guides is None:
        doubt = solved.cost + _FOLD_PRICE * solved.quality.folds / 100
        if doubt > _MOST_DOUBT:
            found = match_points(source, target, checked, target_mask=target_mask)
            return FieldMatches(found, solved, "nearest")
        reading = LOOSELY if doubt > _DOUBT else CLOSELY
    places, _ = solved.at(xy)
    query = sample_descriptors(source, xy)
    if guides is None:
        seen = mirrored if solved.quality.mirrored else None
        with exact_products(query.device):
            places = _read(query, target, seen, places, target_mask, reading)
    similarity = (query * sample_descriptors(target, places)).sum(dim=1).clamp(-1, 1)
    valid = torch.ones(len(xy), 1, dtype=torch.bool, device=xy.device)
    return FieldMatches(
        Matches(xy, places[:, None], similarity[:, None], valid), solved, "coherent"
    )


def _read(
    query: Tensor,
    target: DescriptorMap,
    mirrored: DescriptorMap | None,
    places: Tensor,
    mask: Tensor | None,
    reading: Reading,
) -> Tensor:
    """As `read_points`; in the mirrored image where the field was solved there."""
    mask = None if mask is None else mask.to(query.device)
    if mirrored is None:
        return read_points(query, target, places, mask, reading)
    turned = mirror_x(places, target.width)
    mask = None if mask is None else mask.flip(1)
    return mirror_x(read_points(query, mirrored, turned, mask, reading), target.width)
