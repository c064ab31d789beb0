"""Results as tables: measured rows and published ones, in Markdown and in HTML.

In: results as `warpkit eval` writes them (mappings). Out: `Table`, and text.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warpkit.checks import InputError, require
from warpkit.evaluate.published import PUBLISHED, PublishedRow

__all__ = [
    "Row",
    "Table",
    "as_html",
    "as_markdown",
    "merge_tables",
    "published_rows",
    "result_table",
]

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: its name.
        cells: one text per column.
        best: columns in which no other measured row is better.
        published: the numbers are a paper's, not measured here.
        source: of published numbers.
    """

    method: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()
    published: bool = False
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under common columns.

    Attributes:
        title: what was evaluated.
        columns: their names.
        rows: measured rows in their order, then published ones.
        notes: sentences below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    """How one number of a row is read and shown."""

    name: str
    path: tuple[str, ...]
    interval: tuple[str, ...] | None = None
    form: str = "{:.1f}"
    higher: bool | None = True  # None: no row is best

    def value(self, row: Result) -> float | None:
        return _at(row, self.path)

    def text(self, row: Result) -> str:
        value = self.value(row)
        if value is None:
            return ""
        text = self.form.format(value)
        limits = None if self.interval is None else _at(row, self.interval)
        if limits is not None:
            low, high = (self.form.format(limit) for limit in limits)
            text += f" [{low}, {high}]"
        return text


def _at(row: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(row, Mapping) or row.get(key) is None:
            return None
        row = row[key]
    return row


def _columns(result: Result) -> list[_Column]:
    kind = result["kind"]
    if kind == "pck":
        return _pck_columns(result)
    if kind == "davis":
        score = [
            _Column(
                name,
                ("mean", key),
                ("interval", key) if key in ("J", "F", "JF") else None,
                "{:.3f}",
            )
            for name, key in (
                ("J&F", "JF"),
                ("J", "J"),
                ("J recall", "J_recall"),
                ("F", "F"),
                ("F recall", "F_recall"),
            )
        ]
        decay = [
            _Column(f"{name} decay", ("mean", f"{name}_decay"), None, "{:.3f}", higher=False)
            for name in ("J", "F")
        ]
        return [*score, *decay, _Column("s / frame", ("seconds_per_frame",), None, "{:.3f}", None)]
    pck = [
        _Column(f"PCK@{alpha}", ("pck", alpha, "per_point"), ("interval", alpha, "per_point"))
        for alpha in result["pck"]
    ]
    return [
        _Column("EPE, px", ("epe",), ("epe_interval",), "{:.1f}", higher=False),
        _Column("median, px", ("epe_median",), None, "{:.1f}", higher=False),
        *pck,
        _Column("covered, %", ("coverage",), None, "{:.1f}", None),
        _Column("s / pair", ("seconds_per_pair",), None, "{:.2f}", None),
    ]


def _pck_columns(result: Result) -> list[_Column]:
    """The customary threshold at every alpha, and all four readings at one of them."""
    usual = result["threshold"]
    other = "image" if usual == "box" else "box"
    alphas = list(result["pck"])
    middle = "0.1" if "0.1" in alphas else alphas[-1]
    columns = [
        _Column(
            f"PCK@{alpha} ({usual}, points)",
            ("pck", alpha, usual, "per_point"),
            ("interval", alpha, usual, "per_point"),
        )
        for alpha in alphas
    ]
    columns += [
        _Column(f"@{middle} ({threshold}, {name})", ("pck", middle, threshold, averaging))
        for threshold, averaging, name in (
            (usual, "per_image", "images"),
            (other, "per_point", "points"),
            (other, "per_image", "images"),
        )
    ]
    return [
        *columns,
        _Column("s / pair", ("seconds_per_pair",), None, "{:.3f}", None),
        _Column("MB", ("memory_mb",), None, "{:.0f}", None),
    ]


def result_table(result: Result) -> Table:
    """The table of one result: its method, then its baselines.

    Raises:
        InputError: not a result of `warpkit eval`.
    """
    try:
        columns = _columns(result)
        measured = [result, *result["baselines"]]
        values = [[column.value(row) for row in measured] for column in columns]
        rows = []
        for position, row in enumerate(measured):
            best = frozenset(
                index
                for index, column in enumerate(columns)
                if _is_best(values[index], position, column.higher)
            )
            texts = tuple(column.text(row) for column in columns)
            rows.append(Row(str(row["method"]), texts, best))
        return Table(
            str(result["title"]),
            tuple(column.name for column in columns),
            tuple(rows),
            _notes(result),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"this is no result of 'warpkit eval' of this version ({type(error).__name__}: {error})"
        ) from error


def _is_best(values: list[float | None], position: int, higher: bool | None) -> bool:
    value = values[position]
    if higher is None or value is None or len(values) < 2:
        return False
    return all(v is None or (value >= v if higher else value <= v) for v in values)


def _notes(result: Result) -> tuple[str, ...]:
    kind = result["kind"]
    if kind == "pck":
        counts = f"{result['pairs']} pairs, {result['points']} points."
        meaning = "PCK in percent, 95 % interval over pairs."
    elif kind == "davis":
        objects = sum(len(s["objects"]) for s in result["sequences"].values())
        counts = f"{len(result['sequences'])} sequences, {objects} objects."
        meaning = "Means over objects, 95 % interval over sequences."
    else:
        counts = f"{result['pairs']} pairs, {result['pixels']} pixels."
        meaning = "PCK in percent of pixels, 95 % interval over pairs; errors in source pixels."
    left_out = len(result["left_out"])
    notes = [f"{counts} {meaning}"]
    notes += [f"{left_out} items left out as broken (listed in the result)."] if left_out else []
    return tuple(notes)


def merge_tables(tables: Sequence[Table]) -> list[Table]:
    """Rows of tables with one title and the same columns stand in one table.

    A method that is in several of them with the same numbers is listed once.
    """
    merged: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Row]] = {}
    for table in tables:
        rows = merged.setdefault((table.title, table.columns, table.notes), [])
        rows += [row for row in table.rows if _same(row) not in {_same(r) for r in rows}]
    return [
        Table(title, columns, tuple(rows), notes)
        for (title, columns, notes), rows in merged.items()
    ]


def _same(row: Row) -> tuple[str, tuple[str, ...]]:
    return row.method, row.cells


def published_rows(datasets: Sequence[str]) -> Table | None:
    """What papers state for these data sets; None where nothing is known."""
    rows: list[PublishedRow] = [row for row in PUBLISHED if row.dataset in datasets]
    if not rows:
        return None
    return Table(
        "Published numbers",
        ("data", "metric", "value"),
        tuple(
            Row(row.method, (row.data, row.metric, row.value), published=True, source=row.source)
            for row in rows
        ),
        (
            "Published, not measured here: full benchmarks with the papers' own weights. Rows"
            " above are comparable only where data and metric agree.",
        ),
    )


def as_markdown(table: Table) -> str:
    """The table as Markdown; the best measured value of a column is bold."""
    sourced = any(row.source for row in table.rows)
    head = ["method", *table.columns, *(["source"] if sourced else [])]
    lines = [f"### {table.title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in table.rows:
        cells = [
            f"**{cell}**" if index in row.best and cell else cell
            for index, cell in enumerate(row.cells)
        ]
        name = f"{row.method} (published)" if row.published else row.method
        shown = [name, *cells, *([row.source] if sourced else [])]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |")
    return "\n".join([*lines, "", *table.notes])


def as_html(table: Table) -> str:
    """The table as an HTML section."""
    require(bool(table.columns), "a table needs columns")
    sourced = any(row.source for row in table.rows)
    head = ["method", *table.columns, *(["source"] if sourced else [])]
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = [
        f"<section><h2>{html.escape(table.title)}</h2>",
        f"<table><thead><tr>{cells}</tr></thead><tbody>",
    ]
    for row in table.rows:
        kind = ' class="published"' if row.published else ""
        name = html.escape(row.method) + (" <em>published</em>" if row.published else "")
        texts = "".join(
            f"<td{' class=best' if index in row.best else ''}>{html.escape(cell)}</td>"
            for index, cell in enumerate(row.cells)
        )
        source = f"<td>{html.escape(row.source)}</td>" if sourced else ""
        lines.append(f"<tr{kind}><td>{name}</td>{texts}{source}</tr>")
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return "\n".join([*lines, f"</tbody></table>{notes}</section>"])
