"""The sets that the page may look into: folders with `pairs.json` below one folder."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warpkit.app.workspace import Session
from warpkit.checks import InputError, require
from warpkit.io.images import write_image
from warpkit.synthesize.browse import (
    LISTS,
    MadeSet,
    draw_pair,
    draw_pairs,
    read_set,
    write_rendered_set,
)

__all__ = ["EXAMPLE_SET", "PAGE", "DataSets"]

EXAMPLE_SET = "example (rendered)"

PAGE = 6
"""Pairs on a sheet."""

_DEPTH, _MOST = 3, 200  # how deep sets are looked for, and how many are listed


class DataSets:
    """Sets by name.

    Args:
        root: sets lie below it; None has the example alone.
        example: where the example set is written when it is first asked for.
    """

    def __init__(self, root: Path | None, example: Path) -> None:
        self._root = None if root is None else root.resolve()
        self._example = example
        self._lock = threading.Lock()
        self._read: dict[str, MadeSet] = {}

    def names(self) -> list[str]:
        """The sets there are, the example last."""
        found = [] if self._root is None else itertools.islice(_sets(self._root, _DEPTH), _MOST)
        names = [folder.relative_to(self._root).as_posix() for folder in found]  # type: ignore[arg-type]
        return [*sorted(names), EXAMPLE_SET]

    def folder(self, name: Any) -> Path:
        """The folder of a set.

        Raises:
            InputError: a name that is not below the folder of sets, or no set.
        """
        require(isinstance(name, str) and bool(name), "choose a set first")
        if name == EXAMPLE_SET:
            return self._example
        outside = f"'{name}' is not among the sets of this page: refused"
        if self._root is None:
            raise InputError(outside)
        try:
            folder = (self._root / name).resolve()
        except (OSError, ValueError) as error:
            raise InputError(outside) from error
        require(folder.is_relative_to(self._root) and folder.is_dir(), outside)
        return folder

    def read(self, name: Any) -> MadeSet:
        """A set, read once.

        Raises:
            InputError: as `folder`, or a set that cannot be read.
        """
        folder = self.folder(name)
        with self._lock:
            if name == EXAMPLE_SET and not folder.is_dir():
                write_rendered_set(folder, count=8, supersampling=1)
            if name not in self._read:
                self._read[name] = read_set(folder)
            return self._read[name]

    def words(self, text: str) -> str:
        """A message with the names of sets for the places where they lie."""
        text = text.replace(str(self._example), EXAMPLE_SET)
        if self._root is None:
            return text
        return text.replace(f"{self._root}/", "").replace(str(self._root), "the folder of sets")

    def sheet(self, session: Session, name: Any, *, category: str | None, page: Any) -> Path:
        """A picture of one page of a set."""
        found = self.read(name).of(category)
        first = _whole(page, "page") * PAGE
        require(first < len(found), f"there is no page {page}")
        path = session.new_file(".png")
        write_image(path, draw_pairs(found[first : first + PAGE], first=first))
        return path

    def pair(
        self, session: Session, name: Any, *, category: str | None, number: Any
    ) -> tuple[Path, str]:
        """A picture of one pair, and what is known of it as JSON."""
        found = self.read(name).of(category)
        chosen = _whole(number, "pair")
        require(chosen < len(found), f"there is no pair {chosen}: the last one is {len(found) - 1}")
        path = session.new_file(".png")
        write_image(path, draw_pair(found[chosen]))
        facts = {
            "category": found[chosen].pair.category,
            "points": len(found[chosen].pair),
            **found[chosen].facts,
        }
        return path, json.dumps(facts, indent=2, ensure_ascii=False)


def _whole(value: Any, what: str) -> int:
    require(value is not None, f"choose a {what} first")
    require(
        isinstance(value, int | float) and value >= 0 and float(value).is_integer(),
        f"a {what} is a number from 0, got {value!r}",
    )
    return int(value)


def _sets(folder: Path, depth: int) -> Iterator[Path]:
    """Folders with a list of pairs, hidden ones and links left out."""
    if any((folder / name).is_file() for name in LISTS):
        yield folder
        return
    if depth == 0:
        return
    try:
        below = sorted(folder.iterdir())
    except OSError:
        return
    for one in below:
        if one.is_dir() and not one.name.startswith(".") and not one.is_symlink():
            yield from _sets(one, depth - 1)
