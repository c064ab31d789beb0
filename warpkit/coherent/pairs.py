"""A pair as the solver sees it: checked, reduced to its principal directions, both ways round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import check_points, require
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.guided import Guided
from warpkit.coherent.guides import Guides
from warpkit.coherent.nodes import Nodes, Region, make_nodes, region_of
from warpkit.match.matcher import check_search
from warpkit.types import DescriptorMap

__all__ = ["FieldTask", "Side", "check_task", "guides_of", "mirror_x", "outlined", "sides_of"]

_PCA_ROWS = 4096  # cells that principal directions are found from
_POWERS = 2  # iterations that find them


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
    _made: dict[tuple[int, float], Nodes] = field(default_factory=dict, repr=False)

    def nodes(self, count: int, finest: float) -> Nodes:
        """As `make_nodes`, made once."""
        if (count, finest) not in self._made:
            made = make_nodes(self.map, self.region, nodes=count, finest=finest)
            self._made[count, finest] = made
        return self._made[count, finest]


def _flipped(descriptors: DescriptorMap) -> DescriptorMap:
    """A map mirrored in itself; cells beyond the image's right edge make it inexact."""
    w = descriptors.grid_size[1]
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


def _principal(gram: Tensor, count: int) -> Tensor:
    """About the first principal directions of a Gram matrix (C, C): (C, count), orthonormal.

    Source: randomised range finder with power iterations, Halko, Martinsson and Tropp, SIAM Review
    2011; a full decomposition takes several times as long.
    """
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(len(gram), count, generator=generator).to(gram)
    for _ in range(_POWERS):
        basis = torch.linalg.qr(gram @ basis).Q
    return basis


def _reduced(maps: Sequence[DescriptorMap], channels: int) -> list[DescriptorMap]:
    """The maps of one pair, unit descriptors along their joint principal directions."""
    unit = [F.normalize(m.data.float(), dim=0, eps=1e-12) for m in maps]
    if unit[0].shape[0] > channels:
        # The last map is a mirrored one and has the same directions as the first.
        rows = torch.cat([data.flatten(1).T for data in unit[:2]])
        rows = rows[:: max(1, len(rows) // _PCA_ROWS)]
        basis = _principal(rows.T @ rows, channels)
        unit = [torch.einsum("cd,chw->dhw", basis, data) for data in unit]
    return [replace(m, data=data) for m, data in zip(maps, unit, strict=True)]


def sides_of(task: FieldTask, config: CoherentConfig) -> tuple[Side, dict[bool, Side]]:
    """The target, and the source for each orientation that is tried (mirrored: True)."""
    device = task.target.data.device
    flips = {"auto": (False, True), "never": (False,), "always": (True,)}[config.mirror]
    maps = [task.source, task.target]
    if True in flips:
        maps.append(task.mirrored if task.mirrored is not None else _flipped(task.source))
    maps = _reduced(maps, config.channels)
    known = outlined(task)

    def region(at: DescriptorMap, mask: Tensor | None) -> Region:
        mask = None if mask is None else mask.to(device)
        return region_of(mask, height=at.height, width=at.width, outlined=known)

    own = region(task.source, task.source_mask)
    sources = {
        flip: Side(maps[2], own.mirrored(task.source.width)) if flip else Side(maps[0], own)
        for flip in flips
    }
    return Side(maps[1], region(task.target, task.target_mask)), sources


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
