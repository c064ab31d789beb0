"""Images and masks as files, SPair-71k's annotations beside them, and DHF's pair lists.

Convention: points and boxes are pixels with centres at integers, as everywhere in warpkit.
"""

from __future__ import annotations

from typing import Any

from warpkit.io.whole import write_json, write_text
from warpkit.synthesize.mask_trust import TRUST_FACTS
from warpkit.synthesize.records import Record
from warpkit.synthesize.writers.target import Place, write_bytes

__all__ = ["LayoutWriter", "image_path", "mask_path"]

_FOLDERS = {"train": "trn", "val": "val", "test": "test"}
_LISTS = {"train": "pairs.json", "val": "pairs_val.json", "test": "pairs_test.json"}
ROLES = ("source", "target")


def image_path(record: Record, role: str) -> str:
    """Where a pair's image lies in the set: `JPEGImages/<folder>/<name>.<suffix>`."""
    suffix = record.image_name(role).rpartition(".")[2]
    return f"JPEGImages/{record.meta['folder']}/{record.stems[role]}.{suffix}"


def mask_path(record: Record, role: str) -> str:
    """Where its mask lies: `Segmentation/<folder>/<name>.png`."""
    return f"Segmentation/{record.meta['folder']}/{record.stems[role]}.png"


class LayoutWriter:
    """Writes images and masks, and the annotations that are asked for.

    Args:
        place: see `Place`.
        spair: write `PairAnnotation` and `Layout`.
        dhf: write `pairs.json` (the training split), `pairs_val.json` and `pairs_test.json`.
    """

    def __init__(self, place: Place, *, spair: bool, dhf: bool) -> None:
        self._place, self._spair, self._dhf = place, spair, dhf
        self._stored: set[str] = set()
        self._layout: dict[str, list[str]] = {split: [] for split in _FOLDERS}
        self._pairs: dict[str, list[dict[str, Any]]] = {split: [] for split in _FOLDERS}

    def add(self, record: Record) -> None:
        for role in ROLES:
            files = {
                image_path(record, role): record.files[record.image_name(role)],
                mask_path(record, role): record.files[f"{role}_mask.png"],
            }
            for name, data in files.items():
                if name not in self._stored:
                    self._stored.add(name)
                    write_bytes(self._place(name), data)
        split = record.meta["split"]
        if self._spair:
            stem = _pair_name(record)
            name = f"PairAnnotation/{_FOLDERS[split]}/{stem}.json"
            write_json(self._place(name), _annotation(record, stem))
            self._layout[split].append(stem)
        if self._dhf:
            self._pairs[split].append(_dhf_item(record))

    def close(self) -> None:
        for split, stems in self._layout.items():
            if self._spair:
                name = f"Layout/large/{_FOLDERS[split]}.txt"
                write_text(
                    self._place(name),
                    "".join(f"{stem}\n" for stem in stems),
                    errors="surrogateescape",
                )
        for split, items in self._pairs.items():
            if items:
                write_json(self._place(_LISTS[split]), items)


def _pair_name(record: Record) -> str:
    stems = [record.stems[role] for role in ROLES]
    return f"{record.id}-{stems[0]}-{stems[1]}:{record.meta['folder']}"


def _annotation(record: Record, stem: str) -> dict[str, Any]:
    """A pair as SPair-71k's PairAnnotation states it."""
    meta = record.meta
    points = len(meta["source_points"])
    found: dict[str, Any] = {
        "filename": stem,
        "pair_id": int(record.id),
        "category": meta["category"],
        "kps_ids": [str(number) for number in range(points)],
        "mirror": 0,
        "viewpoint_variation": 0,
        "scale_variation": 0,
        "truncation": 0,
        "occlusion": 0,
    }
    for role, short in (("source", "src"), ("target", "trg")):
        end = meta[role]
        found |= {
            f"{short}_imname": image_path(record, role).rpartition("/")[2],
            f"{short}_imsize": [end["width"], end["height"], 3],
            f"{short}_bndbox": end["box"],
            f"{short}_kps": meta[f"{role}_points"],
            f"{short}_pose": "Unspecified",
        }
    if meta["folder"] != meta["category"]:
        found["folder"] = meta["folder"]
    return found | _provenance(record)


def _provenance(record: Record) -> dict[str, Any]:
    """What tells where a pair comes from, beside what the format asks for."""
    meta = record.meta
    names = ("kind", "labels", "model", "similarity", "coherence")
    facts = {name: meta[name] for name in names}
    asked = ("prompt", "seed", "strength", "path", "warp_seed", *TRUST_FACTS)
    for role in ROLES:
        facts[role] = {key: meta[role][key] for key in asked if key in meta[role]}
    return facts


def _dhf_item(record: Record) -> dict[str, Any]:
    meta = record.meta
    item: dict[str, Any] = {"id": record.id, "category": meta["category"]}
    for role in ROLES:
        item |= {
            f"{role}_path": image_path(record, role),
            f"{role}_mask": mask_path(record, role),
            f"{role}_points": meta[f"{role}_points"],
            f"{role}_bounding_box": meta[role]["box"],
        }
    return item | {"provenance": _provenance(record)}
