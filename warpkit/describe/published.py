"""The authors' aggregators: fetched by alias, converted to safetensors once, kept in the cache."""

from __future__ import annotations

import atexit
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from warpkit.aggregate.checkpoint import load_published, save_aggregator
from warpkit.features.model_sources import find_file
from warpkit.io.whole import write_json
from warpkit.runs.cache import default_cache, file_sha256, writable_cache

__all__ = [
    "PUBLISHED_AGGREGATORS",
    "convert_published",
    "published_aggregator",
    "verify_aggregator",
]

_log = logging.getLogger("warpkit")

_REPOSITORY = "g-luo/diffusion-hyperfeatures"

PUBLISHED_AGGREGATORS: dict[str, tuple[str, str]] = {
    "sd15": ("sd15", "aggregation_network.pt"),
    "sd15-onestep": ("sd15", "aggregation_network_one-step.pt"),
    "sd21": ("sd21", "aggregation_network_sdv2-1.pt"),
}
"""Alias: the model it was trained on, and its file in the authors' hub repository."""


def published_aggregator(alias: str, *, local_files_only: bool = False) -> Path:
    """A published aggregator as a safetensors file of ours, in float32.

    Where no cache can be written to, it goes when this process ends.

    Raises:
        InputError: it is neither in the local cache nor reachable, or not of the expected layout.
    """
    model, name = PUBLISHED_AGGREGATORS[alias]
    original = find_file(
        f"{_REPOSITORY}/weights/{name}",
        what=f"the aggregator of '{alias}'",
        local_files_only=local_files_only,
        advice=lambda: "Download it on a connected machine and give it with --aggregator FILE",
    )
    name = f"{alias}-{file_sha256(original)[:16]}.safetensors"
    converted = default_cache() / "aggregators" / name
    if _is_as_made(converted):
        return converted
    if converted.is_file():
        _log.warning("%s is damaged: it is made again", converted)
    cache = writable_cache()
    if cache is None:
        cache = Path(tempfile.mkdtemp(prefix="warpkit-"))
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
    converted = cache / "aggregators" / name
    converted.parent.mkdir(exist_ok=True)
    convert_published(original, converted, model=model)
    return converted


def convert_published(original: Path, converted: Path, *, model: str) -> None:
    """Write a checkpoint of the published layout as a file of ours, bit for bit in float32.

    Args:
        model: the backbone it belongs to when its configuration does not say.

    Raises:
        InputError: not of that layout, or the file cannot be written.
    """
    network = load_published(original, model=model)
    facts = {"converted_from": original.name, "original_sha256": file_sha256(original)}
    save_aggregator(converted, network, half=False, **facts)
    write_json(_record(converted), {**facts, "sha256": file_sha256(converted)})


def verify_aggregator(alias: str) -> list[str]:
    """Compare the converted files of an alias with the hashes kept when they were made.

    Returns:
        What is wrong, one line per file; empty if every file is as it was.
    """
    return [
        f"{path.name}: SHA-256 differs from {_recorded(path)}; delete it"
        for path in sorted((default_cache() / "aggregators").glob(f"{alias}-????????????????.saf*"))
        if not _is_as_made(path)
    ]


def _is_as_made(converted: Path) -> bool:
    return converted.is_file() and file_sha256(converted) == _recorded(converted)


def _recorded(converted: Path) -> str | None:
    """The hash kept when a file was made; None where the record is gone or damaged."""
    try:
        record: Any = json.loads(_record(converted).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record.get("sha256") if isinstance(record, dict) else None


def _record(converted: Path) -> Path:
    return converted.with_name(f"{converted.stem}.sha256.json")
