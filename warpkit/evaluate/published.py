"""Numbers that papers state, to stand beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "PublishedRow"]


@dataclass(frozen=True)
class PublishedRow:
    """One published number.

    Attributes:
        dataset: name as in `warpkit eval` (`spair71k`, `cub`, `davis`, ...).
        method: as the paper calls it.
        data: which part of the data set.
        metric: threshold and averaging.
        value: as printed.
        source: paper and table.
    """

    dataset: str
    method: str
    data: str
    metric: str
    value: str
    source: str


PUBLISHED: tuple[PublishedRow, ...] = ()
