"""What a run came to: pairs kept and dropped, matches by filter, and which pairs are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from warpkit.synthesize.mask_trust import doubted
from warpkit.synthesize.records import Record

__all__ = ["Summary", "doubtful", "summarise", "without_duplicates"]

_DUPLICATE = "duplicate of an earlier pair"


def without_duplicates(records: Iterable[Record]) -> Iterator[Record]:
    """The records in their order; a kept pair whose two images both look like those of an earlier
    one is dropped (see `warpkit.synthesize.measures.image_hash`).
    """
    seen: set[tuple[str, str]] = set()
    for record in records:
        if not record.kept:
            yield record
            continue
        key = (record.meta["source"]["hash"], record.meta["target"]["hash"])
        yield record.dropped(_DUPLICATE) if key in seen else record
        seen.add(key)


def doubtful(record: Record) -> bool:
    """Whether one of a pair's masks was found and is doubted."""
    return any(doubted(record.meta[role]) for role in ("source", "target"))


@dataclass
class Summary:
    """Counts of a run.

    Attributes:
        pairs: how many were made.
        kept: ids of those that are in the set.
        points: labelled points of these.
        dropped: pairs by the reason why they are not.
        splits: kept pairs by split.
        categories: kept pairs by category, 0 where all that were made of it were dropped.
        matches: matches left after each filter, summed over all pairs that came so far.
        doubtful: ids of kept pairs with a found mask that is doubted (see `warpkit.synthesize.
            mask_trust`).
        found: how many masks of kept pairs were found.
        agreement: of the masks of kept pairs that the foreground head or a segmenter found, how far
            zoomed and mirrored views agree on each.
        prompts: how often each prompt was used by a kept pair.
    """

    pairs: int = 0
    kept: list[str] = field(default_factory=list)
    points: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    matches: Counter[str] = field(default_factory=Counter)
    doubtful: list[str] = field(default_factory=list)
    found: int = 0
    agreement: list[float] = field(default_factory=list)
    prompts: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Count one record."""
        meta = record.meta
        self.pairs += 1
        self.matches.update(meta.get("filters", {}))
        self.categories[meta["category"]] += int(record.kept)
        if not record.kept:
            self.dropped[meta["reason"]] += 1
            return
        self.kept.append(record.id)
        self.points += len(meta["source_points"])
        self.splits[meta["split"]] += 1
        ends = (meta["source"], meta["target"])
        if doubtful(record):
            self.doubtful.append(record.id)
        self.found += sum("mask_agreement" in end or "mask_trust" in end for end in ends)
        self.agreement += [end["mask_agreement"] for end in ends if "mask_agreement" in end]
        self.prompts.update(end["prompt"] for end in ends if "prompt" in end)

    def found_words(self) -> str:
        """How many masks were found in kept pairs, and how sure they are."""
        mean, least = sum(self.agreement) / len(self.agreement), min(self.agreement)
        return (
            f"found the object of {len(self.agreement):,} pictures of {len(self.kept):,} kept"
            f" pairs: mean confidence {100 * mean:.0f} %, lowest {100 * least:.0f} %"
        )

    def facts(self) -> dict[str, Any]:
        """The counts for `run.json`."""
        return {
            "pairs": self.pairs,
            "kept": len(self.kept),
            "points": self.points,
            "dropped": dict(sorted(self.dropped.items())),
            "splits": dict(sorted(self.splits.items())),
            "doubtful_masks": len(self.doubtful),
            "found_masks": self.found,
            "categories": dict(sorted(self.categories.items())),
            "matches": dict(self.matches),
        }


def summarise(records: Iterable[Record]) -> Summary:
    """Count records."""
    summary = Summary()
    for record in records:
        summary.add(record)
    return summary
