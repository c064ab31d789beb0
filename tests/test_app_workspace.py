"""The page's folder: nothing leaves it, nothing stays in it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from warpkit.app.workspace import Upload, Workspace
from warpkit.checks import InputError

_NOBODY = 2**22 + 1  # more than Linux hands out


def test_a_folder_is_made_and_removed() -> None:
    space = Workspace()
    assert space.root.is_dir()
    assert space.root.stat().st_mode & 0o077 == 0
    (space.session("a").folder / "x").write_text("x")
    space.close()
    assert not space.root.exists()


def test_paths_outside_are_refused(tmp_path: Path) -> None:
    space = Workspace(tmp_path / "work")
    (tmp_path / "secret").write_text("secret")
    (space.uploads / "link").symlink_to(tmp_path / "secret")
    for path in (
        "/etc/passwd",
        tmp_path / "secret",
        space.root / ".." / "secret",
        space.uploads / "link",
        str(space.root) + "-else",
    ):
        with pytest.raises(InputError, match="outside the working folder"):
            space.inside(path)
    assert space.inside(space.uploads / "a.png") == space.uploads / "a.png"


@pytest.mark.parametrize("key", ["../../etc", "/etc/passwd", "a/b", "", "x" * 5000, "\0"])
def test_keys_of_visitors_never_become_names(tmp_path: Path, key: str) -> None:
    space = Workspace(tmp_path / "work")
    folder = space.session(key).folder
    assert folder.parent == space.root / "visitors"
    assert space.session(key).folder == folder
    assert space.session("another").folder != folder


def test_uploads_are_looked_up_by_name_alone(tmp_path: Path) -> None:
    space = Workspace(tmp_path / "work", most_uploads=2)
    one, other = space.session("one"), space.session("other")
    uploads = []
    for _ in range(3):
        path = one.new_file(".PNG")
        path.write_text("x")
        uploads.append(one.add(Upload(path.name, path, "t", 2, 2)))
    assert one.upload(uploads[2].name) is uploads[2]
    for name in (uploads[0].name, "../x", str(uploads[2].path), None, 3, ["a"]):
        with pytest.raises(InputError, match="choose a picture first"):
            one.upload(name)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the one that was chosen has been removed"):
        other.upload(uploads[2].name)
    # The oldest went, with its file.
    assert [upload.path.exists() for upload in uploads] == [False, True, True]


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [(".png", ".png"), (".MP4", ".mp4"), ("", ""), (".a/b", ""), ("/../x", ""), (".toolong", "")],
)
def test_of_a_suffix_letters_are_kept(tmp_path: Path, suffix: str, kept: str) -> None:
    session = Workspace(tmp_path / "work").session("a")
    path = session.new_file(suffix)
    assert path.parent == session.folder
    assert path.suffix == kept


def test_visitors_that_left_or_idle_are_removed(tmp_path: Path) -> None:
    space = Workspace(tmp_path / "work")
    folders = {key: space.session(key).folder for key in "abc"}
    space.drop("a")
    space.session("b").used -= 100
    old, new = space.uploads / "old.png", space.uploads / "new.png"
    for path in (old, new):
        path.write_text("x")
    os.utime(old, (1, 1))
    assert space.clean(idle_seconds=50) == ["b"]
    assert [path.exists() for path in (old, new)] == [False, True]
    assert [key for key, folder in folders.items() if folder.exists()] == ["c"]


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things"):
        Workspace(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_what_a_killed_server_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, running, foreign = (tmp_path / f"warpkit-app-{name}" for name in "abc")
    for folder in (left, running, foreign):
        folder.mkdir()
        (folder / "file").write_text("x")
    (left / ".warpkit-app").write_text(str(_NOBODY))
    (running / ".warpkit-app").write_text(str(os.getppid()))
    space = Workspace()
    assert [folder.exists() for folder in (left, running, foreign)] == [False, True, True]
    space.close()
    with pytest.raises(InputError, match="another page works in"):
        Workspace(running)
    (running / ".warpkit-app").write_text(str(_NOBODY))
    assert not (Workspace(running).root / "file").exists()
