"""The columns of each kind of result: how one number of a row is found and shown.

In: results as `warpkit eval` writes them (mappings). Out: `Column`s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Column", "Result", "columns_of"]

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """How one number of a row is read and shown.

    Attributes:
        name: heading.
        path: keys that lead to the number.
        interval: keys that lead to its limits.
        form: how both are written.
        higher: whether more is better, less is better, or neither (None).
        optional: left out of a table in which no row has the number.
        factor: what the number is multiplied by.
    """

    name: str
    path: tuple[str, ...]
    interval: tuple[str, ...] | None = None
    form: str = "{:.1f}"
    higher: bool | None = True
    optional: bool = False
    factor: float = 1.0

    def value(self, row: Result) -> float | None:
        """The number of a row, None where it has none."""
        found = _at(row, self.path)
        return found if found is None or self.factor == 1 else self.factor * found

    def text(self, row: Result) -> str:
        """The number as a table shows it, with its interval."""
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


# What a coherent field says of itself, which needs no truth: no row is best by it.
_QUALITY = (
    Column("cosine", ("quality", "cosine"), None, "{:.3f}", None, True),
    Column("inside, %", ("quality", "inside"), None, "{:.1f}", None, True, 100),
    Column("folds, %", ("quality", "folds"), None, "{:.2f}", None, True),
    Column("SD of log area", ("quality", "sd_log_j"), None, "{:.2f}", None, True),
    Column("inverse error, px", ("quality", "inverse_error"), None, "{:.1f}", None, True),
    Column("mirrored, %", ("quality", "mirrored"), None, "{:.1f}", None, True, 100),
    Column("field taken, %", ("quality", "taken"), None, "{:.1f}", None, True, 100),
)


def columns_of(result: Result) -> list[Column]:
    """The columns of a result's kind; optional ones only where a row has the number."""
    rows = (result, *result["baselines"])
    return [
        column
        for column in _all_columns(result)
        if not column.optional or any(column.value(row) is not None for row in rows)
    ]


def _all_columns(result: Result) -> list[Column]:
    kind = result["kind"]
    if kind == "pck":
        return _pck_columns(result)
    if kind == "davis":
        score = [
            Column(
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
            Column(f"{name} decay", ("mean", f"{name}_decay"), None, "{:.3f}", higher=False)
            for name in ("J", "F")
        ]
        return [*score, *decay, Column("s / frame", ("seconds_per_frame",), None, "{:.3f}", None)]
    pck = [
        Column(f"PCK@{alpha}", ("pck", alpha, "per_point"), ("interval", alpha, "per_point"))
        for alpha in result["pck"]
    ]
    return [
        # Pixels without a prediction are not in these: a method is not best by leaving some out.
        Column("EPE, px", ("epe",), ("epe_interval",), "{:.1f}", None),
        Column("median, px", ("epe_median",), None, "{:.1f}", None),
        *pck,
        Column("covered, %", ("coverage",), None, "{:.1f}", None),
        Column("valid, %", ("valid",), None, "{:.1f}", None, True),
        Column("s / pair", ("seconds_per_pair",), None, "{:.2f}", None),
        *_QUALITY,
    ]


def _pck_columns(result: Result) -> list[Column]:
    """The customary threshold at every alpha, and all four readings at one of them."""
    usual = result["threshold"]
    other = "image" if usual == "box" else "box"
    alphas = list(result["pck"])
    middle = "0.1" if "0.1" in alphas else alphas[-1]
    columns = [
        Column(
            f"PCK@{alpha} ({usual}, points)",
            ("pck", alpha, usual, "per_point"),
            ("interval", alpha, usual, "per_point"),
        )
        for alpha in alphas
    ]
    columns += [
        Column(f"@{middle} ({threshold}, {name})", ("pck", middle, threshold, averaging))
        for threshold, averaging, name in (
            (usual, "per_image", "images"),
            (other, "per_point", "points"),
            (other, "per_image", "images"),
        )
    ]
    return [
        *columns,
        Column(
            f"PCK-dagger@{middle} ({usual}, points)",
            ("pck_dagger", middle, usual, "per_point"),
            optional=True,
        ),
        Column("s / pair", ("seconds_per_pair",), None, "{:.3f}", None),
        Column("MB", ("memory_mb",), None, "{:.0f}", None),
        *_QUALITY,
    ]
