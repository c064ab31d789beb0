"""Coherent fields: for every target pixel the source pixel that shows the same, smooth as objects
are.

In: descriptor maps of both images, masks, guides. Out: `CoherentField`. Pairs are solved together
on a GPU and one by one on a CPU; the result of a pair does not depend on which others come with it,
but for objects so small that they have fewer nodes than others of their batch: lengths are those of
the largest there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from warpkit.coherent.coarse import Layered, solve_coarse
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.guided import Guided
from warpkit.coherent.guides import Guides
from warpkit.coherent.levels import COARSE, FINE_OPEN, FINE_OUTLINED
from warpkit.coherent.nodes import stack_nodes
from warpkit.coherent.pairs import (
    FieldTask,
    Side,
    check_task,
    guides_of,
    nodes_of,
    outlined,
    sides_of,
)
from warpkit.coherent.pixels import CoherentField, field_to_pixels
from warpkit.coherent.windows import refine
from warpkit.match.matcher import exact_products
from warpkit.types import DescriptorMap

__all__ = ["CoherentField", "FieldTask", "coherent_field", "coherent_fields"]

_FINEST = 0.75  # least distance of nodes in cells of the maps
_MISMATCH = 0.5  # what guides far from a hypothesis cost it, per side of the object


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
        check_task(task)
    found: dict[int, CoherentField] = {}
    size = batch if tasks and tasks[0].target.data.device.type != "cpu" else 1
    with torch.no_grad():
        for known in (False, True):
            # Pairs with outlines are solved on levels of their own.
            rows = [i for i, task in enumerate(tasks) if outlined(task) == known]
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                with exact_products(tasks[part[0]].target.data.device):
                    found.update(zip(part, _solve([tasks[i] for i in part], config), strict=True))
    return [found[i] for i in range(len(tasks))]


def _solve(tasks: Sequence[FieldTask], config: CoherentConfig) -> list[CoherentField]:
    targets, tried = sides_of(tasks, config)
    flips, coarse, scores = _coarse(tasks, targets, tried, config)
    sources = [tried[flip][i] for i, flip in enumerate(flips)]
    guides = guides_of(tasks, flips)
    levels = FINE_OUTLINED if outlined(tasks[0]) else FINE_OPEN
    nodes = [
        (nodes_of(targets, level.nodes, _FINEST), nodes_of(sources, level.nodes, _FINEST))
        for level in levels
    ]
    forward = coarse.owning()
    for level, (there, here) in zip(levels, nodes, strict=True):
        forward = refine(forward, there, here, level, config, guides)
    # The way back need not be finer than the tolerance.
    guides = _reverse(guides)
    back = solve_coarse(coarse.source, coarse.target, config, guides)
    there, here = nodes[0]
    back = refine(back.owning(), here, there, levels[0], config, guides)
    return field_to_pixels(tasks, config, (targets, sources), (forward, back), flips, scores)


def _coarse(
    tasks: Sequence[FieldTask],
    targets: Sequence[Side],
    tried: dict[bool, list[Side]],
    config: CoherentConfig,
) -> tuple[list[bool], Layered, dict[bool, list[float]]]:
    """Which pairs are taken mirrored, their coarse fields, and the scores of all orientations."""
    device = tasks[0].target.data.device
    # One batch: all pairs as they are, then all mirrored.
    guides = guides_of(list(tasks) * len(tried), [flip for flip in tried for _ in tasks])
    there = nodes_of(targets, COARSE.nodes, 0.0)
    here = [nodes_of(sources, COARSE.nodes, 0.0) for sources in tried.values()]
    coarse = solve_coarse(stack_nodes([there] * len(tried)), stack_nodes(here), config, guides)
    values = coarse.cosine + config.mirror_evidence * coarse.support[:, 0]
    values = (values - _MISMATCH * coarse.misfit.clamp(max=1)).view(len(tried), -1)
    scores = dict(zip(tried, values.tolist(), strict=True))
    flips = [
        True
        if False not in scores
        else True in scores and scores[True][i] > scores[False][i] + config.mirror_margin
        for i in range(len(tasks))
    ]
    rows = [list(tried).index(flip) * len(tasks) + i for i, flip in enumerate(flips)]
    return flips, coarse.select(torch.tensor(rows, device=device)), scores


def _reverse(guides: Guided | None) -> Guided | None:
    return None if guides is None else Guided(guides.source, guides.target, guides.given)
