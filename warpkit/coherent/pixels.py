"""Solved nodes brought to pixels: places, validity, quality."""

from __future__ import annotations

from collections.abc import Sequence
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
from warpkit.types import DescriptorMap, Warp

__all__ = ["CoherentField", "field_to_pixels"]

_SNAP = 0.05  # of the source object's side: how far beyond its outline a pixel may be pulled in
_GUIDE_REACH = 0.08  # of the target's region: how far a guide's last correction reaches


@dataclass(frozen=True, eq=False)
class _Pull:
    """A smooth correction of a field: Gaussians around places.

    Attributes:
        centres: (G, 2), pixels of the target.
        shares: (G, 2), what each adds at its centre, pixels of the source.
        reach: sigma in pixels.
    """

    centres: Tensor
    shares: Tensor
    reach: float

    def at(self, xy: Tensor) -> Tensor:
        """At pixels (N, 2): (N, 2)."""
        near = torch.exp(-(torch.cdist(xy, self.centres) ** 2) / (2 * self.reach**2))
        return near @ self.shares


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
    _pull: _Pull | None

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
        xy = target_xy[None].to(self._solved.field.device).float()
        places = _read(self._solved, xy, [self._pull])[0]
        cosine = sample_nodes(self._solved.cosine[:, None], self._solved.target.to_nodes(xy))
        cosine = cosine[0, :, 0]
        if self.quality.mirrored:
            places = mirror_x(places, self.source_width)
        limit = torch.tensor([self.source_width, self.source_height], device=places.device) - 0.5
        return places.clamp(min=-0.5).minimum(limit), cosine.clamp(-1, 1)


def field_to_pixels(
    tasks: Sequence[FieldTask],
    config: CoherentConfig,
    sides: tuple[Sequence[Side], Sequence[Side]],
    solved: tuple[Layered, Layered],
    flips: Sequence[bool],
    scores: dict[bool, list[float]],
) -> list[CoherentField]:
    """The fields of a batch.

    Args:
        sides: targets and sources.
        solved: the fields there and back.
        flips: whether each source is taken mirrored.
        scores: of each orientation that was tried (mirrored: True), of all pairs.
    """
    whole = config.merge and outlined(tasks[0])
    forward, back = finish(solved[0], merge=whole), finish(solved[1], merge=whole)
    there = forward.target.weight > 0
    if whole:
        forward = replace(forward, field=mend_folds(forward.field, there))
    rows = [forward.row(i) for i in range(len(tasks))]
    guides = [guides_of([task], [flip]) for task, flip in zip(tasks, flips, strict=True)]
    pulls = [
        None if given is None else _last_pull(row, given)
        for row, given in zip(rows, guides, strict=True)
    ]
    away = _there_and_back(forward, back, pulls)
    index = [_pixels(side.region, task.target) for side, task in zip(sides[0], tasks, strict=True)]
    xy = _places(index, [task.target.width for task in tasks])
    planes = torch.stack([forward.cosine, away], dim=1)
    cosine, error = sample_nodes(planes, forward.target.to_nodes(xy)).unbind(dim=-1)
    found = _read(forward, xy, pulls)
    cover = forward.target.weight
    along = (cover * forward.cosine).sum(dim=(1, 2)) / cover.sum(dim=(1, 2)).clamp(min=1e-9)
    folds, spread = field_regularity(forward.field, there)
    costs = (-solved[0].evidence).clamp(min=0)
    fields, figures = [], []
    for i, (task, flip) in enumerate(zip(tasks, flips, strict=True)):
        region, count = sides[0][i].region, len(index[i])
        held, contained, near = _held(found[i, :count], task, sides[1][i].region)
        if flip:
            held = mirror_x(held, task.source.width)
        agrees = error[i, :count] <= max(1.5, config.tolerance * region.side)
        values = (held, cosine[i, :count].clamp(-1, 1), agrees & near)
        fields.append(tuple(_scattered(one, index[i], task.target) for one in values))
        shares = (contained.float().mean(), agrees.float().mean(), error[i, :count].mean())
        figures.append(torch.stack([along[i], *shares, folds[i], spread[i], costs[i]]))
    made = []
    # One transfer for all figures.
    for i, numbers in enumerate(torch.stack(figures).tolist()):
        guide_error, unmet = _guide_report(rows[i], guides[i], pulls[i])
        quality = FieldQuality(
            cosine=numbers[0],
            inside=numbers[1],
            consistent=numbers[2],
            inverse_error=numbers[3],
            folds=numbers[4],
            sd_log_j=numbers[5],
            mirrored=flips[i],
            score_as_is=scores[False][i] if False in scores else None,
            score_mirrored=scores[True][i] if True in scores else None,
            guide_error=guide_error,
            unmet=unmet,
        )
        source_xy, similarity, valid = fields[i]
        made.append(
            CoherentField(
                source_xy,
                similarity,
                valid,
                _inside(sides[0][i].region, tasks[i].target),
                quality,
                numbers[6],
                tasks[i].source.height,
                tasks[i].source.width,
                rows[i],
                pulls[i],
            )
        )
    return made


def _inside(region: Region, target: DescriptorMap) -> Tensor:
    """The region's pixels: bool (height, width)."""
    if region.mask is not None:
        return region.mask
    size, device = (target.height, target.width), target.data.device
    return torch.ones(size, dtype=torch.bool, device=device)


def _pixels(region: Region, target: DescriptorMap) -> Tensor:
    """Row-major indices of the region's pixels: int64 (P,)."""
    if region.mask is not None:
        return torch.nonzero(region.mask.flatten())[:, 0]
    return torch.arange(target.height * target.width, device=target.data.device)


def _places(index: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
    """Pixels (x, y) of indices, padded: float32 (B, P, 2)."""
    places = [
        torch.stack([at % width, at // width], dim=-1).float()
        for at, width in zip(index, widths, strict=True)
    ]
    return torch.nn.utils.rnn.pad_sequence(places, batch_first=True)


def _scattered(values: Tensor, index: Tensor, target: DescriptorMap) -> Tensor:
    """Values (P, ...) of some pixels on the image, zero elsewhere: (height, width, ...)."""
    out = values.new_zeros(target.height * target.width, *values.shape[1:])
    return out.index_copy(0, index, values).unflatten(0, (target.height, target.width))


def _there_and_back(forward: Solved, back: Solved, pulls: Sequence[_Pull | None]) -> Tensor:
    """How far the way back leads from where every target node began: (B, h, w), pixels."""
    size = forward.target.size
    nodes = pixel_grid(height=size[0], width=size[1], device=forward.field.device)
    at = forward.target.field_to_pixels(nodes.view(1, -1, 2).expand(len(pulls), -1, -1))
    returned = _read(back, _read(forward, at, pulls), [None] * len(pulls))
    return (returned - at).norm(dim=-1).unflatten(1, size)


def _held(found: Tensor, task: FieldTask, source: Region) -> tuple[Tensor, Tensor, Tensor]:
    """Places (N, 2) pulled into the source; which were inside, and which next to it at least."""
    x, y = found.unbind(dim=-1)
    inside = [x.clamp(0, task.source.width - 1), y.clamp(0, task.source.height - 1)]
    held = torch.stack(inside, dim=-1)
    contained = _apart(held, found) <= 0.5
    if source.mask is None:
        return held, contained, contained
    contained = contained & inside_mask(source.mask, held)
    pulled = _pulled_in(held, source)
    close = _apart(pulled, found) <= max(1.5, _SNAP * source.side)
    return torch.where(contained[:, None], held, pulled), contained, contained | close


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


def _read(solved: Solved, xy: Tensor, pulls: Sequence[_Pull | None]) -> Tensor:
    """Fields at target pixels (B, N, 2) in pixels of the sources as they were solved: (B, N, 2)."""
    at = solved.target.to_nodes(xy)
    found = solved.source.field_to_pixels(sample_nodes(solved.field.permute(0, 3, 1, 2), at))
    if any(pull is not None for pull in pulls):
        moved = [
            one if pull is None else one + pull.at(places)
            for one, places, pull in zip(found, xy, pulls, strict=True)
        ]
        found = torch.stack(moved)
    return found


def _last_pull(solved: Solved, guides: Guided) -> _Pull:
    """What still lacks at the guides of one problem."""
    target, source = guides.target[0][guides.given[0]], guides.source[0][guides.given[0]]
    miss = (source - _read(solved, target[None], [None])[0]).double()
    reach = _GUIDE_REACH * max(*solved.target.size) * float(solved.target.pitch[0])
    kernel = torch.exp(-(torch.cdist(target.double(), target.double()) ** 2) / (2 * reach**2))
    kernel += 1e-4 * torch.eye(len(target), device=target.device)
    return _Pull(target, torch.linalg.solve(kernel, miss).float(), reach)


def _guide_report(
    forward: Solved, guides: Guided | None, pull: _Pull | None
) -> tuple[float | None, tuple[int, ...]]:
    if guides is None:
        return None, ()
    given = guides.given[0]
    led = _read(forward, guides.target[:, given], [pull])[0]
    error = (led - guides.source[0][given]).norm(dim=-1)
    unmet = torch.nonzero(error > 1)[:, 0].tolist()
    return float(error.max()), tuple(unmet)
