"""The coherent solver in `warpkit bench match`: one pair at a time, and on a GPU a batch.

In: descriptor maps of a pair, masks. Out: seconds and memory of solving both orientations of the
source; descriptors are there already, the mirrored source's too (its map is the source's, turned).
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warpkit.coherent import CoherentConfig, FieldTask, coherent_fields
from warpkit.runs.memory import PeakMemory
from warpkit.types import DescriptorMap

__all__ = ["BATCH", "Spent", "solver_task", "time_solver"]

BATCH = 16  # pairs that a GPU solves together


@dataclass(frozen=True)
class Spent:
    """What solving took.

    Attributes:
        seconds: a pair, the median of the runs.
        memory_mb: most memory taken above that before, in MB; None where unknown.
    """

    seconds: float
    memory_mb: float | None


def solver_task(source: DescriptorMap, target: DescriptorMap, mask: Tensor | None) -> FieldTask:
    """A pair to solve, both images under one mask, bool (height, width), or none."""
    mirrored = replace(source, data=source.data.flip(2).contiguous())
    return FieldTask(source, target, mirrored, mask, mask)


def time_solver(task: FieldTask, *, pairs: int = 1, repeats: int = 3) -> Spent:
    """Solve a pair as it is and mirrored.

    Args:
        task: the pair.
        pairs: copies of it that are solved together.
        repeats: runs after one that warms up.
    """
    device = task.target.data.device
    config = CoherentConfig(mirror="auto")
    tasks = [task] * pairs
    coherent_fields(tasks, config=config, batch=pairs)
    spent, taken = [], []
    for _ in range(repeats):
        with PeakMemory(device) as peak:
            started = time.perf_counter()
            coherent_fields(tasks, config=config, batch=pairs)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append((time.perf_counter() - started) / pairs)
        if peak.megabytes is not None:
            taken.append(peak.megabytes)
    return Spent(statistics.median(spent), round(max(taken), 1) if taken else None)
