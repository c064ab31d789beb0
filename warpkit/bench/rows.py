"""What `warpkit bench match` measured: rows, their ratios, and the table and plot of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["COHERENT", "BenchRow", "bench_table", "timing_points", "with_ratios"]

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
        seconds: for all queries.
        extrapolated: whether `seconds` is a line through two parts of the queries.
        agreement: share of the queries compared whose match is the reference's, or scores the
            same within 1e-6; null where the reference was not asked for, and for fields, which
            are not to agree.
        memory_mb: most memory taken above that before the run, in MB; null where unknown.
        times_grid: `seconds` as a multiple of those of `grid` on the same problem in the same run;
            null where `grid` was not asked for.
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
    seconds: float
    extrapolated: bool
    agreement: float | None
    memory_mb: float | None
    times_grid: float | None = None

    @property
    def problem(self) -> tuple[str, tuple[int, int], bool]:
        """What tells problems of one run apart."""
        return self.descriptor, self.target, self.masked


def with_ratios(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """The rows with `times_grid` filled in."""
    grid = {row.problem: row.seconds for row in rows if row.engine == "grid"}
    return [
        replace(row, times_grid=row.seconds / grid[row.problem]) if row.problem in grid else row
        for row in rows
    ]


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
        if row.engine in ("grid", COHERENT) or not row.masked
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
        ratio = "" if peer is None else f"{peer.seconds / row.seconds:,.1f} x {peer.engine}"
        name = f"{row.target[1]} x {row.target[0]}" + (", masked" if row.masked else "")
        agreement = "" if row.agreement is None else f"{100 * row.agreement:.1f} %"
        memory = "" if row.memory_mb is None else f"{row.memory_mb:,.0f}"
        about = "about " if row.extrapolated else ""
        cells = (
            f"{row.descriptor}, {row.channels} ch.",
            name,
            f"{row.queries:,}",
            row.engine,
            f"{about}{row.seconds:,.3g}",
            "" if peer is row else ratio,
            agreement,
            memory,
            "" if row.times_grid is None or row.engine == "grid" else f"{row.times_grid:,.3g}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    if any(row.extrapolated for row in rows):
        lines += ["", '"about": extrapolated from two parts of the queries.']
    return "\n".join(lines)
