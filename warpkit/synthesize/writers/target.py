"""What every writer is given and does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from warpkit.io.whole import written_whole
from warpkit.synthesize.records import Record

__all__ = ["Place", "SetWriter", "write_bytes"]

Place = Callable[[str], Path]
"""From the name of a result to the path to write it to; its folder is there."""


class SetWriter(Protocol):
    """Takes the kept records in the order of their ids, and then ends."""

    def add(self, record: Record) -> None:
        """Write one pair."""
        ...

    def close(self) -> None:
        """Write what comes last."""
        ...


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one step, unless it is there: a killed run wrote it whole, or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    if path.exists():
        return
    with written_whole(path) as partial:
        partial.write_bytes(data)
