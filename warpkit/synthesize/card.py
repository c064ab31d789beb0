"""The data card of a set: what it holds, where it comes from, what its labels are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from warpkit.checks import counted
from warpkit.synthesize.mask_trust import DOUBTFUL
from warpkit.synthesize.measures import PrecisionRow, precision_table
from warpkit.synthesize.summary import Summary

__all__ = ["data_card"]

_MOST_LISTED = 50
_SMALL = 100  # kept pairs; of fewer the card has only the settings that made them


def data_card(
    summary: Summary,
    *,
    configuration: str,
    sources: Mapping[str, str],
    formats: Sequence[str],
    rows: Sequence[PrecisionRow],
    images: int,
) -> str:
    """The card as Markdown.

    Args:
        summary: of the run.
        configuration: the whole of it as YAML.
        sources: what the images and labels come from, with its licence.
        formats: the formats that were written.
        rows: precision on known warps; empty if it was not measured.
        images: how many images that was measured on.
    """
    left = list(summary.matches.items())
    filters = [f"| {name} | {count:,} | {count / max(1, left[0][1]):.1%} |" for name, count in left]
    dropped = [f"| {reason} | {count:,} |" for reason, count in sorted(summary.dropped.items())]
    there = {name: count for name, count in summary.categories.items() if count}
    gone = sorted(summary.categories.keys() - there)
    missing = ""
    if gone:
        names = ", ".join(gone[:_MOST_LISTED])
        rest = len(gone) - _MOST_LISTED
        missing = f" No pair was kept of: {names}{f' and {rest:,} more' if rest > 0 else ''}."
    parts = [
        "# A synthesised set of corresponding points",
        "Made by `warpkit synthesize`. Points are `(x, y)` pixels, pixel centres at integers; row i"
        " of the source points corresponds to row i of the target points.",
        f"**{counted(len(summary.kept), 'pair')}** of {summary.pairs:,} made,"
        f" {counted(summary.points, 'labelled point')}. Splits: {_counts(summary.splits)}.",
        f"Formats: {', '.join(formats)}. Categories: {_counts(there)}.{missing}",
        "## Where it comes from",
        "\n".join(f"- {what}: {text}" for what, text in sources.items()),
    ]
    if summary.prompts:
        listed = summary.prompts.most_common(_MOST_LISTED)
        more = len(summary.prompts) - len(listed)
        parts += [
            "Prompts, and how many images each gave:",
            "\n".join(f"- `{prompt}`: {count:,}" for prompt, count in listed)
            + (f"\n- and {more:,} more" if more else ""),
        ]
    parts += ["## What was left out"]
    parts += [_table("pairs left out because of", "pairs", dropped) if dropped else "No pair."]
    if filters:
        header = ["| matches left after | matches | share |", "|---|---|---|"]
        parts += ["\n".join([*header, *filters])]
    parts += ["## What the labels are worth", _worth(rows, images, summary)]
    if summary.agreement:
        found = summary.found_words()
        parts += [f"Masks: {found}. Each record says so (`mask_agreement`, `mask_doubts`)."]
    if summary.doubtful:
        named = ", ".join(summary.doubtful[:_MOST_LISTED])
        more = len(summary.doubtful) - _MOST_LISTED
        why = "that is doubtful (`mask_doubts` of its record)"
        if not summary.agreement:
            why = f"of less than {DOUBTFUL:g} trust (`mask_trust`)"
        parts += [
            f"{len(summary.doubtful):,} of {len(summary.kept):,} pairs have a found mask {why},"
            " which may hold more than the object, and so may points:"
            f" {named}{f' and {more:,} more' if more > 0 else ''}."
        ]
    parts += ["## Configuration", f"```yaml\n{configuration.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _worth(rows: Sequence[PrecisionRow], images: int, summary: Summary) -> str:
    if not rows:
        return (
            "Not measured. Labels of known warps are exact; others are what the model's descriptors"
            " and the filters say, not annotations by people."
        )
    more = ""
    if len(summary.kept) < _SMALL:
        rows = [row for row in rows if not row.filter]
        more = " `quality.md` has each filter alone, at limits from lenient to strict."
    bent = "1 image of the set was" if images == 1 else f"{images} images of the set were"
    return (
        f"{bent} bent by random known warps and matched with themselves, so that every match can be"
        " checked: the share of matches that lie within 5 % and 10 % of the object's longer side."
        f" The last lines are the run's own filters, one after the other.{more} Two different"
        " objects are harder than an object and its warp: take this as an upper bound.\n\n"
        + precision_table(rows)
    )


def _counts(counts: Mapping[str, int]) -> str:
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count:,}" for name, count in listed[:_MOST_LISTED])
    more = len(listed) - _MOST_LISTED
    return shown + (f" and {more:,} more" if more > 0 else "")


def _table(first: str, second: str, lines: Sequence[str]) -> str:
    return "\n".join([f"| {first} | {second} |", "|---|---|", *lines])
