"""Where warpkit keeps predictions, converted weights and records of downloads."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from warpkit.checks import InputError

__all__ = ["default_cache", "file_sha256"]


def default_cache() -> Path:
    """`WARPKIT_CACHE`, else `warpkit` in the user's cache folder."""
    named = os.environ.get("WARPKIT_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "warpkit"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
