"""Records: one pair with everything known of it, and the tar files that hold them.

The same record is the same bytes, whoever makes it and whenever: entries are in a fixed order and
hold no times, owners or machine names.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warpkit.checks import InputError, first_line, is_file, require
from warpkit.io.text import valid_text

__all__ = ["Record", "decode_records", "encode_records", "read_records", "record_entries"]


@dataclass(frozen=True, eq=False)
class Record:
    """One pair, made or dropped.

    Attributes:
        id: its name in all formats.
        meta: JSON-able facts: `status` (`kept` or `dropped`, with `reason`), category, split,
            prompts and seeds, points, scores, boxes, how many matches each filter left.
        files: of a kept pair the bytes of `source.<jpg|png>`, `target.<jpg|png>`,
            `source_mask.png`, `target_mask.png`, and `field.npz` if dense fields are stored.
    """

    id: str
    meta: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return self.meta["status"] == "kept"

    @functools.cached_property
    def stems(self) -> Mapping[str, str]:
        """The names of the images by role: hashes of their files, so that one used twice is stored
        once.
        """
        return {
            role: hashlib.sha256(self.files[self.image_name(role)]).hexdigest()[:16]
            for role in ("source", "target")
        }

    def image_name(self, role: str) -> str:
        """Which file holds the image of a role, `source` or `target`."""
        return next(name for name in self.files if name.rpartition(".")[0] == role)

    def dropped(self, reason: str) -> Record:
        """The same pair, dropped: its files go, its facts stay."""
        return Record(self.id, {**self.meta, "status": "dropped", "reason": reason})


def record_entries(record: Record) -> Iterator[tuple[str, bytes]]:
    """The entries of a record in a tar, as WebDataset names them: `<id>.<name>`."""
    for name, data in record.files.items():
        yield f"{record.id}.{name}", data
    text = json.dumps(record.meta, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    yield f"{record.id}.json", valid_text(text).encode()


def encode_records(records: Iterable[Record]) -> bytes:
    """A tar of records in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for record in records:
            for name, data in record_entries(record):
                entry = tarfile.TarInfo(name)  # no time, no owner
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def decode_records(data: bytes, where: str) -> list[Record]:
    """The records of a tar.

    Args:
        where: what it is called in errors.

    Raises:
        InputError: it is no such tar, or a record in it has no facts.
    """
    files: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for entry in tar:
                name, _, kind = entry.name.partition(".")
                content = tar.extractfile(entry)
                require(content is not None, f"{where}: {entry.name} is no file")
                assert content is not None
                files.setdefault(name, {})[kind] = content.read()
        records = []
        for name, parts in files.items():
            require("json" in parts, f"{where}: record {name} has no JSON")
            records.append(Record(name, json.loads(parts.pop("json")), parts))
    except (tarfile.TarError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} is not a whole tar of records: {first_line(error)}") from error
    return records


def read_records(path: Path) -> list[Record]:
    """The records of a tar file (see `decode_records`)."""
    require(is_file(path), f"no such file: {path}")
    return decode_records(path.read_bytes(), str(path))
