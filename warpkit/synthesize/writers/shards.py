"""WebDataset shards: `shards/<split>-000000.tar`, every entry named `<id>.<part>`."""

from __future__ import annotations

from warpkit.synthesize.records import Record, encode_records
from warpkit.synthesize.writers.numbered import NumberedFiles
from warpkit.synthesize.writers.target import write_bytes

__all__ = ["ShardWriter"]


class ShardWriter(NumberedFiles):
    """Writes shards of up to `size` pairs, those of a split together.

    Keys are the pairs' ids; the parts are `source.jpg` (or `.png`), `source_mask.png`,
    `target.jpg`, `target_mask.png`, `json`, and `field.npz` where dense fields are stored.
    """

    def write(self, split: str, number: int, records: list[Record]) -> None:
        write_bytes(self.place(f"shards/{split}-{number:06d}.tar"), encode_records(records))
