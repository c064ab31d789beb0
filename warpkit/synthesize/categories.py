"""Categories: their names as they were given, and folders that every file system can hold.

In: names of folders, classes or prompts. Out: `Category`s, all of them different.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from warpkit.io.text import valid_text

__all__ = ["Category", "name_categories"]

_MOST_BYTES = 120  # of a folder's name: an annotation's file name holds it and 43 letters more
# What Windows allows in no name, and what ends a line or turns its direction.
_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Category:
    """What a pair shows.

    Attributes:
        name: as it was given, in any script; bytes that are not UTF-8 read `\\udce4`.
        folder: where its images lie: the name itself where all systems allow that. No two
            categories of a run have one folder, on systems either that take capitals or ways to
            write an accent for the same.
    """

    name: str
    folder: str


def name_categories(given: Iterable[str]) -> dict[str, Category]:
    """The category of each of a run's names; the same names give the same, in any order."""
    given = sorted(set(given))
    names = _unlike(given, valid_text, key=lambda name: name)
    folders = _unlike(given, lambda name: _safe(names[name]), key=_alike)
    return {name: Category(names[name], folders[name]) for name in given}


def _unlike(
    given: list[str], change: Callable[[str], str], *, key: Callable[[str], str]
) -> dict[str, str]:
    """Each name changed, no two alike: names that stay as they are come first, a later one that
    is like another gets a hash of what it was.
    """
    taken: set[str] = set()
    found: dict[str, str] = {}
    for name in sorted(given, key=lambda name: (change(name) != name, name)):
        new, tries = change(name), 0
        while key(new) in taken:
            digest = hashlib.sha256(f"{tries} {valid_text(name)}".encode()).hexdigest()[:8]
            new, tries = f"{change(name)}-{digest}", tries + 1
        taken.add(key(new))
        found[name] = new
    return found


def _safe(name: str) -> str:
    """A folder's name like this one that Linux, macOS and Windows all allow."""
    kept = _UNFIT.sub("-", name).encode()[:_MOST_BYTES].decode(errors="ignore")
    kept = kept.lstrip(". ").rstrip(". ")  # hidden; dropped by Windows
    if not kept.strip("-"):
        return "object"
    return f"_{kept}" if _RESERVED.match(kept) else kept


def _alike(name: str) -> str:
    """What a file system that ignores case and normalisation tells names by."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
