"""Synthesised pair sets: a folder with `pairs.json` and the images it names."""

from __future__ import annotations

from pathlib import Path

from warpkit.datasets.dhf import read_dhf_json
from warpkit.datasets.json_fields import check_folder
from warpkit.datasets.pair import AnnotatedPair

__all__ = ["read_synth"]


def read_synth(root: Path | str) -> tuple[list[AnnotatedPair], list[str]]:
    """Read a synthesised set: `root/pairs.json` in the DHF JSON form, paths relative to `root`.

    Returns:
        As `read_dhf_json`.

    Raises:
        InputError: if there is no such folder or list, or no item is usable.
    """
    root = check_folder(root, "a synthesised set with pairs.json and its images")
    return read_dhf_json(root / "pairs.json", root)
