"""Guides as text, CSV and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.io.guides import read_guide_flags, read_guides

EXPECTED = [[[1.5, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.25]]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "source_x,source_y,target_x,target_y\n1.5,2,3,4\n5,6,7,8.25\n"),
        ("b.csv", "target_x, target_y, source_x, source_y\n3,4,1.5,2\n7,8.25,5,6\n"),
        ("c.csv", "\ufeff1.5,2,3,4\r\n5,6,7,8.25\r\n"),
        ("d.json", json.dumps(EXPECTED)),
        (
            "e.json",
            json.dumps(
                [
                    {"source_x": a, "source_y": b, "target_x": c, "target_y": d}
                    for (a, b), (c, d) in EXPECTED
                ]
            ),
        ),
        (
            "f.json",
            json.dumps(
                {
                    "source_points": [p[0] for p in EXPECTED],
                    "target_points": [p[1] for p in EXPECTED],
                }
            ),
        ),
    ],
)
def test_files(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_guides(path).tolist() == EXPECTED


def test_text_and_flags(tmp_path: Path) -> None:
    assert read_guides("1.5,2>3,4;5,6>7,8.25").tolist() == EXPECTED
    both = read_guide_flags(["1.5,2>3,4", "5,6>7,8.25"])
    assert both is not None and np.array_equal(both, np.float32(EXPECTED))
    assert read_guide_flags(None) is None


@pytest.mark.parametrize("text", ["1,2", "1,2>3", "a,b>c,d", "", "1,2>3,4>5,6", "1,2>nan,4"])
def test_what_is_no_guide_is_said(text: str) -> None:
    with pytest.raises(InputError, match="guides"):
        read_guides(text)


def test_broken_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of guides"):
        read_guides(tmp_path / "none.csv")
    bad = tmp_path / "bad.json"
    bad.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        read_guides(bad)
    bad.write_text('[{"source_x": 1}]', encoding="utf-8")
    with pytest.raises(InputError, match="source_y"):
        read_guides(bad)
