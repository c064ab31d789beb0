"""What `warpkit bench match` measured: rows, their ratios, and the table and plot of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["COHERENT", "BenchRow", "bench_table", "estimate", "timing_points", "with_ratios"]

COHERENT = "coherent"
"""The engine that solves fields."""


@dataclass(frozen=True)
class BenchRow:
    """One measurement.

    Attributes:
        descriptor: `layers` or `descriptor`, see the module.
        engine: what matched; `coherent` solves a field in both orientations of the source, and
            `coherent, 16 at once` is a pair's share of a batch.
        device: where.
        source: [height, width] of the source image.
        target: [height, width] of the target image.
        masked: whether only the middle quarter of both images took part.
        queries: target pixels.
        candidates: source pixels.
        channels: of the maps.
        seconds: for all queries; null where estimates of it disagree.
        extrapolated: whether `seconds` is an estimate from parts of the queries.
        agreement: share of the queries compared whose match is the reference's, or scores the
            same within 1e-6; null where the reference was not asked for, and for fields, which
            are not to agree.
        memory_mb: most memory taken above that before the run, in MB; null where unknown.
        times_grid: `seconds` as a multiple of those of `grid` on the same problem in the same run;
            null where `grid` was not asked for, or `seconds` is null.
    """

    descriptor: str
    engine: str
    device: str
    source: tuple[int, int]
    target: tuple[int, int]
    masked: bool
    queries: int
    candidates: int
    channels: int
    seconds: float | None
    extrapolated: bool
    agreement: float | None
    memory_mb: float | None
    times_grid: float | None = None

    @property
    def problem(self) -> tuple[str, tuple[int, int], bool]:
        """What tells problems of one run apart."""
        return self.descriptor, self.target, self.masked


def estimate(
    parts: Sequence[float], halves: Sequence[float], *, part: int, half: int, whole: int
) -> float | None:
    """Seconds for all queries from those of a part and of half of it, each measured several times.

    What is done once for all queries, such as building an index, is not scaled up.

    Returns:
        The mean of the lines through each pair; None where they differ by more than a third: what
        else the machine did then counts more than the queries.
    """
    found = [
        most + max(0.0, (most - least) / (part - half)) * (whole - part)
        for most, least in zip(parts, halves, strict=True)
    ]
    return sum(found) / len(found) if max(found) <= 4 / 3 * min(found) else None


def with_ratios(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """The rows with `times_grid` filled in."""
    grid = {row.problem: row for row in rows if row.engine == "grid"}
    return [replace(row, times_grid=_ratio(row, grid.get(row.problem))) for row in rows]


def _ratio(row: BenchRow, other: BenchRow | None) -> float | None:
    if other is None or row.seconds is None or other.seconds is None:
        return None
    return row.seconds / other.seconds


def timing_points(rows: Sequence[BenchRow]) -> list[tuple[str, str, int, float, bool]]:
    """The rows as `plot_timings` takes them; of the masked ones those of `grid` and `coherent`."""
    return [
        (
            f"{row.descriptor}, {row.channels} channels",
            row.engine + (", masks of a quarter" if row.masked else ""),
            row.target[0] * row.target[1],
            row.seconds,
            row.extrapolated,
        )
        for row in rows
        if row.seconds is not None and (row.engine in ("grid", COHERENT) or not row.masked)
    ]


def bench_table(rows: Sequence[BenchRow]) -> str:
    """The rows in Markdown, with the ratios to FAISS, or the reference, and to `grid`."""
    peers = {row.problem: row for row in rows if row.engine == "reference"}
    peers |= {row.problem: row for row in rows if row.engine == "faiss"}
    lines = [
        "| maps | image | pixels | engine | seconds | times faster | agreement | memory, MB"
        " | times grid |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = peers.get(row.problem)
        faster = None if peer is None or peer is row else _ratio(peer, row)
        guessed = row.extrapolated or (peer is not None and peer.extrapolated)
        ratio = ""
        if faster is not None and peer is not None:
            times = _figure(faster, True) if guessed else f"{faster:,.1f}"
            ratio = f"{times} x {peer.engine}"
        name = f"{row.target[1]} x {row.target[0]}" + (", masked" if row.masked else "")
        agreement = "" if row.agreement is None else f"{100 * row.agreement:.1f} %"
        memory = "" if row.memory_mb is None else f"{row.memory_mb:,.0f}"
        cells = (
            f"{row.descriptor}, {row.channels} ch.",
            name,
            f"{row.queries:,}",
            row.engine,
            "not known" if row.seconds is None else _figure(row.seconds, row.extrapolated),
            ratio,
            agreement,
            memory,
            ""
            if row.times_grid is None or row.engine == "grid"
            else _figure(row.times_grid, row.extrapolated),
        )
        lines.append("| " + " | ".join(cells) + " |")
    if any(row.extrapolated for row in rows):
        lines += ["", '"about": an estimate from parts of the queries, no measurement.']
    if any(row.seconds is None for row in rows):
        lines += ["", '"not known": such estimates disagree; the machine was busy with other work.']
    return "\n".join(lines)


def _figure(value: float, estimated: bool) -> str:
    """A number in about three digits; an estimate in two, and called one."""
    if estimated:
        value = float(f"{value:.2g}")
    return "about " * estimated + (f"{value:,.0f}" if value >= 999 else f"{value:.3g}")
