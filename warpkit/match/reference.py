"""The readable search that every other engine is tested against.

In: maps and sites. Out: `Neighbours`. Brute force in blocks: a few hundred megabytes at most,
whatever the number of sites.
"""

from __future__ import annotations

import torch
from torch import Tensor

from warpkit.coords import sample_descriptors
from warpkit.match.matcher import (
    Matcher,
    Neighbours,
    check_search,
    exact_products,
    register_matcher,
)
from warpkit.types import DescriptorMap, Sites

__all__ = ["ReferenceMatcher"]

_KEY_FLOATS = 2**24  # descriptors of one block of keys: 64 MB
_SCORE_FLOATS = 2**25  # scores of one block of queries against it: 128 MB


@register_matcher("reference")
class ReferenceMatcher(Matcher):
    """Exact search with torch, on the device of the maps."""

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
        check_search(query, key, k=k)
        query_xy = queries.xy.to(query.data.device)
        key_xy = keys.xy.to(query.data.device)
        best = query_xy.new_full((len(queries), k), -torch.inf)
        index = torch.full((len(queries), k), -1, device=best.device)
        key_block = max(1, _KEY_FLOATS // key.channels)
        query_block = max(1, _SCORE_FLOATS // max(min(key_block, len(keys)), query.channels))
        for first in range(0, len(keys), key_block):
            key_rows = sample_descriptors(key, key_xy[first : first + key_block])
            for start in range(0, len(queries), query_block):
                block = slice(start, start + query_block)
                query_rows = sample_descriptors(query, query_xy[block])
                with exact_products(query_rows.device):
                    scores = query_rows @ key_rows.T
                scores.masked_fill_(~_usable(key_rows)[None, :], -torch.inf)
                scores.masked_fill_(~_usable(query_rows)[:, None], -torch.inf)
                found, column = _largest(scores, k)
                # What was found before stands first, so that ties keep the lower index.
                best[block], chosen = _largest(torch.cat([best[block], found], dim=1), k)
                known = torch.cat([index[block], column + first], dim=1)
                index[block] = known.gather(1, chosen)
        none = best == -torch.inf
        return Neighbours(
            index.masked_fill_(none, -1), best.masked_fill_(none, 0.0).clamp_(-1.0, 1.0)
        )


def _usable(rows: Tensor) -> Tensor:
    """bool (N,): rows that have a direction. A zero row has norm 0, a broken one NaN."""
    return rows.square().sum(dim=1) > 0.5


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of every row and their columns, the lowest column first in a tie.

    `max` returns the first maximum, which `topk` does not promise; `scores` is used up.
    """
    values, columns = [], []
    for _ in range(min(k, scores.shape[1])):
        value, column = scores.max(dim=1, keepdim=True)
        scores.scatter_(1, column, -torch.inf)
        values.append(value)
        columns.append(column)
    return torch.cat(values, dim=1), torch.cat(columns, dim=1)
