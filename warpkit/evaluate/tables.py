"""Results as tables: measured rows and published ones, in Markdown and in HTML.

In: results as `warpkit eval` writes them (mappings). Out: `Table`, and text.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from warpkit.checks import InputError, counted, require
from warpkit.evaluate.published import PUBLISHED, PublishedRow
from warpkit.evaluate.table_columns import Result, columns_of

__all__ = [
    "Row",
    "Table",
    "as_html",
    "as_markdown",
    "merge_tables",
    "published_rows",
    "result_table",
]

_COSTS = ("s / pair", "s / frame", "MB")
# Settings that change no score.
_NO_SETTINGS = frozenset({"baselines", "workers", "seed", "resamples", "pairs", "device"})


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: its name.
        cells: one text per column.
        values: one number per column, None where there is none.
        settings: the configuration it was measured with, flat; tells rows of one name apart.
        published: the numbers are a paper's, not measured here.
        source: of published numbers.
    """

    method: str
    cells: tuple[str, ...]
    values: tuple[float | None, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: bool = False
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under common columns.

    Attributes:
        title: what was evaluated.
        columns: their names.
        rows: in their order.
        notes: sentences below the table.
        higher: per column whether more is better, less is better, or neither (None).
        scored: a digest of the data that every row was scored on; only such rows share a table.
        optional: names of columns that rows of other results may lack.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    higher: tuple[bool | None, ...] = ()
    scored: str = ""
    optional: tuple[str, ...] = ()

    def best(self, row: Row, column: int) -> bool:
        """Whether no other measured row is better; False with a single row."""
        higher = self.higher[column] if column < len(self.higher) else None
        measured = [r for r in self.rows if not r.published]
        if higher is None or row.published or len(measured) < 2:
            return False
        value, others = row.values[column], [r.values[column] for r in measured]
        if value is None:
            return False
        return all(v is None or (value >= v if higher else value <= v) for v in others)


def result_table(result: Result) -> Table:
    """The table of one result: its method, then its baselines.

    Raises:
        InputError: not a result of `warpkit eval`.
    """
    try:
        columns = columns_of(result)
        settings = _flat(result["config"])
        rows = [
            Row(
                _method(row, settings),
                tuple(column.text(row) for column in columns),
                tuple(column.value(row) for column in columns),
                settings,
            )
            for row in (result, *result["baselines"])
        ]
        return Table(
            _line(result["title"]),
            tuple(column.name for column in columns),
            tuple(rows),
            _notes(result),
            tuple(column.higher for column in columns),
            str(result["scored"]),
            tuple(column.name for column in columns if column.optional),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"this is no result of 'warpkit eval' of this version ({type(error).__name__}: {error})"
        ) from error


def _method(row: Result, settings: Mapping[str, Any]) -> str:
    """A row's name, with the field that it was predicted by where that is no nearest neighbour."""
    name, solved = _line(row["method"]), settings.get("field", "nearest")
    return name if solved == "nearest" or row.get("quality") is None else f"{name}, {solved}"


def _line(text: Any) -> str:
    return " ".join(str(text).split())


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration with keys such as `label.top_k`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _notes(result: Result) -> tuple[str, ...]:
    kind = result["kind"]
    if kind == "pck":
        counts = f"{counted(result['pairs'], 'pair')}, {counted(result['points'], 'point')}."
        meaning = (
            "PCK: percentage of correct keypoints, those within alpha times the longer side of the"
            " target's box or image; points: of all points; images: the mean of each pair's. In"
            " brackets the 95 % interval over pairs."
        )
    elif kind == "davis":
        scored = [s for s in result["sequences"].values() if s["J"] is not None]
        objects = sum(len(s["objects"]) for s in scored)
        counts = f"{counted(len(scored), 'sequence')}, {counted(objects, 'object')}."
        meaning = (
            "J: region similarity (intersection over union). F: contour accuracy. J&F: their mean."
            " Recall: fraction of frames above 0.5. Decay: loss from the first quarter of the"
            " frames to the last. Means over objects; in brackets the 95 % interval over sequences."
        )
    else:
        counts = f"{counted(result['pairs'], 'pair')}, {counted(result['pixels'], 'pixel')}."
        meaning = (
            "EPE: end-point error in source pixels. PCK: percentage of correct pixels, those within"
            " alpha times the source's longer side; in brackets the 95 % interval over pairs."
        )
    left_out = len(result["left_out"])
    notes = [f"{counts} {meaning}"]
    notes += [f"Candidates: {result['candidates']}."] if result.get("candidates") else []
    rows = (result, *result["baselines"])
    if kind == "pck" and any(row.get("pck_dagger") for row in rows):
        notes += ["PCK-dagger: correct, and no other point's true place is nearer."]
    if any(row.get("quality") for row in rows):
        notes += [
            "Cosine to inverse error: measured on the fields themselves without ground truth, means"
            " over pairs (docs/warping.md)."
        ]
    missing = result.get("missing_points") or 0
    notes += (
        [f"Without a prediction, counted as wrong: {counted(missing, 'point')}."] if missing else []
    )
    notes += (
        [f"Left out as broken: {counted(left_out, 'item')} (listed in the result)."]
        if left_out
        else []
    )
    return tuple(notes)


def merge_tables(tables: Sequence[Table]) -> list[Table]:
    """Rows that were scored on the same data, in the same columns, stand in one table.

    Optional columns do not count: a row without the number has an empty cell. A row that is in
    several tables with the same scores is listed once; rows of one name with different scores are
    told apart by the settings in which they differ.
    """
    merged: dict[tuple[str, tuple[str, ...]], list[Table]] = {}
    for table in tables:
        needed = tuple(name for name in table.columns if name not in table.optional)
        merged.setdefault((table.scored, needed), []).append(table)
    result = []
    for alike in merged.values():
        same = _in_common_columns(alike)
        rows: list[Row] = []
        for table in same:
            rows += [row for row in table.rows if not any(_alike(table, row, r) for r in rows)]
        result.append(replace(same[0], rows=tuple(_told_apart(rows))))
    return result


def _in_common_columns(tables: Sequence[Table]) -> list[Table]:
    """The tables with all columns that any of them has, empty where it lacks one."""
    known: dict[str, bool | None] = {}
    for table in sorted(tables, key=lambda table: -len(table.columns)):
        for name, higher in zip(table.columns, table.higher, strict=True):
            known.setdefault(name, higher)
    found = []
    for table in tables:
        at = [table.columns.index(name) if name in table.columns else None for name in known]
        rows = tuple(
            replace(
                row,
                cells=tuple("" if i is None else row.cells[i] for i in at),
                values=tuple(None if i is None else row.values[i] for i in at),
            )
            for row in table.rows
        )
        limits = tuple(known.values())
        found.append(replace(table, columns=tuple(known), rows=rows, higher=limits))
    return found


def _alike(table: Table, first: Row, second: Row) -> bool:
    """Whether two rows are one: the name and all scores agree (time and memory may differ)."""
    scores = [i for i, column in enumerate(table.columns) if column not in _COSTS]
    same = all(first.values[i] == second.values[i] for i in scores)
    return same and first.method == second.method


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    named = []
    for row in rows:
        others = [r for r in rows if r.method == row.method]
        keys = {k for r in others for k in r.settings}
        different = [
            key
            for key in sorted(keys - _NO_SETTINGS)
            if len({str(r.settings.get(key)) for r in others}) > 1
        ]
        suffix = ", ".join(f"{key}={row.settings.get(key)}" for key in different)
        named.append(replace(row, method=f"{row.method} ({suffix})") if suffix else row)
    return named


def published_rows(datasets: Sequence[str]) -> Table | None:
    """What papers state for these data sets; None where nothing is known."""
    rows: list[PublishedRow] = [row for row in PUBLISHED if set(row.datasets) & set(datasets)]
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
            f"**{cell}**" if table.best(row, index) and cell else cell
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
            f"<td{' class=best' if table.best(row, index) else ''}>{html.escape(cell)}</td>"
            for index, cell in enumerate(row.cells)
        )
        source = f"<td>{html.escape(row.source)}</td>" if sourced else ""
        lines.append(f"<tr{kind}><td>{name}</td>{texts}{source}</tr>")
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return "\n".join([*lines, f"</tbody></table>{notes}</section>"])
