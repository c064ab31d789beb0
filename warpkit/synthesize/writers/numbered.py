"""Files of up to this many pairs each, numbered, those of a split together."""

from __future__ import annotations

from abc import ABC, abstractmethod

from warpkit.synthesize.records import Record
from warpkit.synthesize.writers.target import Place

__all__ = ["NumberedFiles"]


class NumberedFiles(ABC):
    """Collects pairs by their split and writes a file whenever `size` of them have come."""

    def __init__(self, place: Place, *, size: int) -> None:
        self.place, self._size = place, size
        self._waiting: dict[str, list[Record]] = {}
        self._written: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Take a pair."""
        split = record.meta["split"]
        waiting = self._waiting.setdefault(split, [])
        waiting.append(record)
        if len(waiting) == self._size:
            self._flush(split)

    def close(self) -> None:
        """Write what is left."""
        for split in list(self._waiting):
            self._flush(split)

    def _flush(self, split: str) -> None:
        number = self._written.get(split, 0)
        self._written[split] = number + 1
        self.write(split, number, self._waiting.pop(split))

    @abstractmethod
    def write(self, split: str, number: int, records: list[Record]) -> None:
        """Write file `number`, counted from 0, of a split."""
