"""Many small pieces of work on the cores of a CPU.

A product of a tile is too small for several threads to share, so each thread takes whole tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["map_parts"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def map_parts(
    work: Callable[[_Part], _Result], parts: Iterable[_Part], device: torch.device
) -> list[_Result]:
    """`work` of every part, in order: on a CPU by as many threads as torch has, one core each."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return [work(part) for part in parts]
    # The number of threads of torch is one of each Python thread.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(work, parts))
