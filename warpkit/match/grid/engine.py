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
from types import ModuleType

import torch
from torch import Tensor

from warpkit.checks import InputError
from warpkit.match import filters
from warpkit.match.grid.plan import GridNodes, GridPlan, UsedNodes, plan_sites
from warpkit.match.grid.refine import Refinement
from warpkit.match.matcher import (
    Neighbours,
    check_search,
    create_matcher,
    exact_products,
    register_matcher,
)
from warpkit.match.pair import PairMatcher, PairMatches, Refined, Window, search_pair
from warpkit.types import DescriptorMap, Sites

__all__ = ["GridMatcher"]

_LOGGER = logging.getLogger("warpkit")

# Scores closer than this are a tie: a few roundings of a float32 near 1, as many as a score takes.
_TOLERANCE = 4e-7
_BAND_FLOATS = 2**25  # products and bounds alive together: 128 MB
_KEPT_FLOATS = 2**27  # products kept for the way back: 512 MB
_FEW = 16  # nodes per query from which on products of their own are cheaper than all


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
        if query.data.device.type != loops.DEVICE:
            return self._elsewhere(loops.DEVICE, query, key, queries, keys, k, homes, window)
        (query_nodes, query_plan), (key_nodes, key_plan) = _plan_both(
            loops, query, key, queries, keys
        )
        home_plan = None
        if homes is not None:
            home_plan = plan_sites(query_nodes, [query], [homes], [loops.KEYS])
        # For few queries the way back has other products than the way there.
        few = home_plan is not None and _FEW * len(queries) < len(query_nodes.unit)
        rows = UsedNodes.by(query_nodes, query_plan, None if few else home_plan)
        # A place between pixels can lie among nodes that no candidate does.
        columns = UsedNodes.by(key_nodes, key_plan, every=window is not None)
        products = _Products(rows.unit, columns.unit, keep=homes is not None and not few)
        forward, refined = _search(
            loops, products.rows, rows.of(query_plan), columns.of(key_plan), len(queries), k,
            None if window is None else Refinement(window, key, key_nodes, keys, columns),
        )  # fmt: skip
        returned = None
        if home_plan is not None:
            if few:
                rows = UsedNodes.by(query_nodes, home_plan)
                products = _Products(rows.unit, columns.unit, keep=False)
            chosen, chosen_sites = filters.chosen_keys(forward, keys)
            chosen_plan = plan_sites(key_nodes, [key], [chosen_sites], [loops.QUERIES])
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
        """See `pair.search_many`: the key is planned once.

        On a GPU images whose maps have one grid size are searched together.
        """
        for item, _ in queries:
            check_search(item, key, k=k)
        loops = _loops(key.data.device, k)
        if loops is None or key.data.device.type != loops.DEVICE:
            return [self.search(item, key, sites, keys, k=k) for item, sites in queries]
        key_nodes = GridNodes.of([key])
        key_plan = plan_sites(key_nodes, [key], [keys], [loops.KEYS])
        columns = UsedNodes.by(key_nodes, key_plan)
        key_plan = columns.of(key_plan)
        found: dict[int, Neighbours] = {}
        for members in _together(queries, loops.TOGETHER):
            maps = [queries[i][0] for i in members]
            sites = [queries[i][1] for i in members]
            nodes = GridNodes.of(maps)
            plan = plan_sites(nodes, maps, sites, [loops.QUERIES] * len(maps))
            rows = UsedNodes.by(nodes, plan)
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
        from warpkit.match.grid import triton as grid_triton

        return grid_triton
    try:
        from warpkit.match.grid import cpu as grid_cpu
    except ImportError as error:
        raise InputError(
            f"the matcher 'grid' needs numba, which does not import ({error}): run"
            " pip install numba, or take the matcher 'faiss' or 'reference'"
        ) from error
    return grid_cpu


def _plan_both(
    loops: ModuleType, query: DescriptorMap, key: DescriptorMap, queries: Sites, keys: Sites
) -> tuple[tuple[GridNodes, GridPlan], tuple[GridNodes, GridPlan]]:
    """Nodes and plans of both sides; of equal grids on a GPU in one go, for fewer launches."""
    if loops.TOGETHER > 1 and query.grid_size == key.grid_size:
        nodes = GridNodes.of([query, key])
        both = plan_sites(nodes, [query, key], [queries, keys], [loops.QUERIES, loops.KEYS])
        count = len(nodes.unit) // 2
        plans = both.split(nodes=count, sites=len(queries))
        return (nodes.part(0), plans[0]), (nodes.part(1), plans[1])
    query_nodes, key_nodes = GridNodes.of([query]), GridNodes.of([key])
    return (
        (query_nodes, plan_sites(query_nodes, [query], [queries], [loops.QUERIES])),
        (key_nodes, plan_sites(key_nodes, [key], [keys], [loops.KEYS])),
    )


def _moved(sites: Sites, device: str) -> Sites:
    index = None if sites.index is None else sites.index.to(device)
    return Sites(sites.xy.to(device), sites.lattice, index)


def _together(queries: Sequence[tuple[DescriptorMap, Sites]], most: int) -> list[list[int]]:
    """Positions of up to `most` maps of one grid size."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for position, (item, _) in enumerate(queries):
        by_size.setdefault(item.grid_size, []).append(position)
    return [
        positions[start : start + most]
        for positions in by_size.values()
        for start in range(0, len(positions), most)
    ]


Rows = Callable[[int, int], Tensor]


class _Products:
    """Products of all nodes of two images, in bands or as a whole."""

    def __init__(self, rows: Tensor, columns: Tensor, *, keep: bool) -> None:
        self._rows, self._columns = rows, columns
        small = len(rows) * len(columns) <= _KEPT_FLOATS
        self._whole = _product(rows, columns) if keep and small else None

    def rows(self, first: int, last: int) -> Tensor:
        """Products of rows [first, last) with all columns: float32 (last - first, columns)."""
        if self._whole is not None:
            return self._whole[first:last]
        return _product(self._rows[first:last], self._columns)

    def columns(self, first: int, last: int) -> Tensor:
        """Products of columns [first, last) with all rows."""
        if self._whole is not None:
            return self._whole[:, first:last].T.contiguous()
        return _product(self._columns[first:last], self._rows)


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    with exact_products(rows.device):
        return rows @ columns.T


def _search(
    loops: ModuleType,
    rows: Rows,
    query: GridPlan,
    key: GridPlan,
    count: int,
    k: int,
    refinement: Refinement | None,
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
