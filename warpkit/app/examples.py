"""The examples of the page: small pictures and the warps of them, finished before.

`examples/make_page_examples.py` makes what a folder here holds beside its inputs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image as PilImage

from warpkit.arrays import Labels
from warpkit.checks import InputError
from warpkit.io.masks import read_labels

__all__ = ["EXAMPLES", "RECORD", "Example", "all_examples", "example", "input_hashes"]

EXAMPLES = Path(__file__).parent / "example_files"

RECORD = "example.json"
"""What was computed of an example, beside its pictures."""

_INPUTS = (
    *("source.jpg", "target.jpg", "source_mask.png", "target_mask.png"),
    *("clip.mp4", "clip_mask.png"),
)
_THUMBNAIL = 144, 96  # pixels, at most


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        folder: its files.
    """

    folder: Path

    @property
    def name(self) -> str:
        """What it is called: the folder's name without the number before it."""
        return re.sub(r"^\d+-", "", self.folder.name)

    def file(self, name: str) -> Path:
        """One of its files, such as `composite.jpg`."""
        return self.folder / name

    @cached_property
    def record(self) -> dict[str, Any]:
        """What its `example.json` says."""
        found: dict[str, Any] = json.loads(self.file(RECORD).read_text(encoding="utf-8"))
        return found

    def mask(self, role: str, kind: str = "mask") -> Labels | None:
        """The mask of `source`, `target` or `clip`, uint8 (H, W); None where there is none.

        Args:
            kind: `mask` is one that was given, `found` one that nobody gave.
        """
        path = self.file(f"{role}_{kind}.png")
        return read_labels(path) if path.is_file() else None

    def thumbnail(self) -> str:
        """The composite, small, as a `data:` address."""
        picture = PilImage.open(self.file("composite.jpg"))
        picture.thumbnail(_THUMBNAIL)
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def all_examples() -> list[Example]:
    """All examples in the order of their folders' names; the page opens with the first."""
    return [Example(path.parent) for path in sorted(EXAMPLES.glob(f"*/{RECORD}"))]


def example(name: Any) -> Example:
    """The example of a name, which may come from outside.

    Raises:
        InputError: there is none.
    """
    found = {one.name: one for one in all_examples()}
    if not isinstance(name, str) or name not in found:
        raise InputError(f"unknown example {name!r}: expected one of {', '.join(found)}")
    return found[name]


def input_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each of an example's inputs, by its file name."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in _INPUTS
        if (folder / name).is_file()
    }
