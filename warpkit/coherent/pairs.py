"""A pair as the solver sees it: checked, reduced to its principal directions, both ways round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import check_points, require
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.guided import Guided
from warpkit.coherent.guides import Guides
from warpkit.coherent.nodes import Nodes, Region, make_nodes, region_of
from warpkit.coords import grid_to_pixel, pixel_to_grid
from warpkit.match.matcher import check_search
from warpkit.types import DescriptorMap

__all__ = [
    "FieldTask",
    "Side",
    "check_task",
    "guides_of",
    "mirror_x",
    "nodes_of",
    "outlined",
    "sides_of",
]

_PCA_ROWS = 4096  # cells that principal directions are found from
_POWERS = 2  # iterations that find them
_RIDGE = 1e-13  # share of the largest direction below which there is none


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


def check_task(task: FieldTask) -> None:
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
            bool(torch.isfinite(task.mirrored.data).all()),
            "the descriptors of the mirrored source hold values that are not finite",
        )
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


def outlined(task: FieldTask) -> bool:
    """Whether both objects' outlines are known."""
    return task.source_mask is not None and task.target_mask is not None


@dataclass(frozen=True, eq=False)
class Side:
    """One image of a pair as the solver sees it."""

    map: DescriptorMap
    region: Region


def nodes_of(sides: Sequence[Side], count: int, finest: float) -> Nodes:
    """As `make_nodes`."""
    maps, regions = [side.map for side in sides], [side.region for side in sides]
    return make_nodes(maps, regions, nodes=count, finest=finest)


def _flipped(descriptors: DescriptorMap) -> DescriptorMap:
    """A map mirrored in itself; cells beyond the image's right edge make it inexact."""
    w = descriptors.grid_size[1]
    if abs(w * descriptors.cell_width - descriptors.width) < 1e-3:
        return replace(descriptors, data=descriptors.data.flip(2))
    # Cells do not tile the image: read the map at the mirrored cell centres.
    x = grid_to_pixel(torch.arange(w, device=descriptors.data.device), descriptors.cell_width)
    back = pixel_to_grid(descriptors.width - 1 - x, descriptors.cell_width)
    back = back.clamp(0, w - 1)
    low = back.floor().long().clamp(max=max(0, w - 2))
    share = (back - low).to(descriptors.data.dtype)
    high = (low + 1).clamp(max=w - 1)
    data = descriptors.data[:, :, low] * (1 - share) + descriptors.data[:, :, high] * share
    return replace(descriptors, data=data)


def _principal(gram: Tensor, count: int) -> Tensor:
    """About the first principal directions of Gram matrices (B, C, C): (B, C, count), orthonormal.

    Source: randomised range finder with power iterations, Halko, Martinsson and Tropp, SIAM Review
    2011; a full decomposition takes several times as long. Cholesky factors make orthonormal what
    a Gram matrix has spread, in double precision, since they square its condition.
    """
    generator = torch.Generator().manual_seed(0)
    gram = gram.double()
    basis = torch.randn(gram.shape[-1], count, generator=generator).to(gram)
    ridge = _RIDGE * torch.eye(count, device=gram.device, dtype=gram.dtype)
    for _ in range(_POWERS):
        product = gram @ basis
        own = product.mT @ product
        size = own.diagonal(dim1=-2, dim2=-1).amax(dim=-1).clamp(min=1e-30)[..., None, None]
        root, _ = torch.linalg.cholesky_ex(own / size + ridge)
        basis = torch.linalg.solve_triangular(root, product.mT / size.sqrt(), upper=False).mT
    return basis.float()


def _reduced(pairs: Sequence[Sequence[DescriptorMap]], channels: int) -> list[list[DescriptorMap]]:
    """The maps of pairs, unit descriptors along the joint principal directions of each pair."""
    unit = [[F.normalize(m.data.float(), dim=0, eps=1e-12) for m in maps] for maps in pairs]
    wide: dict[int, list[int]] = {}
    for i, data in enumerate(unit):
        wide.setdefault(len(data[0]), []).append(i)
    for width, rows in wide.items():
        if width <= channels:
            continue
        bases = _principal(torch.stack([_gram(unit[i]) for i in rows]), channels)
        for i, basis in zip(rows, bases, strict=True):
            unit[i] = [torch.einsum("cd,chw->dhw", basis, data) for data in unit[i]]
    return [
        [replace(m, data=data) for m, data in zip(maps, part, strict=True)]
        for maps, part in zip(pairs, unit, strict=True)
    ]


def _gram(maps: Sequence[Tensor]) -> Tensor:
    """The Gram matrix (C, C) of maps (C, h, w)."""
    # The third map is a mirrored one and has the same directions as the first.
    rows = torch.cat([data.flatten(1).T for data in maps[:2]])
    rows = rows[:: max(1, len(rows) // _PCA_ROWS)]
    return rows.T @ rows


def sides_of(
    tasks: Sequence[FieldTask], config: CoherentConfig
) -> tuple[list[Side], dict[bool, list[Side]]]:
    """The targets, and the sources in each orientation that is tried (mirrored: True)."""
    flips = {"auto": (False, True), "never": (False,), "always": (True,)}[config.mirror]
    pairs = []
    for task in tasks:
        maps = [task.source, task.target]
        if True in flips:
            maps.append(task.mirrored if task.mirrored is not None else _flipped(task.source))
        pairs.append(maps)
    targets: list[Side] = []
    sources: dict[bool, list[Side]] = {flip: [] for flip in flips}
    for task, maps in zip(tasks, _reduced(pairs, config.channels), strict=True):
        targets.append(Side(maps[1], _region(maps[1], task.target_mask, task)))
        own = _region(maps[0], task.source_mask, task)
        for flip in flips:
            turned = own.mirrored(task.source.width) if flip else own
            sources[flip].append(Side(maps[2 if flip else 0], turned))
    return targets, sources


def _region(at: DescriptorMap, mask: Tensor | None, task: FieldTask) -> Region:
    mask = None if mask is None else mask.to(task.target.data.device)
    return region_of(mask, height=at.height, width=at.width, outlined=outlined(task))


def guides_of(tasks: Sequence[FieldTask], flips: Sequence[bool]) -> Guided | None:
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
        source[row, :count] = mirror_x(places, task.source.width) if flip else places
        target[row, :count] = task.guides.target_xy.to(device).float()
        given[row, :count] = True
    return Guided(target, source, given.to(device))


def mirror_x(xy: Tensor, width: int) -> Tensor:
    return torch.stack([width - 1 - xy[..., 0], xy[..., 1]], dim=-1)
