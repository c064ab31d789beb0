"""Parquet: one row per pair with its images in it, as `datasets` and pandas read it."""

from __future__ import annotations

import json
from typing import Any

from warpkit.io.text import valid_text
from warpkit.io.whole import written_whole
from warpkit.synthesize.records import Record
from warpkit.synthesize.writers.layout import ROLES
from warpkit.synthesize.writers.numbered import NumberedFiles

__all__ = ["ParquetWriter"]


class ParquetWriter(NumberedFiles):
    """Writes `parquet/<split>-00000.parquet` files of up to `size` rows.

    Columns: `id`, `category`, `split`; `source` and `target` (and `source_mask`, `target_mask`) as
    structs of `bytes` and `path`; `source_points` and `target_points` as lists of [x, y];
    `source_box`, `target_box`; `similarity` (null for exact labels); `meta`, all known as JSON.
    The schema tells `datasets` which structs are images, so that they come back decoded.
    """

    def write(self, split: str, number: int, records: list[Record]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        points = pa.list_(pa.list_(pa.float32(), 2))
        columns = [("id", pa.string()), ("category", pa.string()), ("split", pa.string())]
        for role in ROLES:
            columns += [
                (role, image),
                (f"{role}_mask", image),
                (f"{role}_points", points),
                (f"{role}_box", pa.list_(pa.float32(), 4)),
            ]
        columns += [("similarity", pa.list_(pa.float32())), ("meta", pa.string())]
        features = {name: _feature(kind, is_image=kind == image) for name, kind in columns}
        about = {"huggingface": json.dumps({"info": {"features": features}})}
        schema = pa.schema(columns, metadata=about)
        rows = [_row(record) for record in records]
        table = pa.Table.from_pylist(rows, schema=schema)
        path = self.place(f"parquet/{split}-{number:05d}.parquet")
        # Opened here: pyarrow takes no name that is no UTF-8.
        with written_whole(path) as partial, partial.open("xb") as file:
            parquet.write_table(table, file)


def _feature(kind: Any, *, is_image: bool = False) -> dict[str, Any]:
    """An Arrow type as the library `datasets` states it."""
    if is_image:
        return {"_type": "Image"}
    if not hasattr(kind, "value_type"):
        return {"dtype": {"float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}
    length = getattr(kind, "list_size", -1)
    return {"feature": _feature(kind.value_type), "length": length, "_type": "Sequence"}


def _row(record: Record) -> dict[str, Any]:
    meta = record.meta
    category = valid_text(meta["category"])
    row: dict[str, Any] = {"id": record.id, "category": category, "split": meta["split"]}
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
    row["meta"] = valid_text(json.dumps(meta, ensure_ascii=False))
    return row
