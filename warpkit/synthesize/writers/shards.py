"""WebDataset shards: `shards/<split>-000000.tar`, every entry named `<id>.<part>`."""

from __future__ import annotations

from warpkit.synthesize.records import Record, encode_records
from warpkit.synthesize.writers.target import Place, write_bytes

__all__ = ["ShardWriter"]


class ShardWriter:
    """Writes shards of up to `size` pairs, those of a split together.

    Keys are the pairs' ids; the parts are `source.jpg` (or `.png`), `source_mask.png`,
    `target.jpg`, `target_mask.png`, `json`, and `field.npz` where dense fields are stored.
    """

    def __init__(self, place: Place, *, size: int) -> None:
        self._place, self._size = place, size
        self._waiting: dict[str, list[Record]] = {}
        self._written: dict[str, int] = {}

    def add(self, record: Record) -> None:
        split = record.meta["split"]
        waiting = self._waiting.setdefault(split, [])
        waiting.append(record)
        if len(waiting) == self._size:
            self._flush(split)

    def close(self) -> None:
        for split in list(self._waiting):
            self._flush(split)

    def _flush(self, split: str) -> None:
        records = self._waiting.pop(split)
        number = self._written.get(split, 0)
        self._written[split] = number + 1
        write_bytes(self._place(f"shards/{split}-{number:06d}.tar"), encode_records(records))
