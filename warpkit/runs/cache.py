"""Where warpkit keeps what it computed or downloaded, and hashes that say what it is of."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from functools import cache
from pathlib import Path

import warpkit.version
from warpkit.checks import InputError

__all__ = ["code_digest", "default_cache", "file_sha256", "writable_cache"]

_log = logging.getLogger("warpkit")


def default_cache() -> Path:
    """`WARPKIT_CACHE`, else `warpkit` in the user's cache folder.

    Raises:
        InputError: neither is named, and this user has no home folder.
    """
    named = os.environ.get("WARPKIT_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "warpkit"
    except RuntimeError as error:
        raise InputError(
            "this user has no home folder to keep a cache in: name one by WARPKIT_CACHE"
        ) from error


def writable_cache() -> Path | None:
    """The default cache; None, and a line that says so, where nothing can be kept in it."""
    try:
        folder = default_cache()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except InputError as error:
        _not_kept(str(error))
    except OSError as error:
        _not_kept(
            f"{folder} cannot be written to ({error.strerror}); name another folder by"
            " WARPKIT_CACHE"
        )
    else:
        return folder
    return None


@cache
def _not_kept(reason: str) -> None:
    """Say it once."""
    _log.warning("nothing is kept between runs: %s", reason)


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
