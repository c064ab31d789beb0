"""The grid engine on the CPU: its compiled loops, run in threads.

In: plans and products as tensors on the CPU. Out: matches, written into the caller's tensors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.match.grid.loops import bound_cells, refine_windows, search_blocks
from warpkit.match.grid.plan import BlockShape, GridPlan, PixelTable

__all__ = ["DEVICE", "KEYS", "QUERIES", "TOGETHER", "refine_band", "search_band"]

DEVICE = "cpu"
QUERIES = BlockShape(spacing=8, most=64)
TOGETHER = 1  # a second image at a time would only need more memory
KEYS = BlockShape(spacing=4, most=32)

_LOGGER = logging.getLogger("warpkit")


class PlanArrays(NamedTuple):
    """`GridPlan` as numpy arrays, with cells' nodes as rows and columns of the products."""

    cell_nodes: npt.NDArray[np.int32]
    cell_stretch: npt.NDArray[np.float32]
    cell_blocks: npt.NDArray[np.int32]
    cell_first: npt.NDArray[np.int64]
    block_cell: npt.NDArray[np.int32]
    block_sites: npt.NDArray[np.int32]
    block_corners: npt.NDArray[np.float32]
    block_stretch: npt.NDArray[np.float32]
    block_first: npt.NDArray[np.int64]
    site: npt.NDArray[np.int64]
    coefficient: npt.NDArray[np.float32]


def search_band(
    products: Tensor,
    first_row: int,
    query: GridPlan,
    key: GridPlan,
    blocks: range,
    *,
    tolerance: float,
    index: Tensor,
    similarity: Tensor,
) -> None:
    """Search for the queries of some blocks.

    Args:
        products: float32 (rows, keys' nodes); the first row belongs to query node `first_row`.
        first_row: see `products`.
        query: plan of the queries; its nodes are rows of all products.
        key: plan of the keys; its nodes are columns of `products`.
        blocks: of `query`.
        tolerance: scores closer than this are a tie.
        index: int64 (queries, k), written where a query found something.
        similarity: float32 (queries, k), likewise.
    """
    table, queries, keys = products.numpy(), _arrays(query), _arrays(key)
    bounds = np.empty((len(table), len(keys.cell_nodes)), np.float32)
    out = (index.numpy(), similarity.numpy())

    def bound(rows: range) -> None:
        part = slice(rows.start, rows.stop)
        bound_cells(table[part], keys.cell_nodes, keys.cell_stretch, bounds[part])

    def search(part: range) -> None:
        search_blocks(
            table, bounds, first_row, queries, keys, part.start, part.stop,
            np.float32(tolerance), *out,
        )  # fmt: skip

    _in_threads(bound, range(len(table)), bound_cells)
    _in_threads(search, blocks, search_blocks)


def refine_band(
    products: Tensor,
    first_row: int,
    query: GridPlan,
    blocks: range,
    *,
    index: Tensor,
    key_pixel: Tensor,
    table: PixelTable,
    radius: int,
    temperature: float,
    refined: Tensor,
) -> None:
    """Refine the matches of the queries of some blocks; see `search_band` and `refine_windows`."""
    arguments = (
        index.numpy(),
        key_pixel.numpy(),
        table.nodes.numpy(),
        table.coefficient.numpy(),
        table.width,
        radius,
        temperature,
        refined.numpy(),
    )
    queries, rows = _arrays(query), products.numpy()

    def refine(part: range) -> None:
        refine_windows(rows, first_row, queries, part.start, part.stop, *arguments)

    _in_threads(refine, blocks, refine_windows)


def _in_threads(work: Callable[[range], None], whole: range, loop: Any) -> None:
    """Do `work` on parts of a range in as many threads as torch uses.

    Args:
        loop: the compiled loop that `work` calls. Its compilation is told of.
    """
    if not loop.signatures:
        _compile(loop, lambda: work(range(whole.start, whole.start)))
    threads = torch.get_num_threads()
    step = max(16, -(-len(whole) // (8 * threads)))
    parts = [whole[start : start + step] for start in range(0, len(whole), step)]
    if len(parts) == 1 or threads == 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))  # the list raises what a thread raised


def _compile(loop: Any, call: Callable[[], None]) -> None:
    """Make numba compile a loop, or load it from its cache, and say so if that takes a while."""
    name, folder = loop.py_func.__name__, loop.stats.cache_path
    if folder is None or not any(Path(folder).glob(f"*.{name}-*.nbi")):
        _LOGGER.info("compiling the matching loop %s for this processor (seconds, once)", name)
    started = time.perf_counter()
    call()
    if loop.stats.cache_misses or not loop.stats.cache_hits:
        folder = loop.stats.cache_path  # None where it could not be kept after all
        kept = "for this process" if folder is None else f"and kept it in {folder}"
        seconds = time.perf_counter() - started
        _LOGGER.info("compiled %s in %.1f s %s", name, seconds, kept)


def _arrays(plan: GridPlan) -> PlanArrays:
    return PlanArrays(
        *(np.ascontiguousarray(getattr(plan, name).numpy()) for name in PlanArrays._fields)
    )
