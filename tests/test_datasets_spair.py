"""SPair-71k on a small tree of its layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pair_files import HEIGHT, WIDTH, assert_matches, make_image, stems, write_text

from warpkit.checks import InputError
from warpkit.datasets.spair import read_spair

CAT = "000001-2008_1-2008_2:cat"
DOG = "000002-2009_1-2009_2:dog"
CAT_BACK = "000003-2008_2-2008_1:cat"


def write_spair(root: Path, stem: str, split: str = "test", **changes: Any) -> Path:
    number, source, rest = stem.split("-")
    target, category = rest.split(":")
    for name in (source, target):
        make_image(root / "JPEGImages" / category / f"{name}.jpg")
    content = {
        "pair_id": int(number) - 1,
        "filename": stem,
        "src_imname": f"{source}.jpg",
        "trg_imname": f"{target}.jpg",
        "src_imsize": [WIDTH, HEIGHT, 3],
        "trg_imsize": [WIDTH, HEIGHT, 3],
        "src_bndbox": [1, 2, 30, 25],
        "trg_bndbox": [3, 4, 35, 28],
        "category": category,
        "src_pose": "Left",
        "trg_pose": "Right",
        "src_kps": [[int(number), 5], [20, 21]],
        "trg_kps": [[7, 8], [22, 23]],
        "kps_ids": ["0", "4"],
        "mirror": 0,
        "viewpoint_variation": 1,
        "scale_variation": 0,
        "truncation": 0,
        "occlusion": 0,
        **changes,
    }
    path = root / "PairAnnotation" / split / f"{stem}.json"
    write_text(path, json.dumps(content))
    return path


def make_spair(root: Path) -> Path:
    for stem in (CAT, DOG, CAT_BACK):
        write_spair(root, stem)
    write_spair(root, "000001-2008_3-2008_4:cat", split="trn")
    write_spair(root, "000001-2008_5-2008_6:cat", split="val")
    return root


def test_spair_without_layout_takes_every_annotation_by_name(tmp_path: Path) -> None:
    pairs, problems = read_spair(make_spair(tmp_path), "test")
    assert problems == []
    assert stems(pairs) == [("2008_1", "2008_2"), ("2009_1", "2009_2"), ("2008_2", "2008_1")]
    first = pairs[0]
    assert first.source_path == tmp_path / "JPEGImages/cat/2008_1.jpg"
    assert first.category == "cat"
    assert first.source_points.dtype == np.float32
    assert first.source_points.tolist() == [[1, 5], [20, 21]]
    assert first.target_points.tolist() == [[7, 8], [22, 23]]
    assert first.source_box == (1, 2, 30, 25)
    assert first.target_box == (3, 4, 35, 28)


@pytest.mark.parametrize(
    ("split", "source"), [("train", "2008_3"), ("trn", "2008_3"), ("val", "2008_5")]
)
def test_spair_splits(tmp_path: Path, split: str, source: str) -> None:
    pairs, _ = read_spair(make_spair(tmp_path), split)
    assert [pair.source_path.stem for pair in pairs] == [source]


def test_spair_layout_gives_order_and_membership(tmp_path: Path) -> None:
    make_spair(tmp_path)
    layout = tmp_path / "Layout/large/test.txt"
    write_text(layout, CAT_BACK, "000009-2010_1-2010_2:cat", CAT)
    pairs, problems = read_spair(tmp_path, "test")
    assert stems(pairs) == [("2008_2", "2008_1"), ("2008_1", "2008_2")]
    (problem,) = problems
    assert problem.endswith("000009-2010_1-2010_2:cat.json: the annotation is missing")


def test_spair_names_with_underscore_for_colon(tmp_path: Path) -> None:
    make_spair(tmp_path)
    for path in (tmp_path / "PairAnnotation/test").iterdir():
        path.rename(path.with_name(path.name.replace(":", "_")))
    assert len(read_spair(tmp_path, "test", category="cat")[0]) == 2
    write_text(tmp_path / "Layout/large/test.txt", DOG, CAT)
    pairs, problems = read_spair(tmp_path, "test")
    assert [pair.category for pair in pairs] == ["dog", "cat"]
    assert problems == []


def test_spair_category(tmp_path: Path) -> None:
    make_spair(tmp_path)
    write_text(tmp_path / "PairAnnotation/test/000004-2008_1-2008_2:cow.json", "{")
    pairs, problems = read_spair(tmp_path, "test", category="cat")
    assert stems(pairs) == [("2008_1", "2008_2"), ("2008_2", "2008_1")]
    assert problems == []
    with pytest.raises(InputError, match=r"unknown category 'cats': .*cat, cow, dog.*'cat'\?"):
        read_spair(tmp_path, "test", category="cats")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"src_imname": "gone.jpg"}, "JPEGImages/dog/gone.jpg is missing"),
        ({"trg_kps": [[1, 2]]}, "one to one, got 2 and 1"),
        ({"src_kps": []}, "'src_kps' must be a list"),
        ({"src_bndbox": [4, 4, 4, 4]}, "source_box must be .* positive side"),
        ({"trg_bndbox": "none"}, r"'trg_bndbox' must be \[x1, y1, x2, y2\]"),
        ({"category": None}, "'category' must be text"),
    ],
)
def test_spair_lists_broken_annotations(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    make_spair(tmp_path)
    write_spair(tmp_path, DOG, **changes)
    pairs, problems = read_spair(tmp_path, "test")
    assert stems(pairs) == [("2008_1", "2008_2"), ("2008_2", "2008_1")]
    (problem,) = problems
    assert f"{DOG}.json: " in problem
    assert_matches(message, problem)


def test_spair_lists_an_annotation_that_is_no_json(tmp_path: Path) -> None:
    make_spair(tmp_path)
    write_text(tmp_path / f"PairAnnotation/test/{DOG}.json", '{"src_kps": [')
    pairs, problems = read_spair(tmp_path, "test")
    assert len(pairs) == 2
    assert "is not valid JSON" in problems[0]


def test_spair_refuses_other_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PairAnnotation/test is missing: is .* SPair-71k's own"):
        read_spair(tmp_path, "test")
    with pytest.raises(InputError, match="unknown split 'tests'"):
        read_spair(tmp_path, "tests")
    with pytest.raises(InputError, match="is not a folder: expected SPair-71k"):
        read_spair(tmp_path / "none", "test")
