"""Parquet: one row a pair with its images in it, as `datasets` and pandas read it."""

from __future__ import annotations

import json
from typing import Any

from warpkit.io.whole import written_whole
from warpkit.synthesize.records import Record
from warpkit.synthesize.writers.layout import ROLES
from warpkit.synthesize.writers.target import Place

__all__ = ["ParquetWriter"]


class ParquetWriter:
    """Writes `parquet/<split>-00000.parquet` files of up to `size` rows.

    Columns: `id`, `category`, `split`; `source` and `target` (and `source_mask`, `target_mask`) as
    structs of `bytes` and `path`; `source_points` and `target_points` as lists of [x, y];
    `source_box`, `target_box`; `similarity` (null for exact labels); `meta`, all known as JSON.
    """

    def __init__(self, place: Place, *, size: int) -> None:
        self._place, self._size = place, size
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._written: dict[str, int] = {}

    def add(self, record: Record) -> None:
        split = record.meta["split"]
        waiting = self._waiting.setdefault(split, [])
        waiting.append(_row(record))
        if len(waiting) == self._size:
            self._flush(split)

    def close(self) -> None:
        for split in list(self._waiting):
            self._flush(split)

    def _flush(self, split: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        rows = self._waiting.pop(split)
        number = self._written.get(split, 0)
        self._written[split] = number + 1
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        points = pa.list_(pa.list_(pa.float32(), 2))
        fields = [("id", pa.string()), ("category", pa.string()), ("split", pa.string())]
        for role in ROLES:
            fields += [
                (role, image),
                (f"{role}_mask", image),
                (f"{role}_points", points),
                (f"{role}_box", pa.list_(pa.float32(), 4)),
            ]
        fields += [("similarity", pa.list_(pa.float32())), ("meta", pa.string())]
        table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
        with written_whole(self._place(f"parquet/{split}-{number:05d}.parquet")) as partial:
            parquet.write_table(table, partial)


def _row(record: Record) -> dict[str, Any]:
    meta = record.meta
    row: dict[str, Any] = {"id": record.id, "category": meta["category"], "split": meta["split"]}
    for role in ROLES:
        name = record.image_name(role)
        row[role] = {"bytes": record.files[name], "path": f"{record.id}.{name}"}
        name = f"{role}_mask.png"
        row[name.removesuffix(".png")] = {
            "bytes": record.files[name],
            "path": f"{record.id}.{name}",
        }
        row[f"{role}_points"] = meta[f"{role}_points"]
        row[f"{role}_box"] = meta[role]["box"]
    row["similarity"] = meta["similarity"]
    row["meta"] = json.dumps(meta, ensure_ascii=False)
    return row
