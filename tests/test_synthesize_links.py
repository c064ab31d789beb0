"""Photographs under several names: each comes once, so that it is in one split."""

from __future__ import annotations

from pathlib import Path

import pytest

from warpkit.synthesize.plan import list_photos


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("photos/cat/1.jpg", "photos/cat/2.jpg", "photos/dog/1.jpg", "store/ab12"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path / "photos"


OWN = {"cat": ["cat/1.jpg", "cat/2.jpg"], "dog": ["dog/1.jpg"]}


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("all", "cat"),  # before it by name, and after it
        ("zoo", "cat"),
        ("cat/back", ".."),
        ("cat/dogs", "../dog"),
        ("cat/0.jpg", "1.jpg"),
        ("a.jpg", "dog/1.jpg"),
        ("cat/3.jpg", "3.jpg"),  # leads to itself
        ("circle", "circle"),
        ("cat/4.jpg", "nowhere.jpg"),
    ],
)
def test_a_link_to_what_is_there_adds_nothing(root: Path, link: str, target: str) -> None:
    (root / link).symlink_to(target)
    assert list_photos(root) == OWN


def test_two_links_to_one_folder_are_one(root: Path) -> None:
    away = root.parent / "away/birds"
    away.mkdir(parents=True)
    (away / "1.jpg").write_bytes(b"")
    for name, target in (("birds-b", away), ("birds-a", away), ("all", away.parent)):
        (root / name).symlink_to(target)
    # A photograph in the folder itself is a link to one that a linked folder has.
    (root / "cat/3.jpg").symlink_to(away / "1.jpg")
    assert list_photos(root) == {"all/birds": ["all/birds/1.jpg"], **OWN}


def test_links_into_a_store_without_suffixes_are_photographs(root: Path) -> None:
    (root / "cat/blob").write_bytes(b"")
    (root / "cat/3.jpg").symlink_to(root.parent / "store/ab12")
    (root / "cat/4.jpg").symlink_to("blob")
    (root / "dog/2.jpg").symlink_to(root.parent / "store/ab12")
    assert list_photos(root) == OWN | {"cat": [*OWN["cat"], "cat/3.jpg", "cat/4.jpg"]}
