"""The grid engine on an NVIDIA GPU: launches its Triton kernels.

In and out: as `cpu`, with tensors on the GPU.
"""

from __future__ import annotations

from typing import Any

import triton
from torch import Tensor

from warpkit.match.grid.kernels import bound_cells, search_blocks
from warpkit.match.grid.plan import BlockShape, GridPlan
from warpkit.match.grid.refine import refine_band

__all__ = ["DEVICE", "KEYS", "QUERIES", "TOGETHER", "refine_band", "search_band"]

DEVICE = "cuda"
QUERIES = BlockShape(spacing=8, most=64)
TOGETHER = 8  # images of one search; more of them hide more launches
KEYS = BlockShape(spacing=8, most=32)

# Measured on an H200; wider steps or more warps need more registers than they are worth.
_CELLS = 256  # cells whose bounds one step looks at
_WARPS = 2


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
    """See `cpu.search_band`; k is 1."""
    cells = len(key.cell_nodes)
    bounds = products.new_empty(len(products), cells)
    launch: Any = bound_cells[(len(products), triton.cdiv(cells, _CELLS))]
    launch(
        products, bounds, key.cell_nodes, key.cell_stretch, products.shape[1], cells, CELLS=_CELLS
    )
    launch = search_blocks[(len(blocks),)]
    launch(
        products,
        bounds,
        first_row,
        blocks.start,
        query.cell_nodes,
        query.block_cell,
        query.block_sites,
        query.block_corners,
        query.block_stretch,
        query.site,
        query.coefficient,
        key.cell_nodes,
        key.cell_blocks,
        key.cell_first,
        key.block_sites,
        key.block_corners,
        key.block_stretch,
        key.block_first,
        key.site,
        key.coefficient,
        index,
        similarity,
        products.shape[1],
        cells,
        tolerance,
        CELLS=_CELLS,
        QUERIES=QUERIES.most,
        KEYS=KEYS.most,
        num_warps=_WARPS,
    )
