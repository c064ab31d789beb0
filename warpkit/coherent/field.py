"""Coherent fields: for every target pixel the source pixel that shows the same, smooth as objects
are.

In: descriptor maps of both images, masks, guides. Out: `CoherentField`. Pairs are solved together
on a GPU, and each by one core on a CPU, where a single pair has two for its parts. The result of a
pair does not depend on which others come with it, but for objects so small that they have fewer
nodes than others of their batch: lengths are those of the largest there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
from warpkit.match.cores import ALONE, Cores, own_cores
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
        batch: pairs that a GPU solves together.

    Returns:
        One field per task, in order.

    Raises:
        InputError: as `coherent_field`.
    """
    config = config or CoherentConfig()
    for task in tasks:
        check_task(task)
    if not tasks:
        return []
    found: dict[int, CoherentField] = {}
    device = tasks[0].target.data.device
    parts = _parts(tasks, 1 if device.type == "cpu" else batch)
    most = max(2, len(parts))
    with torch.no_grad(), own_cores(device, most=most) as cores, exact_products(device):
        # One pair has the cores for its own parts.
        inner = cores if len(parts) == 1 else ALONE
        calls = [partial(_solve, [tasks[i] for i in part], config, inner) for part in parts]
        for part, fields in zip(parts, cores.each(calls), strict=True):
            found.update(zip(part, fields, strict=True))
    return [found[i] for i in range(len(tasks))]


def _parts(tasks: Sequence[FieldTask], size: int) -> list[list[int]]:
    """Which pairs are solved together: pairs with outlines are solved on levels of their own."""
    parts = []
    for known in (False, True):
        rows = [i for i, task in enumerate(tasks) if outlined(task) == known]
        parts += [rows[start : start + size] for start in range(0, len(rows), size)]
    return parts


def _solve(
    tasks: Sequence[FieldTask], config: CoherentConfig, cores: Cores = ALONE
) -> list[CoherentField]:
    targets, tried = sides_of(tasks, config)
    flips, coarse, scores = _coarse(tasks, targets, tried, config, cores)
    sources = [tried[flip][i] for i, flip in enumerate(flips)]
    guides = guides_of(tasks, flips)
    levels = FINE_OUTLINED if outlined(tasks[0]) else FINE_OPEN
    first = cores.beside(
        [partial(nodes_of, sides, levels[0].nodes, _FINEST) for sides in (targets, sources)]
    )

    def there() -> Layered:
        found = refine(coarse.owning(), first[0], first[1], levels[0], config, guides)
        for level in levels[1:]:
            target, source = (nodes_of(sides, level.nodes, _FINEST) for sides in (targets, sources))
            found = refine(found, target, source, level, config, guides)
        return found

    def back() -> Layered:
        # It need not be finer than the tolerance.
        turned = _reverse(guides)
        found = solve_coarse(coarse.source, coarse.target, config, turned)
        return refine(found.owning(), first[1], first[0], levels[0], config, turned)

    solved = cores.beside([there, back])
    return field_to_pixels(tasks, config, (targets, sources), (solved[0], solved[1]), flips, scores)


def _coarse(
    tasks: Sequence[FieldTask],
    targets: Sequence[Side],
    tried: dict[bool, list[Side]],
    config: CoherentConfig,
    cores: Cores,
) -> tuple[list[bool], Layered, dict[bool, list[float]]]:
    """Which pairs are taken mirrored, their coarse fields, and the scores of all orientations."""
    device = tasks[0].target.data.device
    there = nodes_of(targets, COARSE.nodes, 0.0)

    def solve(flips: Sequence[bool]) -> Layered:
        guides = guides_of(list(tasks) * len(flips), [flip for flip in flips for _ in tasks])
        here = [nodes_of(tried[flip], COARSE.nodes, 0.0) for flip in flips]
        return solve_coarse(stack_nodes([there] * len(flips)), stack_nodes(here), config, guides)

    # A GPU takes all pairs as they are, then all mirrored, in one batch.
    groups = [[flip] for flip in tried] if device.type == "cpu" else [list(tried)]
    coarse = Layered.of(cores.beside([partial(solve, flips) for flips in groups]))
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
