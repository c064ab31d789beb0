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
from warpkit.coherent.levels import COARSE, FINE_OPEN, FINE_OUTLINED, Level
from warpkit.coherent.nodes import stack_nodes
from warpkit.coherent.pairs import FieldTask, Side, check_task, guides_of, outlined, sides_of
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
    device = tasks[0].target.data.device
    both = [sides_of(task, config) for task in tasks]
    targets = [target for target, _ in both]
    # One batch: all pairs as they are, then all mirrored.
    tried = list(both[0][1])
    guides = guides_of(list(tasks) * len(tried), [flip for flip in tried for _ in tasks])
    coarse = _run(
        targets * len(tried),
        [sources[flip] for flip in tried for _, sources in both],
        guides,
        config,
    )
    values = coarse.cosine + config.mirror_evidence * coarse.support[:, 0]
    values = (values - _MISMATCH * coarse.misfit.clamp(max=1)).view(len(tried), -1)
    scores = dict(zip(tried, values.tolist(), strict=True))
    flips = [
        True
        if False not in scores
        else True in scores and scores[True][i] > scores[False][i] + config.mirror_margin
        for i in range(len(tasks))
    ]
    rows = [tried.index(flip) * len(tasks) + i for i, flip in enumerate(flips)]
    chosen = coarse.select(torch.tensor(rows, device=device))
    sources = [sides[flip] for (_, sides), flip in zip(both, flips, strict=True)]
    guides = guides_of(tasks, flips)
    back = _run(sources, targets, _reverse(guides), config)
    levels = FINE_OUTLINED if outlined(tasks[0]) else FINE_OPEN
    forward = _finer(chosen, targets, sources, guides, config, levels)
    # The way back need not be finer than the tolerance.
    back = _finer(back, sources, targets, _reverse(guides), config, levels[:1])
    fields = []
    for i, task in enumerate(tasks):
        row = torch.tensor([i], device=device)
        fields.append(
            field_to_pixels(
                task,
                config,
                (targets[i], sources[i]),
                (forward.select(row), back.select(row)),
                flips[i],
                {flip: found[i] for flip, found in scores.items()},
            )
        )
    return fields


def _reverse(guides: Guided | None) -> Guided | None:
    return None if guides is None else Guided(guides.source, guides.target, guides.given)


def _run(
    targets: Sequence[Side],
    sources: Sequence[Side],
    guides: Guided | None,
    config: CoherentConfig,
) -> Layered:
    return solve_coarse(
        stack_nodes([side.nodes(COARSE.nodes, 0.0) for side in targets]),
        stack_nodes([side.nodes(COARSE.nodes, 0.0) for side in sources]),
        config,
        guides,
    )


def _finer(
    coarse: Layered,
    targets: Sequence[Side],
    sources: Sequence[Side],
    guides: Guided | None,
    config: CoherentConfig,
    levels: Sequence[Level],
) -> Layered:
    coarse = coarse.owning()
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
