"""Exact search at the resolution of the image, from the products of the grids' nodes.

In: maps and sites. Out: the same `Neighbours` as the engine `reference`, at a cost near that of
matching the grids. Descriptors between grid nodes are bilinear, so that every score is a
combination of 4 x 4 products of nodes; bounds on whole cells and blocks leave few scores to be
taken. docs/matching.md explains it in these symbols.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor

from warpkit.checks import InputError, require
from warpkit.coords import bilinear_corners, bilinear_weights, corner_nodes
from warpkit.match import filters
from warpkit.match.grid_plan import GridNodes, GridPlan, PixelTable, plan_sites
from warpkit.match.matcher import Neighbours, check_search, create_matcher, register_matcher
from warpkit.match.pair import PairMatcher, PairMatches, Refined, Window, search_pair
from warpkit.types import DescriptorMap, Sites

__all__ = ["GridMatcher"]

_LOGGER = logging.getLogger("warpkit")

# Scores closer than this are a tie: twice float32's rounding of a cosine near 1, several times.
_TOLERANCE = 2e-7
_BAND_FLOATS = 2**25  # products and bounds alive together: 128 MB
_KEPT_FLOATS = 2**27  # products kept for the way back: 512 MB


@register_matcher("grid")
class GridMatcher(PairMatcher):
    """Exact search by bounds over grid cells; on the CPU (numba) or an NVIDIA GPU (Triton)."""

    exhaustive = False

    def search(
        self,
        query: DescriptorMap,
        key: DescriptorMap,
        queries: Sites,
        keys: Sites,
        *,
        k: int = 1,
    ) -> Neighbours:
        """See `Matcher.search`."""
        return self.search_pair(query, key, queries, keys, k=k).forward

    def search_pair(
        self,
        query: DescriptorMap,
        key: DescriptorMap,
        queries: Sites,
        keys: Sites,
        *,
        k: int = 1,
        homes: Sites | None = None,
        window: Window | None = None,
    ) -> PairMatches:
        """See `pair.search_pair`: all of it from one set of products.

        Products of more than 2^27 floats (512 MB) are not kept but taken again for the way back.
        """
        check_search(query, key, k=k)
        loops = _loops(query.data.device, k)
        if loops is None:
            return search_pair(
                create_matcher("reference"), query, key, queries, keys, k=k, homes=homes,
                window=window,
            )  # fmt: skip
        if loops.DEVICE != query.data.device.type:
            return self._elsewhere(loops.DEVICE, query, key, queries, keys, k, homes, window)
        query_nodes, key_nodes = GridNodes.of([query]), GridNodes.of([key])
        query_plan = plan_sites(query_nodes, [query], [queries], loops.QUERIES)
        key_plan = plan_sites(key_nodes, [key], [keys], loops.KEYS)
        home_plan = None
        if homes is not None:
            home_plan = plan_sites(query_nodes, [query], [homes], loops.KEYS)
        rows = _Nodes.used_by(query_nodes, query_plan, home_plan)
        columns = _Nodes.used_by(key_nodes, key_plan)
        products = _Products(rows.unit, columns.unit, keep=homes is not None)
        forward, refined = _search(
            loops, products.rows, rows.of(query_plan), columns.of(key_plan), len(queries), k,
            None if window is None else _Refinement(window, key, key_nodes, keys, columns),
        )  # fmt: skip
        returned = None
        if home_plan is not None:
            chosen, chosen_sites = filters.chosen_keys(forward, keys)
            chosen_plan = plan_sites(key_nodes, [key], [chosen_sites], loops.QUERIES)
            backward, _ = _search(
                loops, products.columns, columns.of(chosen_plan), rows.of(home_plan),
                len(chosen_sites), 1, None,
            )  # fmt: skip
            returned = filters.round_trip(chosen, backward)
        return PairMatches(forward, returned, refined)

    def search_many(
        self,
        queries: Sequence[tuple[DescriptorMap, Sites]],
        key: DescriptorMap,
        keys: Sites,
        *,
        k: int = 1,
    ) -> list[Neighbours]:
        """See `pair.search_many`: images whose maps have one grid size are searched together."""
        for item, _ in queries:
            check_search(item, key, k=k)
        loops = _loops(key.data.device, k)
        if loops is None or loops.DEVICE != key.data.device.type:
            return [self.search(item, key, sites, keys, k=k) for item, sites in queries]
        key_nodes = GridNodes.of([key])
        key_plan = plan_sites(key_nodes, [key], [keys], loops.KEYS)
        columns = _Nodes.used_by(key_nodes, key_plan)
        key_plan = columns.of(key_plan)
        found: dict[int, Neighbours] = {}
        for members in _together(queries):
            maps = [queries[i][0] for i in members]
            sites = [queries[i][1] for i in members]
            nodes = GridNodes.of(maps)
            plan = plan_sites(nodes, maps, sites, loops.QUERIES)
            rows = _Nodes.used_by(nodes, plan)
            products = _Products(rows.unit, columns.unit, keep=False)
            counts = [len(item) for item in sites]
            whole, _ = _search(loops, products.rows, rows.of(plan), key_plan, sum(counts), k, None)
            parts = zip(whole.index.split(counts), whole.similarity.split(counts), strict=True)
            found |= {i: Neighbours(*part) for i, part in zip(members, parts, strict=True)}
        return [found[i] for i in range(len(queries))]

    def _elsewhere(
        self,
        device: str,
        query: DescriptorMap,
        key: DescriptorMap,
        queries: Sites,
        keys: Sites,
        k: int,
        homes: Sites | None,
        window: Window | None,
    ) -> PairMatches:
        """Search on another device and bring the result back."""
        home = query.data.device
        found = self.search_pair(
            query.to(device), key.to(device), _moved(queries, device), _moved(keys, device), k=k,
            homes=None if homes is None else _moved(homes, device), window=window,
        )  # fmt: skip
        forward, refined = found.forward, found.refined
        return PairMatches(
            Neighbours(forward.index.to(home), forward.similarity.to(home)),
            None if found.returned is None else found.returned.to(home),
            None if refined is None else Refined(refined.xy.to(home), refined.similarity.to(home)),
        )


def _loops(device: torch.device, k: int) -> ModuleType | None:
    """The module whose loops run for maps on a device; None where the reference must do."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            _LOGGER.warning(
                "the matcher 'grid' needs the package triton on a GPU, which is not installed:"
                " taking the slower 'reference'"
            )
            return None
        if k > 1:
            _LOGGER.debug("the matcher 'grid' finds one key on a GPU: taking 'reference' for k > 1")
            return None
        from warpkit.match import grid_triton

        return grid_triton
    try:
        from warpkit.match import grid_cpu
    except ImportError as error:
        raise InputError(
            f"the matcher 'grid' needs numba, which does not import ({error}): run"
            " pip install numba, or take the matcher 'faiss' or 'reference'"
        ) from error
    return grid_cpu


def _moved(sites: Sites, device: str) -> Sites:
    index = None if sites.index is None else sites.index.to(device)
    return Sites(sites.xy.to(device), sites.lattice, index)


def _together(queries: Sequence[tuple[DescriptorMap, Sites]]) -> list[list[int]]:
    """Positions of maps of one grid size."""
    groups: dict[tuple[int, int], list[int]] = {}
    for position, (item, _) in enumerate(queries):
        groups.setdefault(item.grid_size, []).append(position)
    return list(groups.values())


@dataclass(frozen=True, eq=False)
class _Nodes:
    """The nodes of one side that take part, in order: rows or columns of the products."""

    unit: Tensor  # float32 (n, C)
    row: Tensor  # int32 (all nodes,); of a node that takes no part the row of some other

    @classmethod
    def used_by(cls, nodes: GridNodes, *plans: GridPlan | None) -> _Nodes:
        used = torch.zeros(len(nodes.unit), dtype=torch.bool, device=nodes.unit.device)
        for plan in plans:
            if plan is not None:
                used[plan.cell_nodes.long()] = True
        return cls(nodes.unit[used], (used.cumsum(0).int() - 1).clamp(min=0))

    def number(self, node: Tensor) -> Tensor:
        """The rows of nodes."""
        return self.row[node.long()]

    def of(self, plan: GridPlan) -> GridPlan:
        """A plan whose cells name rows instead of nodes."""
        return replace(plan, cell_nodes=self.number(plan.cell_nodes))


Rows = Callable[[int, int], Tensor]


class _Products:
    """Products of all nodes of two images, in bands or as a whole."""

    def __init__(self, rows: Tensor, columns: Tensor, *, keep: bool) -> None:
        self._rows, self._columns = rows, columns
        small = len(rows) * len(columns) <= _KEPT_FLOATS
        self._whole = rows @ columns.T if keep and small else None

    def rows(self, first: int, last: int) -> Tensor:
        """Products of rows [first, last) with all columns: float32 (last - first, columns)."""
        if self._whole is not None:
            return self._whole[first:last]
        return self._rows[first:last] @ self._columns.T

    def columns(self, first: int, last: int) -> Tensor:
        """Products of columns [first, last) with all rows."""
        if self._whole is not None:
            return self._whole[:, first:last].T.contiguous()
        return self._columns[first:last] @ self._rows.T


class _Refinement:
    """What the window soft-argmax needs to know of the key image."""

    def __init__(
        self, window: Window, key: DescriptorMap, nodes: GridNodes, keys: Sites, columns: _Nodes
    ) -> None:
        require(
            keys.index is not None and keys.lattice == (key.height, key.width),
            "sub-pixel matches are refined among the pixels of an image: search its pixels",
        )
        assert keys.index is not None
        table = PixelTable.of(nodes, key, keys)
        self.window, self.key, self.nodes, self.columns = window, key, nodes, columns
        self.key_pixel = keys.index.to(key.data.device)
        self.table = replace(table, nodes=columns.number(table.nodes))
        allowed = torch.zeros(key.height * key.width, dtype=torch.bool, device=key.data.device)
        allowed[self.key_pixel] = True
        self.allowed = allowed.view(key.height, key.width)

    def refine(
        self,
        loops: ModuleType,
        products: Tensor,
        first_row: int,
        plan: GridPlan,
        blocks: range,
        index: Tensor,
        refined: Refined,
    ) -> None:
        """Write the refined matches of the queries of some blocks."""
        loops.refine_band(
            products, first_row, plan, blocks, index=index, key_pixel=self.key_pixel,
            table=self.table, radius=self.window.radius, temperature=self.window.temperature,
            refined=refined.xy,
        )  # fmt: skip
        first, last = (int(plan.block_sites[block]) for block in (blocks.start, blocks.stop))
        sites = plan.site[first:last]
        mean, found = refined.xy[sites], index[sites] >= 0
        pixel = self.key_pixel[index[sites].clamp(min=0)]
        home = torch.stack([pixel % self.key.width, pixel // self.key.width], dim=-1).float()
        # The mean of a bent region can lie outside it: such a match stays where it was.
        moved = torch.where(filters.inside_mask(self.allowed, mean)[..., None], mean, home)
        refined.xy[sites] = moved * found[..., None]
        similarity = self._similarity(products, first_row, plan, first, last, moved)
        refined.similarity[sites] = similarity * found

    def _similarity(
        self, products: Tensor, first_row: int, plan: GridPlan, first: int, last: int, xy: Tensor
    ) -> Tensor:
        """Cosines of the planned queries [first, last) with places (n, k, 2): float32 (n, k)."""
        h, w = self.nodes.grid
        place = torch.arange(first, last, device=xy.device)
        block = torch.searchsorted(plan.block_sites, place.int(), right=True) - 1
        rows = plan.cell_nodes[plan.block_cell[block].long()].long() - first_row
        corner, fraction = bilinear_corners(self.key, xy.flatten(0, 1))
        around = corner_nodes(corner, h=h, w=w)
        weight, _ = self.nodes.coefficients(around, bilinear_weights(fraction))
        columns = self.columns.number(around).long().view(*xy.shape[:2], 4)
        weight = weight.view(*xy.shape[:2], 4)
        total = xy.new_zeros(xy.shape[:2])
        for i in range(4):
            for j in range(4):
                product = products[rows[:, i, None], columns[..., j]]
                total += plan.coefficient[first:last, i, None] * weight[..., j] * product
        return total.clamp(-1.0, 1.0)


def _search(
    loops: ModuleType,
    rows: Rows,
    query: GridPlan,
    key: GridPlan,
    count: int,
    k: int,
    refinement: _Refinement | None,
) -> tuple[Neighbours, Refined | None]:
    """Search for all queries of a plan, band by band of their rows of products.

    Args:
        loops: the module that searches.
        rows: gives products of query nodes with key nodes.
        query: plan whose cells name rows.
        key: plan whose cells name columns.
        count: queries, with and without direction.
        k: keys per query.
        refinement: how matches are refined.
    """
    device = query.coefficient.device
    index = torch.full((count, k), -1, dtype=torch.int64, device=device)
    similarity = torch.zeros(count, k, device=device)
    refined = None
    if refinement is not None:
        refined = Refined(torch.zeros(count, k, 2, device=device), torch.zeros_like(similarity))
    cells = len(key.cell_nodes)
    if cells == 0:
        return Neighbours(index, similarity), refined
    width = int(key.cell_nodes.max()) + 1 + cells
    for first, last, blocks in _bands(query, max(1, _BAND_FLOATS // width)):
        products = rows(first, last)
        loops.search_band(
            products, first, query, key, blocks, tolerance=_TOLERANCE, index=index,
            similarity=similarity,
        )  # fmt: skip
        if refinement is not None and refined is not None:
            refinement.refine(loops, products, first, query, blocks, index, refined)
    return Neighbours(index, similarity), refined


def _bands(plan: GridPlan, most: int) -> Iterator[tuple[int, int, range]]:
    """Runs of whole cells that touch at most `most` rows of products, or of one cell.

    Yields:
        The rows [first, last) that a run touches, and its blocks.
    """
    cells = plan.cell_nodes.cpu()
    first_row, last_row = cells[:, 0].contiguous(), cells[:, 3].contiguous()  # neither ever falls
    blocks = plan.cell_blocks.tolist()
    start = 0
    while start < len(cells):
        first = int(first_row[start])
        stop = int(torch.searchsorted(last_row, first + most))
        stop = max(stop, start + 1)
        yield first, int(last_row[stop - 1]) + 1, range(blocks[start], blocks[stop])
        start = stop
