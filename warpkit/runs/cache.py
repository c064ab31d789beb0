"""Where warpkit keeps what it computed or downloaded, and hashes that say what it is of."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

import warpkit.version
from warpkit.checks import InputError

__all__ = ["code_digest", "default_cache", "file_sha256"]


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


@cache
def code_digest() -> str:
    """A hash of warpkit's own source: a cached answer is that of exactly this code."""
    digest = hashlib.sha256()
    package = Path(warpkit.version.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
