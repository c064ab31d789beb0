"""Coherent fields: for every target pixel the source pixel that shows the same, smooth as objects
are.

In: descriptor maps of both images, masks, guides. Out: `CoherentField`. Pairs are solved together
on a GPU and one by one on a CPU; the result of a pair does not depend on which others come with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from warpkit.coherent.coarse import Layered, solve_coarse
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.guided import Guided
from warpkit.coherent.guides import Guides
from warpkit.coherent.levels import COARSE, FINE_OPEN, FINE_OUTLINED, Level
from warpkit.coherent.nodes import Nodes, stack_nodes
from warpkit.coherent.pairs import FieldTask, Side, check_task, guides_of, outlined, sides_of
from warpkit.coherent.pixels import CoherentField, to_pixels
from warpkit.coherent.windows import refine
from warpkit.match.matcher import exact_products
from warpkit.types import DescriptorMap

__all__ = ["CoherentField", "FieldTask", "coherent_field", "coherent_fields"]

_FINEST = 0.75  # least distance of nodes in cells of the maps
_ROWS = ("field", "affine", "share", "support", "evidence", "cosine", "misfit", "hub", "trust")
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
    both = [sides_of(task, config) for task in tasks]
    targets = [target for target, _ in both]
    tried: dict[bool, tuple[Layered, Guided | None]] = {}
    for flip in both[0][1]:
        guides = guides_of(tasks, [flip] * len(tasks))
        tried[flip] = _run(targets, [sources[flip] for _, sources in both], guides, config), guides
    scores = {
        flip: (
            coarse.cosine
            + config.mirror_evidence * coarse.support[:, 0]
            - _MISMATCH * coarse.misfit.clamp(max=1)
        ).tolist()
        for flip, (coarse, _) in tried.items()
    }
    flips = [
        True
        if False not in scores
        else True in scores and scores[True][i] > scores[False][i] + config.mirror_margin
        for i in range(len(tasks))
    ]
    sources = [sides[flip] for (_, sides), flip in zip(both, flips, strict=True)]
    guides = guides_of(tasks, flips)
    chosen = _pick([tried[flip][0] for flip in tried], [list(tried).index(flip) for flip in flips])
    back = _run(sources, targets, _reverse(guides), config)
    levels = FINE_OUTLINED if outlined(tasks[0]) else FINE_OPEN
    forward = _finer(chosen, targets, sources, guides, config, levels)
    # The way back need not be finer than the tolerance.
    back = _finer(back, sources, targets, _reverse(guides), config, levels[:1])
    fields = []
    for i, task in enumerate(tasks):
        row = torch.tensor([i], device=forward.share.device)
        fields.append(
            to_pixels(
                task,
                config,
                (targets[i], sources[i]),
                (_row(forward, row), _row(back, row)),
                flips[i],
                {flip: values[i] for flip, values in scores.items()},
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


def _pick(options: Sequence[Layered], which: Sequence[int]) -> Layered:
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
            for part in ("descriptors", "weight", "rim", "origin", "pitch", "edge")
        )
    )
    parts: dict[str, Any] = {name: mixed(name) for name in _ROWS}
    return replace(options[0], source=source, home=source, **parts)


def _row(coarse: Layered, row: Tensor) -> Layered:
    parts: dict[str, Any] = {name: getattr(coarse, name)[row] for name in _ROWS}
    ends: dict[str, Any] = {
        name: getattr(coarse, name).select(row) for name in ("target", "source", "home")
    }
    return replace(coarse, **(ends | parts))
