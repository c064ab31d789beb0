"""Solved nodes brought to pixels: places, validity, quality."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warpkit.coherent.coarse import Layered
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.guided import Guided
from warpkit.coherent.nodes import Region
from warpkit.coherent.pairs import FieldTask, Side, guides_of, mirror_x, outlined
from warpkit.coherent.quality import FieldQuality, field_regularity
from warpkit.coherent.smooth import mend_folds, sample_nodes
from warpkit.coherent.solved import Solved, finish
from warpkit.coords import pixel_grid
from warpkit.match.filters import inside_mask
from warpkit.match.nearest_set import nearest_set
from warpkit.types import Warp

__all__ = ["CoherentField", "field_to_pixels"]

_SNAP = 0.05  # of the source object's side: how far beyond its outline a pixel may be pulled in
_GUIDE_REACH = 0.08  # of the target's region: how far a guide's last correction reaches


@dataclass(frozen=True, eq=False)
class CoherentField:
    """A solved pair, on the device of the target's map.

    Convention: `source_xy[y, x]` is the (x, y) source pixel for target pixel (x, y), also where the
    source was taken mirrored.

    Attributes:
        source_xy: float32 (H, W, 2), everywhere inside the target's region, pulled into the
            source's mask.
        similarity: float32 (H, W), cosine along the field, bilinear between the solver's nodes.
        valid: bool (H, W), inside the target's mask where the way back agrees and the place lies
            inside the source's mask or next to it.
        inside: bool (H, W), the target's region: valid pixels and those that `fill` adds.
        quality: how good the field is.
        cost: what coherence costs in cosine against nearest neighbours, at least 0.
        source_height, source_width: of the source image.
    """

    source_xy: Tensor
    similarity: Tensor
    valid: Tensor
    inside: Tensor
    quality: FieldQuality
    cost: float
    source_height: int
    source_width: int
    _solved: Solved
    _pull: tuple[Tensor, Tensor] | None

    def warp(self, *, fill: bool = False) -> Warp:
        """The field as a `Warp`.

        Args:
            fill: also where the ways disagree or the source has nothing: the field goes on there.
        """
        shown = self.inside if fill else self.valid
        return Warp(
            self.source_xy * shown[..., None],
            self.similarity * shown,
            shown,
            self.source_height,
            self.source_width,
        )

    def at(self, target_xy: Tensor) -> tuple[Tensor, Tensor]:
        """The field and its cosine at sub-pixel points (N, 2) of the target: (N, 2) and (N,)."""
        target_xy = target_xy.to(self._solved.field.device)
        places = _read(self._solved, target_xy, self._pull)
        cosine = sample_nodes(
            self._solved.cosine[:, None], self._solved.target.to_nodes(target_xy[None].float())
        )[0, :, 0]
        if self.quality.mirrored:
            places = mirror_x(places, self.source_width)
        limit = torch.tensor([self.source_width, self.source_height], device=places.device) - 0.5
        return places.clamp(min=-0.5).minimum(limit), cosine.clamp(-1, 1)


def field_to_pixels(
    task: FieldTask,
    config: CoherentConfig,
    sides: tuple[Side, Side],
    solved: tuple[Layered, Layered],
    flip: bool,
    scores: dict[bool, float],
) -> CoherentField:
    target, source = sides
    whole = config.merge and outlined(task)
    forward, back = finish(solved[0], merge=whole), finish(solved[1], merge=whole)
    there = forward.target.weight > 0
    forward = replace(forward, field=mend_folds(forward.field, there) if whole else forward.field)
    pull = None
    guides = guides_of([task], [flip])
    if guides is not None:
        pull = _last_pull(forward, guides)
    # Where the way back leads, at the nodes.
    nodes = pixel_grid(
        height=forward.target.size[0], width=forward.target.size[1], device=there.device
    ).view(1, -1, 2)
    at = forward.target.field_to_pixels(nodes)[0]
    places = _read(forward, at, pull)
    away = (_read(back, places, None) - at).norm(dim=-1)
    height, width = task.target.height, task.target.width
    mask = target.region.mask
    if mask is None:
        mask = torch.ones(height, width, dtype=torch.bool, device=there.device)
    pixels = torch.nonzero(mask).flip(1).float()
    planes = torch.stack([forward.cosine[0], away.view(forward.target.size)])[None]
    cosine, error = sample_nodes(planes, forward.target.to_nodes(pixels[None]))[0].unbind(1)
    found = _read(forward, pixels, pull)
    limit = torch.tensor([task.source.width, task.source.height], device=found.device) - 1
    held = found.clamp(min=0).minimum(limit)
    near = _apart(held, found) <= 0.5
    contained = near
    if source.region.mask is not None:
        contained = near & inside_mask(source.region.mask, held)
        pulled = _pulled_in(held, source.region)
        close = _apart(pulled, found) <= max(1.5, _SNAP * source.region.side)
        held = torch.where(contained[:, None], held, pulled)
        near = contained | close
    tolerance = max(1.5, config.tolerance * target.region.side)
    agrees = error <= tolerance
    guide_error, unmet = _guide_report(forward, guides, pull)
    if flip:
        held = mirror_x(held, task.source.width)
    folds, spread = field_regularity(forward.field, there)
    cover = forward.target.weight
    quality = FieldQuality(
        cosine=float((cover * forward.cosine).sum() / cover.sum().clamp(min=1e-9)),
        inside=float(contained.float().mean()),
        consistent=float(agrees.float().mean()),
        inverse_error=float(error.mean()),
        folds=folds,
        sd_log_j=spread,
        mirrored=flip,
        score_as_is=scores.get(False),
        score_mirrored=scores.get(True),
        guide_error=guide_error,
        unmet=unmet,
    )

    def spread_out(values: Tensor) -> Tensor:
        out = values.new_zeros(height, width, *values.shape[1:])
        out[mask] = values
        return out

    return CoherentField(
        spread_out(held),
        spread_out(cosine.clamp(-1, 1)),
        spread_out(agrees & near),
        mask,
        quality,
        max(0.0, -float(solved[0].evidence[0])),
        task.source.height,
        task.source.width,
        forward,
        pull,
    )


def _pulled_in(places: Tensor, region: Region) -> Tensor:
    """The pixels of a region's mask next to places (N, 2) of its image, from the edge of the box
    around it for what lies far outside.
    """
    assert region.mask is not None
    height, width = region.mask.shape
    x1, y1, x2, y2 = region.box
    margin = _SNAP * region.side + 2
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    right, bottom = min(width, int(x2 + margin) + 1), min(height, int(y2 + margin) + 1)
    home = nearest_set(region.mask[top:bottom, left:right])
    column, row = torch.floor(places + 0.5).long().unbind(1)
    index = home[
        row.clamp(top, bottom - 1) - top,
        column.clamp(left, right - 1) - left,
    ]
    across = right - left
    return torch.stack([index % across + left, index // across + top], dim=1).float()


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return torch.hypot(a[:, 0] - b[:, 0], a[:, 1] - b[:, 1])


def _read(solved: Solved, xy: Tensor, pull: tuple[Tensor, Tensor] | None) -> Tensor:
    """The field at target pixels (N, 2) in pixels of the source as it was solved: (N, 2)."""
    places = xy[None].to(solved.field.device).float()
    at = solved.target.to_nodes(places)
    found = solved.source.field_to_pixels(sample_nodes(solved.field.permute(0, 3, 1, 2), at))[0]
    if pull is not None:
        centres, shares = pull
        reach = _GUIDE_REACH * max(*solved.target.size) * float(solved.target.pitch[0])
        near = torch.exp(-(torch.cdist(places[0], centres) ** 2) / (2 * reach**2))
        found = found + near @ shares
    return found


def _last_pull(solved: Solved, guides: Guided) -> tuple[Tensor, Tensor]:
    """Centres (G, 2) and coefficients (G, 2) of what still lacks at the guides."""
    target, source = guides.target[0][guides.given[0]], guides.source[0][guides.given[0]]
    miss = (source - _read(solved, target, None)).double()
    reach = _GUIDE_REACH * max(*solved.target.size) * float(solved.target.pitch[0])
    kernel = torch.exp(-(torch.cdist(target.double(), target.double()) ** 2) / (2 * reach**2))
    kernel += 1e-4 * torch.eye(len(target), device=target.device)
    return target, torch.linalg.solve(kernel, miss).float()


def _guide_report(
    forward: Solved, guides: Guided | None, pull: tuple[Tensor, Tensor] | None
) -> tuple[float | None, tuple[int, ...]]:
    if guides is None:
        return None, ()
    given = guides.given[0]
    error = (_read(forward, guides.target[0][given], pull) - guides.source[0][given]).norm(dim=-1)
    unmet = torch.nonzero(error > 1)[:, 0].tolist()
    return float(error.max()), tuple(unmet)
