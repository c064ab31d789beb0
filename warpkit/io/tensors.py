"""Safetensors files of the same content are the same bytes, and whole or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from warpkit.io.text import valid_text
from warpkit.io.whole import written_whole

__all__ = ["read_tensors", "write_tensors"]

_PREFIX = 8  # bytes that hold the header's length


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in one step; what was at `path` is replaced at the end.

    safetensors writes metadata in an order that changes from run to run: it is sorted here.

    Args:
        tensors: on any device.
        metadata: text by name; where it names a file, a byte that is no UTF-8 is written as a
            backslash escape, as in `caf\\udce9.png`.

    Raises:
        OutputError: the file cannot be written.
    """
    # The library refuses a byte that is no UTF-8 in every form that JSON has for it.
    known = {name: valid_text(text) for name, text in metadata.items()}
    raw = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    length = int.from_bytes(raw[:_PREFIX], "little")
    header = json.loads(raw[_PREFIX : _PREFIX + length])
    entries = {"__metadata__": dict(sorted(known.items())), **header}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _PREFIX)  # the tensors that follow stay aligned
    with written_whole(path) as partial, partial.open("xb") as file:
        file.write(len(text).to_bytes(_PREFIX, "little") + text)
        file.write(memoryview(raw)[_PREFIX + length :])


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU and metadata of a safetensors file, which is opened just once.

    The library's own reader opens a file twice: another process may remove it in between.

    Raises:
        OSError: it cannot be read.
        SafetensorError, ValueError: it is damaged.
    """
    raw = path.read_bytes()
    tensors = load(raw)
    length = int.from_bytes(raw[:_PREFIX], "little")
    metadata: dict[str, str] = json.loads(raw[_PREFIX : _PREFIX + length]).get("__metadata__", {})
    return tensors, metadata
