"""The hub of models as a folder: the three calls that warpkit makes, without a network."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError


class FakeHub:
    """Repositories by id, each a folder; a local cache beside them.

    Attributes:
        online: whether the network is there.
        downloads: what was fetched, `id/path` of every file.
        damage: a file name that arrives with other bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root, root / "cache"
        self.repositories: dict[str, Path] = {}
        self.online = True
        self.downloads: list[str] = []
        self.damage: str | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the client for this test."""
        import huggingface_hub

        hub = self

        class Api:
            def model_info(self, repository: str, **options: Any) -> Any:
                return hub.info(repository, **options)

        monkeypatch.setattr(huggingface_hub, "HfApi", Api)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.single)

    def commit(self, repository: str, revision: str | None) -> str:
        """A revision is a commit here; without one the newest is `aaaa`."""
        return revision or "a" * 40

    def _reach(self, repository: str) -> Path:
        if not self.online:
            raise OSError("Name or service not known")
        if repository not in self.repositories:
            raise OSError(f"404 Client Error: no repository {repository}")
        return self.repositories[repository]

    def info(self, repository: str, *, revision: str | None = None, **_: Any) -> Any:
        root = self._reach(repository)
        files = [
            SimpleNamespace(
                rfilename=path.relative_to(root).as_posix(),
                size=path.stat().st_size,
                lfs=SimpleNamespace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
                if path.suffix != ".json"
                else None,
            )
            for path in sorted(root.rglob("*"))
            if path.is_file()
        ]
        return SimpleNamespace(sha=self.commit(repository, revision), siblings=files)

    def _place(self, repository: str, revision: str | None) -> Path:
        return self.cache / repository.replace("/", "--") / self.commit(repository, revision)

    def _fetch(self, repository: str, name: str, place: Path) -> None:
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._reach(repository) / name, target)
        if self.damage == target.name:
            target.write_bytes(b"damaged")
        self.downloads.append(f"{repository}/{name}")

    def snapshot(
        self,
        repository: str,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        allow_patterns: Sequence[str] = (),
    ) -> str:
        place = self._place(repository, revision)
        if local_files_only:
            if not place.is_dir():
                raise LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder")
            return str(place)
        for name in allow_patterns:
            self._fetch(repository, name, place)
        return str(place)

    def single(
        self,
        repository: str,
        name: str,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> str:
        place = self._place(repository, revision)
        if not (place / name).is_file():
            if local_files_only:
                raise LocalEntryNotFoundError("not in the cache")
            self._fetch(repository, name, place)
        return str(place / name)
