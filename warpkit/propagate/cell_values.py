"""Values of the context's cells propagated to the cells of a frame, most of which take none.

In: queries, the context's keys and values (see `affinity`). Out: for every query the values of its
k best keys, blended.
Objects cover a small part of most frames. A cell whose k best keys have no value takes none, and
that can be told without finding them: if k keys close to the cell are already more similar than
every key with a value. Only the other cells are searched for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.match.cores import map_parts
from warpkit.propagate.affinity import Tile, Window, blend_cells, nearest_cells, tiles

__all__ = ["may_take_values", "propagate_values"]

# Cells around a query, along each side, that give a bound on its k-th best similarity.
_NEAR = 2
# The context frames that are looked at for it: the first one and the last ones.
_LAST = 2
# Similarities of the same cells may differ by so much from one product to another.
_ROUNDING = 1e-4
# Side of a square tile of queries in the search for that bound.
_TILE = 8


def propagate_values(
    query: Tensor,
    keys: Sequence[Tensor],
    windows: Sequence[Window],
    values: Sequence[Tensor],
    *,
    k: int,
    temperature: float,
) -> Tensor:
    """Values of every query's k best keys, as `blend_cells` of `nearest_cells` gives them.

    Args:
        query: (h, w, C), products with keys are similarities.
        keys: one (h, w, C) per context frame.
        windows: one window per context frame.
        values: one (h * w, K) per context frame, 0 or more.

    Returns:
        (h * w, K).
    """
    together = torch.cat(list(values))
    asked = None
    # On a GPU the products cost less than asking.
    if query.device.type == "cpu":
        asked = may_take_values(query, keys, windows, values, k=k)
    matches = nearest_cells(query, keys, windows, k=k, asked=asked)
    blended = blend_cells(matches, together, temperature=temperature)
    if asked is None:
        return blended
    result = blended.new_zeros((asked.numel(), blended.shape[1]))
    result[asked.flatten()] = blended
    return result


def may_take_values(
    query: Tensor,
    keys: Sequence[Tensor],
    windows: Sequence[Window],
    values: Sequence[Tensor],
    *,
    k: int,
) -> Tensor:
    """Which queries may have a key with a value among their k best: bool (h, w).

    The others certainly have none. Arguments as for `propagate_values`.
    """
    h, w, _ = query.shape
    valued = [(part > 0).any(dim=1).view(h, w) for part in values]
    share = torch.stack(valued).float().mean()
    if share > 0.5:  # asking would cost more than it saves
        return torch.ones((h, w), dtype=torch.bool, device=query.device)
    enough = _similarity_of_near(query, keys, windows, k=k) - _ROUNDING
    asked = torch.zeros((h, w), dtype=torch.bool, device=query.device)
    for key, window, has in zip(keys, windows, valued, strict=True):
        if window is None and has.any():
            rest = ~asked
            best = (query[rest] @ key[has].T).amax(dim=1)
            asked[rest] = best >= enough[rest]
    for window in dict.fromkeys(window for window in windows if window is not None):
        frames = [f for f, other in enumerate(windows) if other == window]
        found = torch.stack([valued[f] for f in frames]).nonzero()[:, 1:]
        rows = torch.cat([keys[f][valued[f]] for f in frames])
        _ask_near(query, rows, found, window, enough, asked)
    return asked


def _ask_near(
    query: Tensor,
    rows: Tensor,
    places: Tensor,
    window: tuple[int, int],
    enough: Tensor,
    asked: Tensor,
) -> None:
    """Set `asked` where one of the keys (M, C) at places (M, 2) within reach is similar enough."""

    def ask(tile: Tile) -> None:
        v, u = places.T
        reach = (v >= tile.block_v[0]) & (v <= tile.block_v[-1])
        reach &= (u >= tile.block_u[0]) & (u <= tile.block_u[-1])
        if not reach.any():
            return
        score = query[tile.v, tile.u] @ rows[reach].T
        v, u = v[reach], u[reach]
        near = ((v[None] - tile.v[:, None]).abs() <= window[0]) & (
            (u[None] - tile.u[:, None]).abs() <= window[1]
        )
        best = score.masked_fill_(~near, -torch.inf).amax(dim=1)
        asked[tile.v, tile.u] = best >= enough[tile.v, tile.u]

    map_parts(ask, tiles(~asked, window), query.device)


def _similarity_of_near(
    query: Tensor, keys: Sequence[Tensor], windows: Sequence[Window], *, k: int
) -> Tensor:
    """A similarity that k keys of every query reach at least; -inf where too few are looked at."""
    h, w, channels = query.shape
    looked_at = sorted({0, *range(max(0, len(keys) - _LAST), len(keys))})
    reach = min([_NEAR, *(side for f in looked_at for side in windows[f] or ())])
    down, across = -(-h // _TILE), -(-w // _TILE)
    below, right = down * _TILE - h, across * _TILE - w
    side = _TILE + 2 * reach
    tiled = F.pad(query, (0, 0, 0, right, 0, below))
    tiled = tiled.view(down, _TILE, across, _TILE, channels).transpose(1, 2)
    tiled = tiled.reshape(down * across, _TILE**2, channels)
    # For every cell of a tile, where its neighbours are in the tile grown by `reach`.
    cell, step = torch.arange(_TILE), torch.arange(2 * reach + 1)
    line = cell[:, None] + step[None]
    neighbour = line[:, None, :, None] * side + line[None, :, None, :]
    neighbour = neighbour.reshape(1, _TILE**2, -1).to(query.device)
    inside = F.pad(
        torch.ones((h, w), dtype=torch.bool, device=query.device),
        (reach, right + reach, reach, below + reach),
    )
    there = _grown_tiles(inside[..., None], side).expand(-1, _TILE**2, -1)
    there = there.gather(2, neighbour.expand(len(there), -1, -1))
    scores = []
    for f in looked_at:
        grown = F.pad(keys[f], (0, 0, reach, right + reach, reach, below + reach))
        score = tiled @ _grown_tiles(grown, side)
        score = score.gather(2, neighbour.expand(len(score), -1, -1))
        scores.append(score.masked_fill_(~there, -torch.inf))
    every = torch.cat(scores, dim=2)
    if every.shape[2] < k:
        return query.new_full((h, w), -torch.inf)
    kth = every.topk(k, dim=2).values[..., -1]
    kth = kth.view(down, across, _TILE, _TILE).transpose(1, 2)
    return kth.reshape(down * _TILE, across * _TILE)[:h, :w]


def _grown_tiles(values: Tensor, side: int) -> Tensor:
    """Tiles that overlap: (tiles, C, side * side) of values (H, W, C)."""
    found = values.unfold(0, side, _TILE).unfold(1, side, _TILE)  # (down, across, C, side, side)
    return found.flatten(0, 1).flatten(2)
