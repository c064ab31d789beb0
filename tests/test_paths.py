"""Paths as users write them: '~', addresses, patterns, brackets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from warpkit.checks import InputError, absent
from warpkit.io.config import load_config
from warpkit.io.frames import open_frames
from warpkit.io.images import read_image
from warpkit.io.whole import drop_partials


@dataclass(frozen=True, kw_only=True)
class Settings:
    images: Path | None = None
    more: tuple[Path, ...] = ()


def test_a_tilde_in_settings_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "c.yaml"
    file.write_text("images: ~/фото\nmore: [~/a, b~c, ./~]\n", encoding="utf-8")
    read = load_config(Settings, file)
    assert read.images == tmp_path / "фото"
    assert read.more == (tmp_path / "a", Path("b~c"), Path("./~"))
    assert load_config(Settings, None, ["images=~/x"]).images == tmp_path / "x"
    assert load_config(Settings, None, ["images=~no-such-user/x"]).images == Path("~no-such-user/x")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("https://example.com/clip.mp4", "; addresses are not fetched: download it, and give the"),
        ("s3://bucket/clip.mp4", "; addresses are not fetched"),
        ("file:///data/clip.mp4", "; give the path without 'file:'"),
        ("~/clip.mp4", "; a quoted '~' is not opened: write the folder out"),
        ("frames/%05d.jpg", "; patterns are not opened: give the folder"),
        ("frames/*.jpg", "; patterns are not opened: give the folder"),
        ("frames/100%.jpg", ""),
        ("frames/[1].jpg", ""),
        ("C:/clips/a.mp4", ""),
        ("gone.mp4", ""),
    ],
)
def test_a_path_where_nothing_is_says_what_was_meant(path, hint):
    shown = str(Path(path))
    for read, what in ((read_image, "file"), (open_frames, "file or folder")):
        with pytest.raises(InputError) as failed:
            read(path)
        text = str(failed.value)
        assert text.startswith(f"{shown}: no such {what}{hint}")
        assert bool(hint) == (";" in text)
    assert absent(Path("a")) == "a: no such file"


@pytest.mark.parametrize("name", ["state [1080p].pt", "state*.pt", "a?b.pt", "состояние.pt"])
def test_what_a_killed_process_left_of_a_file_goes_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    left = tmp_path / f".{path.stem}.0123abcd{path.suffix}"
    others = [tmp_path / ".statement.0123abcd.pt", tmp_path / ".axb.0123abcd.pt", path]
    for file in (left, *others):
        file.touch()
    drop_partials(path)
    assert not left.exists()
    assert all(file.exists() for file in others)
