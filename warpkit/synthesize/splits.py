"""Splits: shares of names, and none of them empty where what there is allows it.

In: photographs or kept pairs. Out: which split each belongs to; no photograph is in two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from warpkit.datasets.draw import name_ranks
from warpkit.io.text import valid_text
from warpkit.synthesize.config import SplitConfig
from warpkit.synthesize.records import Record

__all__ = ["Split", "resplit", "split_of", "split_photos", "wanted"]

Split = Literal["train", "val", "test"]
Groups = dict[tuple[str, Split], list[str]]
"""Photographs by category and split."""

_MOST_AT_FIRST = 3  # pairs that a split which would be empty is given photographs for


def wanted(splits: SplitConfig) -> list[Split]:
    """The splits with a share, `train` first."""
    shares: dict[Split, float] = {"train": 1.0, "val": splits.val, "test": splits.test}
    return [split for split, share in shares.items() if share > 0]


def split_of(name: str, splits: SplitConfig) -> Split:
    """The split that a name falls into, by its hash."""
    share = int(name_ranks([f"split {valid_text(name)}"], seed=0)[0]) / 2**64
    if share < splits.test:
        return "test"
    return "val" if share < splits.test + splits.val else "train"


def split_photos(
    photos: Mapping[str, list[str]], splits: SplitConfig, *, count: int, alone: bool
) -> Groups:
    """Photographs by category and split: by their names' hashes, but for the few that a split needs
    which would otherwise have no pair.

    Args:
        count: pairs that are asked for.
        alone: a pair is made of one photograph, not of two.
    """
    groups: Groups = {}
    for category, paths in photos.items():
        for path in paths:
            groups.setdefault((category, split_of(path, splits)), []).append(path)
    shares = {"train": 1.0, "val": splits.val, "test": splits.test}
    for split in wanted(splits):
        pairs = min(_MOST_AT_FIRST, math.ceil(shares[split] * count))
        # k photographs make k (k - 1) / 2 pairs.
        most = pairs if alone else math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)
        for size in range(most, 0 if alone else 1, -1):
            if _fill(groups, split, size, least=1 if alone else 2):
                break
    return groups


def _fill(groups: Groups, split: Split, size: int, *, least: int) -> bool:
    """Bring a split without a pair to `size` photographs of a category; whether it has one now."""

    def makes_pairs(of: Split, without: str = "") -> bool:
        return any(
            s == of and c != without and len(paths) >= least for (c, s), paths in groups.items()
        )

    if makes_pairs(split):
        return True
    options = []
    for (category, other), paths in groups.items():
        left = len(paths) - size + len(groups.get((category, split), []))
        if other == split or left < 0:
            continue
        # The giver keeps twice what it gives, or enough, or pairs elsewhere, or train comes first.
        if left >= 2 * size:
            options.append((3, len(paths), category, other, left))
        elif size == least and left >= least:
            options.append((2, len(paths), category, other, left))
        elif size == least and makes_pairs(other, category):
            options.append((1, len(paths), category, other, left))
        elif size == least and split == "train":
            options.append((0, len(paths), category, other, left))
    if not options:
        return False
    _, _, category, other, left = max(options)
    paths = groups[category, other]
    groups.setdefault((category, split), []).extend(paths[left:])
    groups[category, other] = paths[:left]
    return True


@dataclass(eq=False)
class _Block:
    """Kept pairs that share photographs, directly or through others, and must stay together."""

    split: Split
    ids: list[str]


def resplit(records: Iterable[Record], splits: SplitConfig) -> dict[str, Split]:
    """Which kept pairs go to another split so that none with a share is empty.

    Pairs that share a photograph go together, the smallest such block of the largest split first.

    Returns:
        The new split by the pair's id; empty where nothing is to be done or can be.
    """
    blocks = _blocks(record for record in records if record.kept)
    names = wanted(splits)
    moved: dict[str, Split] = {}
    if len(blocks) < len(names):
        return moved
    for split in names:
        if any(block.split == split for block in blocks):
            continue
        count = Counter(block.split for block in blocks)
        several = [block for block in blocks if count[block.split] > 1]
        sizes = {name: sum(len(b.ids) for b in blocks if b.split == name) for name in names}
        chosen = min(several, key=lambda block: (-sizes[block.split], len(block.ids), block.ids))
        chosen.split = split
        moved |= dict.fromkeys(chosen.ids, split)
    return moved


def _blocks(records: Iterable[Record]) -> list[_Block]:
    owner: dict[str, str] = {}  # a pair, or another photograph of the same block, by photograph

    def first(name: str) -> str:
        while owner.setdefault(name, name) != name:
            owner[name] = name = owner[owner[name]]
        return name

    ends = []
    for record in records:
        meta = record.meta
        paths = [meta[role]["path"] for role in ("source", "target") if "path" in meta[role]]
        names = paths or [f"pair {record.id}"]
        for name in names:
            owner[first(name)] = first(names[0])
        ends.append((record.id, meta["split"], names[0]))
    blocks: dict[str, _Block] = {}
    for pair, split, name in ends:
        blocks.setdefault(first(name), _Block(split, [])).ids.append(pair)
    return list(blocks.values())
