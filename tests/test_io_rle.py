"""COCO run lengths: hand-made strings, round trips, the field's own tool; the file of a clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from file_formats import decode_rle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from warpkit.checks import InputError
from warpkit.io.rle import CocoMaskWriter, encode_rle

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def test_hand_made_strings() -> None:
    # Down the first column, then the second: 1 off, 2 on, 1 off.
    assert encode_rle(np.array([[0, 1], [1, 0]], bool)) == {"size": [2, 2], "counts": "121"}
    # 100000 = 0 + 21 * 32 + 1 * 32^2 + 3 * 32^3; all but the last letter carry 32.
    assert encode_rle(np.ones((250, 400), bool))["counts"] == "0PeQ3"
    # Counts 1 3 1 1 4 of ten pixels: the last two are stored as 1 - 3 = -2 and 4 - 1 = 3.
    column = np.array([0, 1, 1, 1, 0, 1, 0, 0, 0, 0], bool)[:, None]
    assert encode_rle(column)["counts"] == "131" + chr(48 + (-2 & 31)) + "3"


@given(MASKS)
def test_round_trip(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    assert np.array_equal(decode_rle(rle), mask)


@given(MASKS)
def test_equals_the_tool_of_the_data_set(mask: np.ndarray) -> None:
    tool = pytest.importorskip("pycocotools.mask")
    theirs = tool.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == theirs["counts"].decode()


def test_long_runs_equal_the_tool_of_the_data_set() -> None:
    tool = pytest.importorskip("pycocotools.mask")
    y, x = np.mgrid[0:481, 0:853]
    mask = (x - 400) ** 2 + (y - 200) ** 2 < 150**2
    theirs = tool.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == theirs["counts"].decode()


def test_a_clip(tmp_path: Path) -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:7], labels[4, 4] = 7, 2
    path = tmp_path / "masks.json"
    with CocoMaskWriter(path, height=6, width=8) as writer:
        writer.write(labels, frame=3, name="00003.png")
        writer.write(np.zeros_like(labels), frame=5, name="00005.png")
        assert not path.exists()
    data = json.loads(path.read_text())
    assert [image["id"] for image in data["images"]] == [3, 5]
    assert data["images"][0] | {"file_name": "00003.png", "width": 8} == data["images"][0]
    assert [category["id"] for category in data["categories"]] == [2, 7]
    small, large = data["annotations"]
    assert (small["bbox"], small["area"]) == ([4, 4, 1, 1], 1)
    assert (large["category_id"], large["bbox"], large["area"]) == (7, [2, 1, 5, 2], 10)
    assert np.array_equal(decode_rle(large["segmentation"]), labels == 7)


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="masks are 6 x 8"),
        CocoMaskWriter(tmp_path / "masks.json", height=6, width=8) as writer,
    ):
        writer.write(np.zeros((8, 6), np.uint8), frame=0, name="0.png")
    assert list(tmp_path.iterdir()) == []
