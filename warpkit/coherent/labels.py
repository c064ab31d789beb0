"""Several objects at once: those of one id are solved alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from warpkit.checks import require
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.field import coherent_fields
from warpkit.coherent.pairs import FieldTask
from warpkit.coherent.quality import FieldQuality
from warpkit.types import Warp

__all__ = ["coherent_warp_of_labels"]


def coherent_warp_of_labels(
    task: FieldTask,
    source_labels: Tensor,
    target_labels: Tensor,
    *,
    config: CoherentConfig | None = None,
) -> tuple[Warp, Warp, dict[int, FieldQuality]]:
    """A warp whose objects are matched by id.

    Args:
        task: maps of the pair; its masks and guides are not used.
        source_labels: uint8 (source height, width), object ids, 0 for the background.
        target_labels: uint8 (target height, width).
        config: how to solve.

    Returns:
        The valid warp, the filled one, and the quality of every object that both images have.
        Pixels of ids that the source lacks are not valid.

    Raises:
        InputError: labels of another size, or without a common id.
    """
    for labels, at, name in (
        (source_labels, task.source, "source"),
        (target_labels, task.target, "target"),
    ):
        require(
            tuple(labels.shape) == (at.height, at.width),
            f"the {name} labels must be {at.height} x {at.width} (height x width), got"
            f" {tuple(labels.shape)}",
        )
    ids = sorted(set(source_labels.unique().tolist()) & set(target_labels.unique().tolist()) - {0})
    require(
        bool(ids),
        f"no object is in both label maps: the source has {source_labels.unique().tolist()}, the"
        f" target {target_labels.unique().tolist()}; give one object one id in both",
    )
    tasks = [
        replace(task, source_mask=source_labels == i, target_mask=target_labels == i, guides=None)
        for i in ids
    ]
    fields = coherent_fields(tasks, config=config)
    warps = []
    for fill in (False, True):
        parts = [field.warp(fill=fill) for field in fields]
        warps.append(
            Warp(
                torch.stack([part.source_xy for part in parts]).sum(dim=0),
                torch.stack([part.similarity for part in parts]).sum(dim=0),
                torch.stack([part.valid for part in parts]).any(dim=0),
                task.source.height,
                task.source.width,
            )
        )
    qualities = {i: field.quality for i, field in zip(ids, fields, strict=True)}
    return warps[0], warps[1], qualities
