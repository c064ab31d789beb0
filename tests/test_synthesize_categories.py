"""Names of categories: kept as they were given, each with a folder of its own anywhere."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest
from PIL import Image
from small_synthesis import made, write_photos

from warpkit.datasets.spair import read_spair
from warpkit.datasets.synth import read_synth
from warpkit.io.text import valid_text
from warpkit.synthesize.categories import name_categories
from warpkit.synthesize.config import GenerationConfig, SplitConfig
from warpkit.synthesize.plan import GeneratedPlans, list_photos
from warpkit.synthesize.records import read_records
from warpkit.synthesize.verify import verify_set

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def alike(name: str) -> str:
    """What a file system that ignores capitals and normalisation tells names by."""
    return unicodedata.normalize("NFC", name.casefold())


@pytest.mark.parametrize(
    "names",
    [
        ["猫", "狗", "кошка", "собака", "قطة", "मछली", "🐈", "🐕‍🦺", "Faces_easy", "Faces easy"],
        ["Cat", "cat", "CAT", NFC, NFD, "straße", "STRASSE", "ﬁsh"],
        ["a.", "a", "a ", " a", "a..", ".a", "..", ".", "...", "-", "", " ", "object"],
        ["a/b", "a-b", "a\\b", "a:b", "a?b", "a\nb", "a\u2028b", "a\u202eb", 'a"b', "a|b", "a<b"],
        ["con", "CON.txt", "Nul", "com1", "com", "lpt9.x", "aux-", "aux"],
        ["猫" * 80 + "a", "猫" * 80 + "b", "x" * 300, "x" * 301],
        ["\udcea\udcee", "\udcea\udcef", "\\udcea\\udcee", "\ud800", "\\udcea"],
    ],
)
def test_every_name_has_a_folder_of_its_own_that_all_systems_allow(names):
    found = name_categories(names)
    assert list(found) == sorted(names)
    assert found == name_categories([*reversed(names), names[0]])
    assert len({alike(category.folder) for category in found.values()}) == len(names)
    assert len({category.name for category in found.values()}) == len(names)
    for given, category in found.items():
        if valid_text(given) == given:
            assert category.name == given
        folder = category.folder
        assert 0 < len(folder.encode()) <= 130
        assert folder == folder.strip(". ")
        assert not set(folder) & set('<>:"/\\|?*\n\r\t\u2028\u202e')
        assert folder.split(".")[0].lower() not in {"con", "aux", "nul", "com1", "lpt9"}


def test_a_name_that_can_be_a_folder_is_one():
    names = ["猫", "кошка", "Faces_easy", "car side", "v1.0", "🐈", NFD, "R&B (live)", "x" * 120]
    assert {name: c.folder for name, c in name_categories(names).items()} == {n: n for n in names}
    # The one that needs no change keeps its name, though another comes first in the alphabet.
    assert name_categories(["a:b", "a-b"])["a-b"].folder == "a-b"
    assert name_categories(["Cat", "cat"])["Cat"].folder == "Cat"


def test_bytes_that_are_not_utf8_are_shown_and_told_apart():
    assert valid_text("\udcea\udcee\udcf2") == r"\udcea\udcee\udcf2"
    assert valid_text("猫\ud800") == r"猫\ud800"
    names = name_categories(["\udcea", r"\udcea"])
    assert names[r"\udcea"].name == r"\udcea"
    assert names["\udcea"].name.startswith(r"\udcea-")


def test_classes_and_prompts_keep_their_names(tmp_path):
    plans = GeneratedPlans(GenerationConfig(classes=("кошка", "собака")), SplitConfig(), 4)
    assert [plans.pair(n).category for n in range(2)] == ["кошка", "собака"]
    path = tmp_path / "prompts.txt"
    path.write_text("красный кот\n红色的猫\nA cat, 4k / HDR\n", encoding="utf-8")
    plans = GeneratedPlans(GenerationConfig(prompts=path), SplitConfig(), 3)
    assert [plans.pair(n).category for n in range(3)] == [
        "красный кот",
        "红色的猫",
        "A cat, 4k / HDR",
    ]
    assert plans.pair(2).folder == "A cat, 4k - HDR"


def test_all_formats_keep_every_folder_and_its_name(tmp_path):
    names = ["猫", "кошка", "Faces_easy", "Faces easy", "Cat", "cat", NFC, NFD, "a/b", "a-b"]
    names += ["red. ", "قطة", "🐈", os.fsdecode("кот".encode("cp1251"))]
    shown = sorted([*names[:-1], r"\udcea\udcee\udcf2"])
    root = write_photos(tmp_path / "photos", names, each=1)
    facts = made(root, tmp_path / "out", len(names))
    assert facts["categories"] == dict.fromkeys(shown, 1)
    assert verify_set(tmp_path / "out")[-1] == "all formats hold the same pairs and points"

    out = tmp_path / "out"
    pairs, problems = read_synth(out)
    assert problems == []
    assert sorted(pair.category for pair in pairs) == shown
    spair, problems = read_spair(out, "train")
    assert problems == []
    assert sorted(pair.category for pair in spair) == shown
    coco = json.loads((out / "coco/keypoints_train.json").read_text(encoding="utf-8"))
    assert sorted(category["name"] for category in coco["categories"]) == shown
    records = [r for path in (out / "shards").glob("*.tar") for r in read_records(path)]
    assert sorted(record.meta["category"] for record in records) == shown
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(out / "parquet/train-00000.parquet").to_pylist()
    assert sorted(row["category"] for row in rows) == shown

    folders = sorted(path.name for path in (out / "JPEGImages").iterdir())
    assert len({alike(folder) for folder in folders}) == len(names)
    assert {"猫", "кошка", "Faces_easy", "Faces easy", "قطة", "🐈", "a-b", "red"} <= set(folders)
    assert all(pair.source_path.parent.name in folders for pair in spair)


@pytest.mark.parametrize("name", ["Faces_easy", "cat", "a/b", "猫"])
def test_the_pairs_of_one_category_are_found_by_its_name(tmp_path, name):
    names = ["Faces_easy", "easy", "Cat", "cat", "a/b", "猫"]
    made(write_photos(tmp_path / "photos", names, each=1), tmp_path / "out", 6, formats=("spair",))
    pairs, problems = read_spair(tmp_path / "out", "train", category=name)
    assert problems == []
    assert [pair.category for pair in pairs] == [name]
    for path in (tmp_path / "out/PairAnnotation/trn").iterdir():
        path.rename(path.with_name(path.name.replace(":", "_")))
    (tmp_path / "out/Layout/large/trn.txt").unlink()
    if name != "a/b":  # its folder is another, and only the annotation says so
        pairs, _ = read_spair(tmp_path / "out", "train", category=name)
        assert [pair.category for pair in pairs] == [name]


def test_photographs_are_found_through_links_and_beside_a_folder_of_their_name(tmp_path):
    root = write_photos(tmp_path / "photos", ["photos", "猫"])
    Image.new("RGB", (8, 8)).save(root / "top.png")
    Image.new("RGB", (8, 8)).save(root / ".hidden.png")
    elsewhere = write_photos(tmp_path / "elsewhere", ["собака"])
    (root / "собака").symlink_to(elsewhere / "собака")
    (root / "猫/round").symlink_to(root)
    assert list_photos(root) == {
        ".": ["top.png"],
        "photos": ["photos/0.png", "photos/1.png"],
        "собака": ["собака/0.png", "собака/1.png"],
        "猫": ["猫/0.png", "猫/1.png"],
    }


def test_photographs_of_the_folder_one_stands_in_are_named_after_it(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    assert list_photos(".") == {tmp_path.name: ["1.png"]}
