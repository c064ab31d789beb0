"""The one folder that the page writes into, and what every visitor has in it.

Files get names of our own; a name that comes from outside is only ever looked up. The folder goes
when the server ends; what a killed server left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warpkit.checks import InputError, require

__all__ = ["Session", "Upload", "Workspace"]

_PREFIX = "warpkit-app-"
_OWNER = ".warpkit-app"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
_DRAWN = re.compile(rf"((job-)?[0-9a-f]{{16,}}|{_PREFIX}\w+)(\.\w+)?")


@dataclass(frozen=True)
class Upload:
    """A visitor's file.

    Attributes:
        name: under which it is asked for.
        path: where it lies.
        title: what the visitor called it, for people to read alone.
        height: pixels.
        width: pixels.
        frames: number of frames of a video, 0 for an image.
    """

    name: str
    path: Path
    title: str
    height: int
    width: int
    frames: int = 0


@dataclass
class Session:
    """One visitor: a folder, the uploads in it, the finished runs on videos by name, warps.

    Attributes:
        lent: files of the page itself, such as its examples: shared by all, and only read.
    """

    folder: Path
    most: int
    uploads: dict[str, Upload] = field(default_factory=dict)
    lent: dict[str, Upload] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    warps: list[Path] = field(default_factory=list)
    used: float = field(default_factory=time.monotonic)

    def new_file(self, suffix: str) -> Path:
        """A fresh path in the visitor's folder; of a suffix only letters and digits are kept."""
        kept = suffix.lower() if _SUFFIX.fullmatch(suffix) else ""
        return self.folder / f"{secrets.token_hex(8)}{kept}"

    def new_folder(self) -> Path:
        """A fresh, empty folder for one job."""
        found = self.folder / f"job-{secrets.token_hex(8)}"
        found.mkdir()
        return found

    def keep_warp(self, folder: Path) -> None:
        """Keep a finished warp's folder; the oldest go, since every guide makes a new one."""
        self.warps.append(folder)
        while len(self.warps) > self.most:
            shutil.rmtree(self.warps.pop(0), ignore_errors=True)

    def add(self, upload: Upload) -> Upload:
        """Remember an upload; the oldest go where there are too many."""
        self.uploads[upload.name] = upload
        while len(self.uploads) > self.most:
            gone = self.uploads.pop(next(iter(self.uploads)))
            gone.path.unlink(missing_ok=True)
        return upload

    def lend(self, upload: Upload) -> Upload:
        """Let the visitor ask for a file of the page itself: not counted, and never removed."""
        self.lent[upload.name] = upload
        return upload

    def upload(self, name: str | None, what: str = "a picture") -> Upload:
        """One's own upload, or what was lent, by its name.

        Args:
            what: it is, for who has chosen none.

        Raises:
            InputError: none was chosen, or another name, a path among them.
        """
        require(name not in (None, ""), f"choose {what} first")
        known = self.lent | self.uploads
        if not isinstance(name, str) or name not in known:
            raise InputError(f"choose {what} first: the one that was chosen has been removed")
        return known[name]

    def pair(self, source: str | None, target: str | None) -> list[Upload]:
        """A source and a target picture by their names; raises as `upload` does."""
        return [self.upload(source, "a source picture"), self.upload(target, "a target picture")]


class Workspace:
    """The working folder.

    Args:
        root: the folder to work in, empty or left by an earlier server; None makes one in the
            system's folder for temporary files.
        most_uploads: files that a visitor can have at a time.

    Raises:
        InputError: a folder that holds other things, or in which another server works.
    """

    def __init__(self, root: Path | str | None = None, *, most_uploads: int = 24) -> None:
        self._most = most_uploads
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        if root is None:
            _remove_left(Path(tempfile.gettempdir()))
            root = tempfile.mkdtemp(prefix=_PREFIX)
        self.root = Path(root).resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        owner = self.root / _OWNER
        if any(self.root.iterdir()):
            require(
                owner.is_file(),
                f"{self.root} holds other things: give an empty or new folder to work in",
            )
            require(not _alive(owner), f"another page works in {self.root}: give another folder")
            _empty(self.root)
        owner.write_text(str(os.getpid()), encoding="ascii")
        self.root.chmod(0o700)
        (self.root / "uploads").mkdir()
        (self.root / "visitors").mkdir()

    @property
    def uploads(self) -> Path:
        """Where files land before they are checked.

        Gradio names them by their content: two visitors who send the same file share it, so that
        it must not go when one of them has been served. `clean` removes it when it is old.
        """
        return self.root / "uploads"

    def session(self, key: str) -> Session:
        """The visitor of a key, which comes from outside and never becomes a name."""
        with self._lock:
            found = self._sessions.get(key)
            if found is None:
                folder = self.root / "visitors" / secrets.token_hex(12)
                folder.mkdir()
                found = self._sessions[key] = Session(folder, self._most)
            found.used = time.monotonic()
            return found

    def words(self, key: str, text: str) -> str:
        """A message for a visitor without the places of files: with the visitor's names of them."""
        with self._lock:
            found = self._sessions.get(key)
            uploads = [] if found is None else list(found.uploads.values())
            lent = [] if found is None else list(found.lent.values())
        for upload in lent:
            text = text.replace(str(upload.path), upload.title)
        for upload in uploads:
            for place in (str(upload.path), upload.path.name):
                text = text.replace(place, upload.title)
        return re.sub(rf"{re.escape(str(self.root))}[^\s:;,'\"()]*", _named, text)

    def inside(self, path: Path | str) -> Path:
        """The path, resolved, if it lies in the working folder.

        Raises:
            InputError: it does not, or leaves it by a link.
        """
        found = Path(path).resolve()
        if not found.is_relative_to(self.root):
            raise InputError("that file lies outside the working folder of this page: refused")
        return found

    def drop(self, key: str) -> None:
        """Remove a visitor with all files."""
        with self._lock:
            found = self._sessions.pop(key, None)
        if found is not None:
            shutil.rmtree(found.folder, ignore_errors=True)

    def clean(self, *, idle_seconds: float) -> list[str]:
        """Remove visitors that asked for nothing for so long, and files that landed before.

        Returns:
            The keys of these visitors.
        """
        limit = time.time() - idle_seconds
        for path in self.uploads.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < limit:
                    path.unlink()
        now = time.monotonic()
        with self._lock:
            gone = [k for k, one in self._sessions.items() if now - one.used > idle_seconds]
        for key in gone:
            self.drop(key)
        return gone

    def close(self) -> None:
        """Remove everything that was written."""
        _empty(self.root)
        with contextlib.suppress(OSError):
            self.root.rmdir()


def _named(place: re.Match[str]) -> str:
    """A file or folder of the page by its name, if that is not drawn by lot."""
    name = Path(place[0]).name
    return "a file of this page" if _DRAWN.fullmatch(name) else name


def _alive(owner: Path) -> bool:
    """Whether the process that a folder belongs to runs."""
    try:
        process = int(owner.read_text(encoding="ascii"))
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return process != os.getpid()


def _empty(root: Path) -> None:
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_left(temporary: Path) -> None:
    """Remove working folders of servers that were killed."""
    for folder in temporary.glob(f"{_PREFIX}*"):
        owner = folder / _OWNER
        with contextlib.suppress(OSError):
            if owner.is_file() and not folder.is_symlink() and not _alive(owner):
                shutil.rmtree(folder, ignore_errors=True)
