"""Coherent fields: for every target pixel the source pixel that shows the same, smooth as objects
are.

In: descriptor maps of both images, masks, guides. Out: `CoherentField`. Pairs are solved together
on a GPU and one by one on a CPU; the result of a pair does not depend on which others come with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import check_points, require
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.guides import Guides
from warpkit.coherent.nodes import Nodes, Region, make_nodes, region_of, stack_nodes
from warpkit.coherent.quality import FieldQuality, field_regularity
from warpkit.coherent.smooth import mend_folds, sample_nodes
from warpkit.coherent.solver import (
    COARSE,
    FINE,
    Coarse,
    Guided,
    Level,
    Solved,
    finish,
    refine,
    solve_coarse,
)
from warpkit.coords import pixel_grid
from warpkit.match.filters import inside_mask
from warpkit.match.matcher import check_search, exact_products
from warpkit.match.nearest_set import nearest_set
from warpkit.types import DescriptorMap, Warp

__all__ = ["CoherentField", "FieldTask", "coherent_field", "coherent_fields"]

_FINEST = 0.75  # least distance of nodes in cells of the maps
_SNAP = 0.05  # of the source object's side: how far beyond its outline a pixel may be pulled in
_PCA_ROWS = 4096
_ROWS = ("field", "affine", "share", "support", "evidence", "cosine", "misfit", "hub")
_MISMATCH = 0.5  # what guides far from a hypothesis cost it, per side of the object
_GUIDE_REACH = 0.08  # of the target's region: how far a guide's last correction reaches


@dataclass(frozen=True, eq=False)
class FieldTask:
    """A pair to solve.

    Attributes:
        source: map of the source image.
        target: map of the target image.
        mirrored: map of the source image mirrored left-right; without it the map of the source is
            mirrored instead, which is less right, as networks see left and right differently.
        source_mask: bool (source height, width), the source object; None for the whole image.
        target_mask: bool (target height, width), the target object; None for the whole image.
        guides: pairs of points to meet.
    """

    source: DescriptorMap
    target: DescriptorMap
    mirrored: DescriptorMap | None = None
    source_mask: Tensor | None = None
    target_mask: Tensor | None = None
    guides: Guides | None = None


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
        places = _read(self._solved, target_xy, self._pull)
        cosine = sample_nodes(
            self._solved.cosine[:, None], self._solved.target.to_nodes(target_xy[None].float())
        )[0, :, 0]
        if self.quality.mirrored:
            places = _mirror_x(places, self.source_width)
        limit = torch.tensor([self.source_width, self.source_height], device=places.device) - 0.5
        return places.clamp(min=-0.5).minimum(limit), cosine.clamp(-1, 1)


def coherent_field(
    source: DescriptorMap,
    target: DescriptorMap,
    *,
    mirrored: DescriptorMap | None = None,
    source_mask: Tensor | None = None,
    target_mask: Tensor | None = None,
    guides: Guides | None = None,
    config: CoherentConfig | None = None,
) -> CoherentField:
    """The coherent field of one pair: see `FieldTask` for the arguments.

    Raises:
        InputError: maps that do not fit together, masks of another size or empty ones.

    Source: docs/warping.md.
    """
    task = FieldTask(source, target, mirrored, source_mask, target_mask, guides)
    return coherent_fields([task], config=config)[0]


def coherent_fields(
    tasks: Sequence[FieldTask], *, config: CoherentConfig | None = None, batch: int = 16
) -> list[CoherentField]:
    """The coherent fields of many pairs.

    Args:
        tasks: maps of one device.
        config: how to solve.
        batch: pairs that a GPU solves together; a CPU takes them one by one.

    Returns:
        One field per task, in order.

    Raises:
        InputError: as `coherent_field`.
    """
    config = config or CoherentConfig()
    for task in tasks:
        _check(task)
    found: list[CoherentField] = []
    size = batch if tasks and tasks[0].target.data.device.type != "cpu" else 1
    with torch.no_grad():
        for start in range(0, len(tasks), size):
            part = tasks[start : start + size]
            with exact_products(part[0].target.data.device):
                found += _solve(part, config)
    return found


def _check(task: FieldTask) -> None:
    check_search(task.target, task.source, k=1)
    for mask, at, name in (
        (task.source_mask, task.source, "source mask"),
        (task.target_mask, task.target, "target mask"),
    ):
        if mask is None:
            continue
        require(
            mask.dtype == torch.bool and tuple(mask.shape) == (at.height, at.width),
            f"the {name} must be a bool tensor of {at.height} x {at.width} (height x width), got"
            f" {mask.dtype} {tuple(mask.shape)}",
        )
        require(bool(mask.any()), f"the {name} is empty: nothing is left to match")
    for at, name in ((task.source, "source"), (task.target, "target")):
        require(
            bool(torch.isfinite(at.data).all()),
            f"the descriptors of the {name} hold values that are not finite",
        )
    if task.mirrored is not None:
        check_search(task.target, task.mirrored, k=1)
        require(
            (task.mirrored.height, task.mirrored.width) == (task.source.height, task.source.width),
            "the mirrored source must have the size of the source, got"
            f" {task.mirrored.height} x {task.mirrored.width} for {task.source.height} x"
            f" {task.source.width}",
        )
    if task.guides is not None:
        for points, at in (
            (task.guides.source_xy, task.source),
            (task.guides.target_xy, task.target),
        ):
            check_points(points.cpu().numpy(), height=at.height, width=at.width)


@dataclass(frozen=True, eq=False)
class _Side:
    """One image of a pair as the solver sees it."""

    map: DescriptorMap
    region: Region

    def nodes(self, count: int, finest: float) -> Nodes:
        return make_nodes(self.map, self.region, nodes=count, finest=finest)


def _flipped(descriptors: DescriptorMap) -> DescriptorMap:
    """A map mirrored in itself; cells beyond the image's right edge make it inexact."""
    h, w = descriptors.grid_size
    if abs(w * descriptors.cell_width - descriptors.width) < 1e-3:
        return replace(descriptors, data=descriptors.data.flip(2))
    # Cells do not tile the image: read the map at the mirrored cell centres.
    x = (torch.arange(w, device=descriptors.data.device) + 0.5) * descriptors.cell_width - 0.5
    back = (descriptors.width - 1 - x + 0.5) / descriptors.cell_width - 0.5
    back = back.clamp(0, w - 1)
    low = back.floor().long().clamp(max=max(0, w - 2))
    share = (back - low).to(descriptors.data.dtype)
    high = (low + 1).clamp(max=w - 1)
    data = descriptors.data[:, :, low] * (1 - share) + descriptors.data[:, :, high] * share
    return replace(descriptors, data=data)


def _reduced(maps: Sequence[DescriptorMap], channels: int) -> list[DescriptorMap]:
    """The maps of one pair, unit descriptors along their joint principal directions."""
    unit = [F.normalize(m.data.float(), dim=0, eps=1e-12) for m in maps]
    if unit[0].shape[0] > channels:
        # The last map is a mirrored one and has the same directions as the first.
        rows = torch.cat([data.flatten(1).T for data in unit[:2]])
        rows = rows[:: max(1, len(rows) // _PCA_ROWS)].double()
        _, vectors = torch.linalg.eigh(rows.T @ rows)
        basis = vectors[:, -channels:].to(unit[0].dtype)
        unit = [torch.einsum("cd,chw->dhw", basis, data) for data in unit]
    return [replace(m, data=data) for m, data in zip(maps, unit, strict=True)]


def _sides(task: FieldTask, config: CoherentConfig) -> tuple[_Side, dict[bool, _Side]]:
    """The target, and the source for each orientation that is tried (mirrored: True)."""
    device = task.target.data.device
    flips = {"auto": (False, True), "never": (False,), "always": (True,)}[config.mirror]
    maps = [task.source, task.target]
    if True in flips:
        maps.append(task.mirrored if task.mirrored is not None else _flipped(task.source))
    maps = _reduced(maps, config.channels)
    outlined = task.source_mask is not None and task.target_mask is not None
    masks = [None if m is None else m.to(device) for m in (task.source_mask, task.target_mask)]

    def side(descriptors: DescriptorMap, mask: Tensor | None) -> _Side:
        region = region_of(
            mask, height=descriptors.height, width=descriptors.width, outlined=outlined
        )
        return _Side(descriptors, region)

    sources = {}
    for flip in flips:
        mask = masks[0].flip(1) if flip and masks[0] is not None else masks[0]
        sources[flip] = side(maps[2] if flip else maps[0], mask)
    return side(maps[1], masks[1]), sources


def _guided(tasks: Sequence[FieldTask], flips: Sequence[bool]) -> Guided | None:
    """Guides of a batch, padded; the source's points mirrored where it is."""
    most = max((len(t.guides) for t in tasks if t.guides is not None), default=0)
    if most == 0:
        return None
    device = tasks[0].target.data.device
    target = torch.zeros(len(tasks), most, 2, device=device)
    source, given = torch.zeros_like(target), torch.zeros(len(tasks), most, dtype=torch.bool)
    for row, (task, flip) in enumerate(zip(tasks, flips, strict=True)):
        if task.guides is None:
            continue
        count = len(task.guides)
        places = task.guides.source_xy.to(device).float()
        source[row, :count] = _mirror_x(places, task.source.width) if flip else places
        target[row, :count] = task.guides.target_xy.to(device).float()
        given[row, :count] = True
    return Guided(target, source, given.to(device))


def _reverse(guides: Guided | None) -> Guided | None:
    return None if guides is None else Guided(guides.source, guides.target, guides.given)


def _run(
    targets: Sequence[_Side], sources: Sequence[_Side], guides: Guided | None, config: CoherentConfig
) -> Coarse:
    return solve_coarse(
        stack_nodes([side.nodes(COARSE.nodes, 0.0) for side in targets]),
        stack_nodes([side.nodes(COARSE.nodes, 0.0) for side in sources]),
        config,
        guides,
    )


def _finer(
    coarse: Coarse,
    targets: Sequence[_Side],
    sources: Sequence[_Side],
    guides: Guided | None,
    config: CoherentConfig,
    levels: Sequence[Level] = FINE,
) -> Coarse:
    for level in levels:
        coarse = refine(
            coarse,
            stack_nodes([side.nodes(level.nodes, _FINEST) for side in targets]),
            stack_nodes([side.nodes(level.nodes, _FINEST) for side in sources]),
            level,
            config,
            guides,
        )
    return coarse


def _solve(tasks: Sequence[FieldTask], config: CoherentConfig) -> list[CoherentField]:
    both = [_sides(task, config) for task in tasks]
    targets = [target for target, _ in both]
    tried: dict[bool, tuple[Coarse, Guided | None]] = {}
    for flip in both[0][1]:
        guides = _guided(tasks, [flip] * len(tasks))
        tried[flip] = _run(targets, [sources[flip] for _, sources in both], guides, config), guides
    scores = {
        flip: (coarse.cosine - _MISMATCH * coarse.misfit.clamp(max=1)).tolist()
        for flip, (coarse, _) in tried.items()
    }
    flips = [
        True
        if False not in scores
        else True in scores and scores[True][i] > scores[False][i] + config.mirror_margin
        for i in range(len(tasks))
    ]
    sources = [sides[flip] for (_, sides), flip in zip(both, flips, strict=True)]
    guides = _guided(tasks, flips)
    chosen = _pick([tried[flip][0] for flip in tried], [list(tried).index(flip) for flip in flips])
    back = _run(sources, targets, _reverse(guides), config)
    forward = _finer(chosen, targets, sources, guides, config)
    # The way back need not be finer than the tolerance.
    back = _finer(back, sources, targets, _reverse(guides), config, FINE[:1])
    fields = []
    for i, task in enumerate(tasks):
        row = torch.tensor([i], device=forward.share.device)
        fields.append(
            _to_pixels(
                task,
                config,
                (targets[i], sources[i]),
                (_row(forward, row), _row(back, row)),
                flips[i],
                {flip: values[i] for flip, values in scores.items()},
            )
        )
    return fields


def _pick(options: Sequence[Coarse], which: Sequence[int]) -> Coarse:
    """Problem i of option `which[i]`, for all i."""
    if len(options) == 1:
        return options[0]
    rows = torch.tensor(which, device=options[0].share.device)
    order = torch.arange(len(which), device=rows.device)

    def mixed(name: str) -> Tensor:
        return torch.stack([getattr(option, name) for option in options])[rows, order]

    source = Nodes(
        *(
            torch.stack([getattr(option.source, part) for option in options])[rows, order]
            for part in ("descriptors", "weight", "rim", "origin", "pitch")
        )
    )
    return replace(options[0], source=source, home=source, **{name: mixed(name) for name in _ROWS})


def _row(coarse: Coarse, row: Tensor) -> Coarse:
    parts: dict[str, Any] = {name: getattr(coarse, name)[row] for name in _ROWS}
    ends = {name: getattr(coarse, name).select(row) for name in ("target", "source", "home")}
    return replace(coarse, **ends, **parts)


def _mirror_x(xy: Tensor, width: int) -> Tensor:
    return torch.stack([width - 1 - xy[..., 0], xy[..., 1]], dim=-1)


def _read(solved: Solved, xy: Tensor, pull: tuple[Tensor, Tensor] | None) -> Tensor:
    """The field at target pixels (N, 2) in pixels of the source as it was solved: (N, 2)."""
    places = xy[None].to(solved.field.device).float()
    at = solved.target.to_nodes(places)
    found = solved.source.to_pixels(sample_nodes(solved.field.permute(0, 3, 1, 2), at))[0]
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


def _to_pixels(
    task: FieldTask,
    config: CoherentConfig,
    sides: tuple[_Side, _Side],
    solved: tuple[Coarse, Coarse],
    flip: bool,
    scores: dict[bool, float],
) -> CoherentField:
    target, source = sides
    whole = task.source_mask is not None and task.target_mask is not None
    forward, back = finish(solved[0], merge=whole), finish(solved[1], merge=whole)
    there = forward.target.weight > 0
    forward = replace(forward, field=mend_folds(forward.field, there) if whole else forward.field)
    pull = None
    guides = _guided([task], [flip])
    if guides is not None:
        pull = _last_pull(forward, guides)
    # Where the way back leads, at the nodes.
    nodes = pixel_grid(
        height=forward.target.size[0], width=forward.target.size[1], device=there.device
    ).view(1, -1, 2)
    at = forward.target.to_pixels(nodes)[0]
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
    near = (held - found).norm(dim=-1) <= 0.5
    contained = near
    if source.region.mask is not None:
        contained = near & inside_mask(source.region.mask, held)
        home = nearest_set(source.region.mask)
        row, column = torch.floor(held + 0.5).long().unbind(1)[::-1]
        index = home[row, column]
        pulled = torch.stack([index % task.source.width, index // task.source.width], dim=1).float()
        close = (pulled - found).norm(dim=-1) <= max(1.5, _SNAP * source.region.side)
        held = torch.where(contained[:, None], held, pulled)
        near = contained | close
    tolerance = config.tolerance * target.region.side
    agrees = error <= tolerance
    guide_error, unmet = _guide_report(forward, guides, pull)
    if flip:
        held = _mirror_x(held, task.source.width)
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


def _guide_report(
    forward: Solved, guides: Guided | None, pull: tuple[Tensor, Tensor] | None
) -> tuple[float | None, tuple[int, ...]]:
    if guides is None:
        return None, ()
    given = guides.given[0]
    error = (_read(forward, guides.target[0][given], pull) - guides.source[0][given]).norm(dim=-1)
    unmet = torch.nonzero(error > 1)[:, 0].tolist()
    return float(error.max()), tuple(unmet)
