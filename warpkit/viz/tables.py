"""A table of numbers as coloured cells, with the names of its rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw

from warpkit.checks import require
from warpkit.viz.palette import scale_colors
from warpkit.viz.panel import INK, PAPER, load_font

__all__ = ["heat_table"]

_CELL, _FONT, _GAP = 52, 13, 10
_DARK = 0.65  # shares of the largest value below this are dark cells, with light text


def heat_table(
    values: npt.NDArray[np.floating],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    row_title: str = "",
    column_title: str = "",
    digits: int = 1,
    sums: bool = False,
) -> npt.NDArray[np.uint8]:
    """Draw a table whose cells are coloured from 0 (dark blue) to the largest value (light yellow).

    Args:
        values: float (R, C), none negative; not finite is an empty cell.
        rows: R names.
        columns: C names.
        title: above all.
        row_title: what the rows are.
        column_title: what the columns are.
        digits: of the numbers in the cells, after the point.
        sums: write the sums of rows and columns beside them, without a colour.

    Returns:
        uint8 RGB (H, W, 3).
    """
    require(
        values.ndim == 2 and values.shape == (len(rows), len(columns)) and values.size > 0,
        f"a table of {len(rows)} x {len(columns)} names needs as many values, got {values.shape}",
    )
    font = load_font(_FONT)
    corner = f"{row_title} \\ {column_title}" if row_title or column_title else ""
    coloured = values.shape
    if sums:
        values = np.vstack([np.column_stack([values, values.sum(1)]), [*values.sum(0), np.nan]])
        rows, columns = [*rows, "sum"], [*columns, "sum"]
    left = round(max(font.getlength(name) for name in (*rows, corner))) + 2 * _GAP
    wide = max(_CELL, round(max(font.getlength(name) for name in columns)) + _GAP)
    high, top = _CELL * 2 // 3, _GAP + 2 * round(_FONT * 1.9)
    width = max(left + wide * len(columns), round(font.getlength(title)) + _GAP) + _GAP
    sheet = PilImage.new("RGB", (width, top + high * len(rows) + _GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP + _FONT / 2), title, INK, font, anchor="lm")
    line = top - _FONT
    draw.text((left - _GAP, line), corner, INK, font, anchor="rm")
    inside = values[: coloured[0], : coloured[1]]
    shares = values / max(float(np.where(np.isfinite(inside), inside, 0).max()), 1e-12)
    colours = scale_colors(np.nan_to_num(shares))
    for column, name in enumerate(columns):
        draw.text((left + wide * (column + 0.5), line), name, INK, font, anchor="mm")
    for row, name in enumerate(rows):
        y = top + high * row
        draw.text((left - _GAP, y + high / 2), name, INK, font, anchor="rm")
        for column in range(len(columns)):
            if not np.isfinite(values[row, column]):
                continue
            x = left + wide * column
            ink: tuple[int, ...] = INK
            if row < coloured[0] and column < coloured[1]:
                colour = tuple(int(part) for part in colours[row, column])
                draw.rectangle((x, y, x + wide - 2, y + high - 2), fill=colour)
                ink = PAPER if shares[row, column] < _DARK else INK
            text = f"{values[row, column]:.{digits}f}"
            draw.text((x + wide / 2 - 1, y + high / 2 - 1), text, ink, font, anchor="mm")
    return np.asarray(sheet).copy()
