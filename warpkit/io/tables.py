"""Text files of numbers, as scripts and spreadsheets of any country write them.

In: a file. Out: its columns as numbers.

Cells of a table lie between semicolons, tabs, commas, bars or spaces, with or without quotes. Its
first line may name the columns. A decimal comma is read where it can be nothing else.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, require
from warpkit.io.text import read_text

__all__ = ["TABLE_SUFFIXES", "NumberTable", "read_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}", re.ASCII)  # or three decimals


@dataclass(frozen=True, eq=False)
class NumberTable:
    """The cells of a text file, by the names of its columns.

    Attributes:
        path: the file.
        names: of the columns, in small letters.
        rows: the cells of every line that has any.
        delimiter: what lies between the cells; a space stands for any number of them.
    """

    path: Path
    names: tuple[str, ...]
    rows: list[list[str]]
    delimiter: str

    def texts(self, name: str) -> list[str]:
        """The cells of a column; those that a short line lacks are empty."""
        place = self.names.index(name)
        return [row[place] if place < len(row) else "" for row in self.rows]

    def numbers(self, *names: str) -> npt.NDArray[np.float64]:
        """Columns (N, len(names)).

        Raises:
            InputError: a cell that is no number, or a comma that may be of thousands or decimals.
        """
        columns = [self.texts(name) for name in names]
        commas = [cell for column in columns for cell in column if _COMMA.fullmatch(cell)]
        doubt = self.delimiter != ";" and all(_THOUSANDS.fullmatch(cell) for cell in commas)
        points = any("." in cell for column in columns for cell in column)
        require(
            not commas or not (doubt or points),
            f"{self.path}: the comma of '{commas[0] if commas else ''}' may stand before decimals"
            " or thousands: write numbers with a point, without thousands separators",
        )
        for name, column in zip(names, columns, strict=True):
            for row, cell in enumerate(column, start=1):
                require(
                    bool(_NUMBER.fullmatch(cell) or _COMMA.fullmatch(cell)),
                    f"{self.path}: row {row}: '{name}' must be a number, got {cell[:40]!r}",
                )
        cells = [[float(cell.replace(",", ".")) for cell in column] for column in columns]
        return np.array(cells, np.float64).T


def read_table(path: Path, *headings: Sequence[str]) -> NumberTable:
    """A table with the columns of one of the headings.

    Args:
        headings: names of columns. A file whose first line names them holds all of one heading, in
            any order and among others; one of numbers alone has as many columns as one heading.

    Raises:
        InputError: no such file, or other columns.
    """
    # Numbers and names of columns are ASCII; other cells may be of any old code page.
    text = io.StringIO(read_text(path, errors="replace"))
    lines = [line for line in text if line.strip(" \t\n;,|")]
    hint = re.fullmatch(r'\s*"?sep=([;\t|,])"?\s*', lines[0], re.IGNORECASE) if lines else None
    lines, named = lines[1:] if hint else lines, ""
    while lines and lines[0].startswith("#"):
        named = lines.pop(0).lstrip("# ")
    # NumPy marks the line of names as a comment.
    words = set(re.findall(r"\w+", named.lower()))
    if lines and re.match(r"[-+.\d]", lines[0]) and any(words.issuperset(h) for h in headings):
        lines.insert(0, named)
    first = lines[0] if lines else ""
    delimiter = hint[1] if hint else _delimiter(first)
    try:
        cut = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        rows = [line.split() for line in lines] if delimiter == " " else list(cut)
    except csv.Error as error:
        raise InputError(f"{path} is not a table of text: {error}") from error
    rows = [[cell.strip() for cell in row] for row in rows]
    for row in rows:
        while row and not row[-1]:  # some end every line with a delimiter
            row.pop()
    rows = [row for row in rows if row]
    names = tuple(cell.lower() for cell in rows[0]) if rows else ()
    if all(_NUMBER.fullmatch(name) or _COMMA.fullmatch(name) for name in names):
        widths = {len(row) for row in rows}
        names = next((tuple(heading) for heading in headings if {len(heading)} == widths), ())
        require(
            delimiter != " " or any(not _COMMA.fullmatch(c) for row in rows or [[""]] for c in row),
            f"{path}: '{first.strip()[:60]}' may be numbers with decimal commas or several places"
            " x,y: write a first line that names the columns, or decimals with a point",
        )
    else:
        rows = rows[1:]
    require(
        any(set(heading) <= set(names) for heading in headings),
        f"{path}: its first line must name the columns {' or '.join(map(', '.join, headings))},"
        f" or every line hold just these numbers, got {first.strip()[:60]!r}",
    )
    return NumberTable(path, names, rows, delimiter)


def _delimiter(line: str) -> str:
    """What lies between the cells of a line."""
    words = line.split()
    if len(words) > 1 and all(_NUMBER.fullmatch(w) or _COMMA.fullmatch(w) for w in words):
        return "\t" if "\t" in line else " "
    unquoted = re.sub(r'"[^"]*"', "", line)
    return next((mark for mark in ";\t|," if mark in unquoted), " ")
