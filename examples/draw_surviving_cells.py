"""Draw which cells of the source survive the bounds of the grid engine for blocks of the target.

    python examples/draw_surviving_cells.py -o docs/images/surviving-cells.png
    python examples/draw_surviving_cells.py A.jpg B.jpg --at 230,140 --at 80,300

Written in plain torch, step by step as docs/matching.md tells it, with the plans of the engine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scripts import errors_in_one_line
from torch import Tensor

import warpkit
from warpkit.coords import lattice_sites
from warpkit.match.grid.plan import BlockShape, GridNodes, GridPlan, plan_sites
from warpkit.render import render_pair
from warpkit.types import DescriptorMap
from warpkit.viz import OBJECT_COLORS, panel, scale_colors

BLOCKS = BlockShape(spacing=8, most=64)


def main() -> None:
    """Describe two pictures, bound all cells for some blocks, draw what is left."""
    parser = argparse.ArgumentParser(description="Draw which source cells survive the bounds.")
    parser.add_argument("images", nargs="*", type=Path, help="source and target")
    parser.add_argument("--at", action="append", help="target pixel x,y whose block is shown")
    parser.add_argument("-o", "--output", type=Path, default=Path("surviving-cells.png"))
    errors_in_one_line()
    arguments = parser.parse_args()
    if arguments.images:
        source, target = (warpkit.read_image(path) for path in arguments.images)
    else:
        source, target = (frame.image for frame in render_pair(name="fish"))
    height, width = target.shape[:2]
    places = [tuple(float(v) for v in text.split(",")) for text in arguments.at or []]
    places = places or [(0.5 * width, 0.45 * height), (0.2 * width, 0.8 * height)]

    model = warpkit.load("tiny", device="cpu")
    source_map, target_map = model.describer.describe([source, target])
    query_nodes, query = plan(target_map)
    key_nodes, key = plan(source_map)
    products = query_nodes.unit @ key_nodes.unit.T  # <t_i, s_j>
    bounds = bound_cells(products, key)

    tiles = []
    for number, place in enumerate(places):
        block = block_at(query, place, width=width)
        survives, excess = surviving_cells(block, products, bounds, query, key)
        sites = query.site[query.block_sites[block] : query.block_sites[block + 1]]
        marked = paint(target, sites, OBJECT_COLORS[number])
        cells = paint_cells(source, survives, excess, key)
        tiles += [
            (f"a block of {len(sites)} target pixels", marked),
            (f"{int(survives.sum())} of {len(survives)} source cells survive", cells),
        ]
        print(f"{int(survives.sum())} of {len(survives)} cells survive for {len(sites)} pixels")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    warpkit.write_image(arguments.output, panel(tiles, columns=2, height=300))


def plan(item: DescriptorMap) -> tuple[GridNodes, GridPlan]:
    """The nodes of a map, and all pixels of its image sorted into cells and blocks."""
    nodes = GridNodes.of([item])
    return nodes, plan_sites(
        nodes, [item], [lattice_sites(height=item.height, width=item.width)], [BLOCKS]
    )


def bound_cells(products: Tensor, key: GridPlan) -> Tensor:
    """R[i, c], the most that query node i can score with a key of cell c: (nodes, cells)."""
    largest = products[:, key.cell_nodes.long()].amax(dim=2)
    return largest * torch.where(largest > 0, key.cell_stretch[:, 0], key.cell_stretch[:, 1])


def block_at(query: GridPlan, place: tuple[float, float], *, width: int) -> int:
    """The block of the target pixel nearest to a place."""
    pixel = round(place[1]) * width + round(place[0])
    position = int(torch.nonzero(query.site == pixel)[0, 0])
    return int(torch.searchsorted(query.block_sites, position, right=True)) - 1


def surviving_cells(
    block: int, products: Tensor, bounds: Tensor, query: GridPlan, key: GridPlan
) -> tuple[Tensor, Tensor]:
    """Whether every source cell survives, bool (cells,), and by how much, (cells,)."""
    rows = query.cell_nodes[query.block_cell[block]].long()
    omega = query.block_corners[block]  # (corners, nodes)
    # The seed: the best key, for the middle of the block, of the cell that promises it most.
    cell = int((omega.sum(0) @ bounds[rows]).argmax())
    first = int(key.block_sites[key.cell_blocks[cell]])
    last = int(key.block_sites[key.cell_blocks[cell + 1]])
    with_keys = products[rows][:, key.cell_nodes[cell].long()] @ key.coefficient[first:last].T
    seed = int((omega.sum(0) @ with_keys).argmax())
    threshold = omega @ with_keys[:, seed]  # what the seed scores at each corner
    excess = (omega @ bounds[rows] - threshold[:, None]).amax(dim=0)
    return excess > 0, excess


def paint(
    image: npt.NDArray[np.uint8], sites: Tensor, colour: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """The image, faded, with pixels in a colour."""
    painted = (image * 0.5 + 127).astype(np.uint8)
    painted.reshape(-1, 3)[sites.numpy()] = colour
    return painted


def paint_cells(
    image: npt.NDArray[np.uint8], survives: Tensor, excess: Tensor, key: GridPlan
) -> npt.NDArray[np.uint8]:
    """The image, faded, with surviving cells coloured from dark (hardly) to bright (by most)."""
    painted = (image * 0.5 + 127).astype(np.uint8)
    flat = painted.reshape(-1, 3)
    most = float(excess.max())
    for cell in torch.nonzero(survives)[:, 0].tolist():
        first = int(key.block_sites[key.cell_blocks[cell]])
        last = int(key.block_sites[key.cell_blocks[cell + 1]])
        share = np.array([float(excess[cell]) / most])
        flat[key.site[first:last].numpy()] = scale_colors(0.15 + 0.85 * share)[0]
    return painted


if __name__ == "__main__":
    main()
