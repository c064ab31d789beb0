"""Loops compiled by numba, and the files that keep them between processes.

In: a Python function. Out: the same, compiled when it is first called or read from a folder that
all installations of the same source share. A file that is not as it was written is never run: the
loop is compiled again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.misc.appdirs import AppDirs

__all__ = ["compiled", "inner"]

_LOGGER = logging.getLogger("warpkit")

# No NaN and no infinity ever enters these loops, and sums may be reordered.
_FLAGS = {"nnan", "ninf", "nsz", "contract", "reassoc", "arcp"}
_DIGEST = 16  # bytes at the end of a file


def inner(function: Any) -> Any:
    """A function that numba compiles into the loops that call it, and is kept with them alone."""
    return njit(nogil=True, fastmath=_FLAGS)(function)


def compiled(function: Any) -> Any:
    """A function that numba compiles, without Python's lock, and keeps where it can."""
    loop: Any = inner(function)
    try:
        loop._cache = _LoopCache(function)
    except RuntimeError:
        _not_kept(str(_kept_below()), "it cannot be written to")
    return loop


def _kept_below() -> Path:
    """`NUMBA_CACHE_DIR`, else numba's folder in the user's cache."""
    return Path(_named() or AppDirs("numba", appauthor=False).user_cache_dir)


def _named() -> str:
    """`NUMBA_CACHE_DIR`, empty without one."""
    named: str = vars(config)["CACHE_DIR"]
    return named


class _ByContent:
    """Tells numba to keep loops by the content of their source, wherever it is installed."""

    def __init__(self, function: Any, file: str) -> None:
        self._line = str(function.__code__.co_firstlineno)
        self._stamp = _digest(Path(file).read_bytes() + Path(__file__).read_bytes()).hex()

    @classmethod
    def from_function(cls, function: Any, file: str) -> _ByContent | None:
        """Where to keep a function of a file; None where nothing can be kept."""
        if not (_named() or _kept_below().is_absolute()):
            return None  # there is no home folder
        try:
            place = cls(function, file)
            place.ensure_cache_path()
        except OSError:
            return None
        return place

    def ensure_cache_path(self) -> None:
        """Make the folder.

        Raises:
            OSError: it cannot be written to.
        """
        folder = Path(self.get_cache_path())
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()

    def get_cache_path(self) -> str:
        """The folder of all loops of the file."""
        return str(_kept_below() / f"warpkit-{self._stamp}")

    def get_source_stamp(self) -> str:
        """What changes with the source."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """What tells functions of one name apart."""
        return self._line


class _Places(CompileResultCacheImpl):
    """The first of these that can be written to; the folder beside the source comes second."""

    _locator_classes = [_ByContent, *CompileResultCacheImpl._locator_classes]  # noqa: RUF012


class _LoopCache(FunctionCache):
    """numba's cache of a function, on files that are checked."""

    _impl_class = _Places

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CheckedFiles(self.cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled; a full disk or a missing right is told of once."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _not_kept(self._impl.locator.get_cache_path(), error.strerror or str(error))
            self._cache_path = None  # as the loops' statistics tell it


class _CheckedFiles(IndexDataCacheFile):
    """numba's two files of a function, each with a hash of its content at the end.

    Unpickling a damaged file can raise anything, and damaged machine code can do anything.
    """

    def _load_index(self) -> Any:
        # Without an index nothing is found, and the file is written anew.
        return super()._load_index() if _is_whole(Path(self._index_path)) else {}

    def _load_data(self, name: str) -> Any:
        if not _is_whole(Path(self._data_path(name))):
            raise FileNotFoundError(name)  # which numba takes for not kept
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        written = io.BytesIO()
        yield written
        with super()._open_for_write(filepath) as file:
            file.write(written.getvalue() + _digest(written.getvalue()))


def _is_whole(path: Path) -> bool:
    """Whether a file is as it was written; one that is there and is not is told of."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        data = b""
    whole = data[-_DIGEST:] == _digest(data[:-_DIGEST])
    if not whole:
        _report_damage(path.parent)
    return whole


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


@cache
def _report_damage(folder: Path) -> None:
    _LOGGER.warning(
        "compiled loops in %s are damaged or cannot be read: they are compiled again", folder
    )


@cache
def _not_kept(folder: str, reason: str) -> None:
    _LOGGER.warning(
        "compiled loops cannot be kept in %s (%s): every process compiles them anew; name another"
        " folder by NUMBA_CACHE_DIR",
        folder,
        reason,
    )
