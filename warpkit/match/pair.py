"""Searches that belong together: best keys, the way back and sub-pixel places; many images to one.

In: maps, their sites, an engine. Out: `PairMatches`, or one `Neighbours` per image. An engine that
can share work between these derives from `PairMatcher`; with any other they run one by one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from warpkit.checks import require
from warpkit.match import filters
from warpkit.match.matcher import Matcher, Neighbours
from warpkit.types import DescriptorMap, Matches, Sites

__all__ = ["PairMatcher", "PairMatches", "Refined", "Window", "search_many", "search_pair"]


@dataclass(frozen=True)
class Window:
    """The soft-argmax that moves a match to a place between pixels, see `filters.refine_subpixel`.

    Attributes:
        radius: of the window in pixels of the key image.
        temperature: of the softmax over cosines.
    """

    radius: int = 3
    temperature: float = 0.02

    def __post_init__(self) -> None:
        require(self.radius >= 1, f"radius must be at least 1 pixel, got {self.radius}")
        require(self.temperature > 0, f"temperature must be positive, got {self.temperature:g}")


@dataclass(frozen=True, eq=False)
class Refined:
    """Matches between pixels.

    Attributes:
        xy: float32 (N, k, 2), pixels of the key image; 0 where nothing was found.
        similarity: float32 (N, k), the cosine there.
    """

    xy: Tensor
    similarity: Tensor


@dataclass(frozen=True, eq=False)
class PairMatches:
    """What a search between two maps found.

    Attributes:
        forward: the best keys of every query.
        returned: int64 (N, k), the row of `homes` that each found key likes best, -1 where there
            is none; None without `homes`.
        refined: the found keys' places between pixels; None without a window.
    """

    forward: Neighbours
    returned: Tensor | None
    refined: Refined | None


class PairMatcher(Matcher):
    """A matcher that does work once for several searches."""

    @abstractmethod
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
        """See the function `search_pair`."""

    @abstractmethod
    def search_many(
        self,
        queries: Sequence[tuple[DescriptorMap, Sites]],
        key: DescriptorMap,
        keys: Sites,
        *,
        k: int = 1,
    ) -> list[Neighbours]:
        """See the function `search_many`."""


def search_many(
    matcher: Matcher,
    queries: Sequence[tuple[DescriptorMap, Sites]],
    key: DescriptorMap,
    keys: Sites,
    *,
    k: int = 1,
) -> list[Neighbours]:
    """Search one image for what is in many: `Matcher.search` for each.

    Args:
        matcher: engine of the search.
        queries: maps and the places to read in each.
        key: map in which `keys` are read.
        keys: candidates.
        k: keys per query.

    Returns:
        One `Neighbours` per image, in order.

    Raises:
        InputError: as `Matcher.search` does.
    """
    if isinstance(matcher, PairMatcher):
        return matcher.search_many(queries, key, keys, k=k)
    return [matcher.search(query, key, sites, keys, k=k) for query, sites in queries]


def search_pair(
    matcher: Matcher,
    query: DescriptorMap,
    key: DescriptorMap,
    queries: Sites,
    keys: Sites,
    *,
    k: int = 1,
    homes: Sites | None = None,
    window: Window | None = None,
) -> PairMatches:
    """Search for keys, follow them back and refine them, as far as asked.

    Args:
        matcher: engine of the search.
        query: map in which `queries` and `homes` are read.
        key: map in which `keys` are read.
        queries: N places in the query image.
        keys: candidates in the key image.
        k: keys per query.
        homes: candidates in the query image for the way back.
        window: refine the matches; `keys` are then pixels of the key image, all or those of a mask.

    Raises:
        InputError: as `Matcher.search` does.
    """
    if isinstance(matcher, PairMatcher):
        return matcher.search_pair(query, key, queries, keys, k=k, homes=homes, window=window)
    forward = matcher.search(query, key, queries, keys, k=k)
    returned = None
    if homes is not None:
        chosen, chosen_sites = filters.chosen_keys(forward, keys)
        backward = matcher.search(key, query, chosen_sites, homes)
        returned = filters.round_trip(chosen, backward)
    refined = None if window is None else _refine(query, key, queries, keys, forward, window)
    return PairMatches(forward, returned, refined)


def _refine(
    query: DescriptorMap,
    key: DescriptorMap,
    queries: Sites,
    keys: Sites,
    forward: Neighbours,
    window: Window,
) -> Refined:
    assert keys.index is not None  # pixels
    mask = torch.zeros(key.height * key.width, dtype=torch.bool, device=key.data.device)
    mask[keys.index] = True
    found = forward.found
    key_xy = keys.xy[forward.index.clamp(min=0)] * found[..., None]
    refined = filters.refine_subpixel(
        Matches(queries.xy, key_xy, forward.similarity, found),
        query,
        key,
        target_mask=mask.view(key.height, key.width),
        radius=window.radius,
        temperature=window.temperature,
    )
    return Refined(refined.target_xy, refined.similarity)
