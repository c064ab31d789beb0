"""Which cells of the context frames a cell of the current frame resembles most.

In: descriptors (h, w, C) of the current frame (queries) and of the context frames (keys), whose
products are similarities. Out: for every query its k best keys over all context frames jointly,
inside a window if asked.
Ways that agree: `reference_cells` (all pairs, masked, one top-k) and `nearest_cells`: on a CPU only
the pairs inside reach, tile by tile; on a GPU, where many small products cost more than a few large
ones, all pairs of some queries at a time, masked.

Convention: cells are counted row by row; key `f * h * w + v * w + u` is cell `(u, v)` of context
frame `f`. A window `(rows, columns)` allows the keys with `|dv| <= rows` and `|du| <= columns`;
None allows every key of that frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from warpkit.match.cores import map_parts

__all__ = [
    "CellMatches",
    "Tile",
    "Window",
    "blend_cells",
    "nearest_cells",
    "principal_directions",
    "reference_cells",
    "tiles",
    "with_colour",
]

Window = tuple[int, int] | None

# Side of a square tile of queries: larger tiles multiply more pairs outside the windows, smaller
# ones copy more keys. 8 was the fastest on 64 x 114 cells with a window of 13 cells.
_TILE = 8
# Queries per product with a whole frame: a block of scores should stay in the cache.
_ROWS = 256


@dataclass(frozen=True, eq=False)
class CellMatches:
    """The best keys of every query.

    Attributes:
        similarity: float (N, k), best first; -inf where a query has fewer than k keys in reach.
        index: int64 (N, k), keys counted as above; any key where `similarity` is -inf.
    """

    similarity: Tensor
    index: Tensor

    def best(self, k: int) -> CellMatches:
        """The k best of every row, sorted."""
        similarity, order = self.similarity.topk(min(k, self.similarity.shape[1]), dim=1)
        return CellMatches(similarity, self.index.gather(1, order))


def principal_directions(unit: Tensor, count: int) -> Tensor:
    """Orthonormal directions that hold most of the products of descriptors with each other.

    Args:
        unit: (h, w, C), unit descriptors of one frame.
        count: how many, at most C.

    Returns:
        (C, count): the eigenvectors with the largest eigenvalues of the second moment, which is not
        centred, since products are not.
    """
    rows = unit.flatten(0, 1).double()
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    return vectors[:, -count:].to(unit.dtype).contiguous()


def with_colour(unit: Tensor, colours: Tensor, *, weight: float) -> tuple[Tensor, Tensor]:
    """Queries and keys whose products are `cosine - weight * |colour distance|^2`.

    The part `-weight * |colour of the query|^2`, equal for all keys of a query, is left out: it
    changes neither the order of the keys nor their renormalised weights.

    Args:
        unit: (h, w, C), unit descriptors of one frame.
        colours: (h, w, 3), mean colour of every cell.

    Returns:
        `(queries, keys)`, both (h, w, C + 4), for the same frame in either part; what is added to
        the last channel of a key is added to its similarity.
    """
    # |a - b|^2 = |a|^2 - 2 a.b + |b|^2: the middle part is a product, the last one a channel of
    # the keys that meets a 1 of the queries.
    scaled = (2 * weight) ** 0.5 * colours
    norm = -weight * colours.square().sum(dim=-1, keepdim=True)
    queries = torch.cat([unit, scaled, torch.ones_like(norm)], dim=-1)
    return queries, torch.cat([unit, scaled, norm], dim=-1)


def reference_cells(
    query: Tensor, keys: Sequence[Tensor], windows: Sequence[Window], *, k: int
) -> CellMatches:
    """The k best keys of every query by the definition: all pairs, masked, one stable sort.

    Equal similarities go to the earlier context frame, then to the lower cell.

    Args:
        query: (h, w, C), products with keys are similarities.
        keys: one (h, w, C) per context frame.
        windows: one window per context frame.
    """
    h, w, _ = query.shape
    row = torch.arange(h, device=query.device).repeat_interleave(w)
    column = torch.arange(w, device=query.device).repeat(h)
    columns = []
    for key, window in zip(keys, windows, strict=True):
        similarity = query.flatten(0, 1) @ key.flatten(0, 1).T
        if window is not None:
            outside = ((row[:, None] - row[None]).abs() > window[0]) | (
                (column[:, None] - column[None]).abs() > window[1]
            )
            similarity = similarity.masked_fill(outside, -torch.inf)
        columns.append(similarity)
    similarity, index = torch.cat(columns, dim=1).sort(dim=1, descending=True, stable=True)
    return CellMatches(similarity[:, :k], index[:, :k])


def nearest_cells(
    query: Tensor,
    keys: Sequence[Tensor],
    windows: Sequence[Window],
    *,
    k: int,
    asked: Tensor | None = None,
) -> CellMatches:
    """The k best keys of every query, equal to `reference_cells` up to ties and rounding.

    Frames without a window are searched one after the other with a running top-k; frames with a
    window together, tile by tile of the queries, against the keys within reach of the tile.

    Args:
        asked: bool (h, w), the queries that are answered, in the order of cells; None is all.
    """
    cells = query.shape[0] * query.shape[1]
    if asked is None:
        asked = torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)
    # A window that reaches every cell from every cell is no window.
    windows = [
        None if window is not None and _covers(query, window) else window for window in windows
    ]
    if query.is_cuda:
        return _search_masked(query, keys, windows, k, asked)
    best: CellMatches | None = None
    for frame, (key, window) in enumerate(zip(keys, windows, strict=True)):
        if window is None:
            found = _search_whole(query[asked], key, k)
            best = _merge(best, CellMatches(found.similarity, found.index + frame * cells), k)
    for window in dict.fromkeys(window for window in windows if window is not None):
        frames = [f for f, other in enumerate(windows) if other == window]
        found = _search_windows(query, [keys[f] for f in frames], window, k, asked)
        start = torch.tensor(frames, device=query.device) * cells
        index = start[found.index // cells] + found.index % cells
        best = _merge(best, CellMatches(found.similarity, index), k)
    assert best is not None, "nearest_cells needs at least one context frame"
    return best


def blend_cells(matches: CellMatches, values: Tensor, *, temperature: float) -> Tensor:
    """Values of the matched keys, weighted by `exp(similarity / temperature)` over the k kept.

    Args:
        values: (M, K), one row per key.

    Returns:
        (N, K).
    """
    weight = torch.softmax(matches.similarity / temperature, dim=1).to(values.dtype)
    return torch.einsum("nk,nkc->nc", weight, values[matches.index])


def _covers(query: Tensor, window: tuple[int, int]) -> bool:
    return window[0] >= query.shape[0] - 1 and window[1] >= query.shape[1] - 1


def _merge(first: CellMatches | None, second: CellMatches, k: int) -> CellMatches:
    if first is None:
        return second
    return CellMatches(
        torch.cat([first.similarity, second.similarity], dim=1),
        torch.cat([first.index, second.index], dim=1),
    ).best(k)


def _best_of_groups(scores: Tensor, k: int, allowed: Tensor | None = None) -> CellMatches:
    """The k best of scores (N, a, b), index `i * b + j`; `allowed` bool (N, b) or None.

    The k best entries lie in the k groups (columns `j`) with the largest maxima, so only those
    are sorted: one vectorised maximum replaces a selection over all entries.
    """
    n, a, b = scores.shape
    top = scores.amax(dim=1)
    if allowed is not None:
        top = top.masked_fill_(~allowed, -torch.inf)
    group = top.topk(min(k, b), dim=1).indices
    entry = scores.gather(2, group[:, None].expand(n, a, -1))
    if allowed is not None:
        entry = entry.masked_fill_(~allowed.gather(1, group)[:, None], -torch.inf)
    index = torch.arange(a, device=scores.device)[None, :, None] * b + group[:, None]
    return CellMatches(entry.flatten(1), index.flatten(1)).best(k)


def _search_whole(rows: Tensor, key: Tensor, k: int) -> CellMatches:
    """Queries (N, C) against every cell of one frame, a block of queries at a time."""
    h, w, _ = key.shape
    columns = key.flatten(0, 1).T

    def search(block: Tensor) -> CellMatches:
        return _best_of_groups((block @ columns).view(len(block), h, w), k)

    found = map_parts(search, rows.split(_ROWS), rows.device)
    return CellMatches(
        torch.cat([part.similarity for part in found]), torch.cat([part.index for part in found])
    )


def _search_masked(
    query: Tensor, keys: Sequence[Tensor], windows: Sequence[Window], k: int, asked: Tensor
) -> CellMatches:
    """The queries asked for against all cells of all frames, those out of reach masked."""
    h, w, channels = query.shape
    row, column = (torch.arange(size, device=query.device) for size in (h, w))
    columns = torch.stack(list(keys)).view(-1, channels).T
    found = []
    for place in asked.nonzero().split(_ROWS):
        v, u = place.T
        scores = (query[v, u] @ columns).view(len(place), len(keys), h, w)
        for window in dict.fromkeys(window for window in windows if window is not None):
            far_v = (row[None] - v[:, None]).abs() > window[0]
            far_u = (column[None] - u[:, None]).abs() > window[1]
            far = far_v[:, :, None] | far_u[:, None, :]
            for frame, other in enumerate(windows):
                if other == window:
                    scores[:, frame].masked_fill_(far, -torch.inf)
        found.append(_best_of_groups(scores.view(len(place), len(keys) * h, w), k))
    return CellMatches(
        torch.cat([part.similarity for part in found]), torch.cat([part.index for part in found])
    )


def _search_windows(
    query: Tensor, keys: Sequence[Tensor], window: tuple[int, int], k: int, asked: Tensor
) -> CellMatches:
    """The queries asked for against the cells within `window` of them in several frames."""
    h, w, _ = query.shape
    width = min(k, len(keys) * h * w)
    similarity = query.new_full((h, w, width), -torch.inf)
    index = torch.zeros((h, w, width), dtype=torch.int64, device=query.device)

    def search(tile: Tile) -> None:
        block = torch.stack([key[tile.reach] for key in keys])
        _, bv, bu, channels = block.shape
        scores = query[tile.v, tile.u] @ block.view(-1, channels).T
        near_v = (tile.block_v[None] - tile.v[:, None]).abs() <= window[0]
        near_u = (tile.block_u[None] - tile.u[:, None]).abs() <= window[1]
        allowed = near_v[:, :, None] & near_u[:, None, :]
        found = _best_of_groups(scores.view(len(scores), len(keys), -1), k, allowed.flatten(1))
        frame, place = found.index // (bv * bu), found.index % (bv * bu)
        cell = tile.block_v[place // bu] * w + tile.block_u[place % bu]
        similarity[tile.v, tile.u, : cell.shape[1]] = found.similarity
        index[tile.v, tile.u, : cell.shape[1]] = frame * (h * w) + cell

    map_parts(search, tiles(asked, window), query.device)
    return CellMatches(similarity[asked], index[asked])


@dataclass(frozen=True, eq=False)
class Tile:
    """Queries that are close together, and the cells that their windows reach.

    Attributes:
        v, u: int64 (n,), rows and columns of the queries.
        block_v, block_u: int64, rows and columns of the rectangle that their windows cover.
    """

    v: Tensor
    u: Tensor
    block_v: Tensor
    block_u: Tensor

    @property
    def reach(self) -> tuple[slice, slice]:
        """Where a frame (h, w, ...) is within reach."""
        return (
            slice(int(self.block_v[0]), int(self.block_v[-1]) + 1),
            slice(int(self.block_u[0]), int(self.block_u[-1]) + 1),
        )


def tiles(asked: Tensor, window: tuple[int, int]) -> Iterator[Tile]:
    """The tiles that hold any of the queries asked for, bool (h, w)."""
    h, w = asked.shape
    row, column = (torch.arange(size, device=asked.device) for size in (h, w))
    for top in range(0, h, _TILE):
        for left in range(0, w, _TILE):
            v, u = asked[top : top + _TILE, left : left + _TILE].nonzero(as_tuple=True)
            if len(v):
                v, u = v + top, u + left
                ends = int(v[0]), int(v[-1]), int(u.min()), int(u.max())
                yield Tile(
                    v,
                    u,
                    row[max(0, ends[0] - window[0]) : ends[1] + window[0] + 1],
                    column[max(0, ends[2] - window[1]) : ends[3] + window[1] + 1],
                )
