"""Whatever lies in a list of pairs or of predictions: pairs, or one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import damaged, fuzzed, json_near, kept_promise
from hypothesis import given
from hypothesis import strategies as st
from pair_files import make_image, make_pair
from scipy.io import savemat

from warpkit.datasets.cub import read_cub, read_cub_index
from warpkit.datasets.dhf import read_dhf_json
from warpkit.datasets.pf_pascal import read_pf_pascal
from warpkit.datasets.pf_willow import read_pf_willow
from warpkit.datasets.spair import read_spair
from warpkit.evaluate.prediction_files import read_predictions
from warpkit.train.pair_lists import PairList, read_pair_list

POINTS = [[1, 2], [3.25, 4]]
DHF = {
    "source_path": "a.png",
    "target_path": "sub/b.png",
    "source_points": POINTS,
    "target_points": POINTS,
    "source_bounding_box": [0, 0, 9, 9],
    "target_bounding_box": [1, 2.5, 12, 11],
    "category": "cät",
}
SPAIR = {
    "category": "cat",
    "src_imname": "a.jpg",
    "trg_imname": "b.jpg",
    "src_kps": POINTS,
    "trg_kps": POINTS,
    "src_bndbox": [0, 0, 9, 9],
    "trg_bndbox": [0, 0, 9, 9],
}
BIRD = {"file": "a.png", "species": 1, "box": [0, 0, 9, 9], "kps": POINTS, "vis": [1, 0]}
INDEX = {"parts": ["beak", "tail"], "items": [BIRD, {**BIRD, "file": "sub/b.png"}]}
PREDICTED = {
    "method": "mine",
    "pairs": [
        {
            "source": "a.png",
            "target": "sub/b.png",
            "category": "cät",
            "source_points": [[1, 2], [3.25, 4], [39, 29]],
            "predicted_points": [[1, 2], None, [3, 4]],
            "seconds": 0.5,
            "quality": {"shown": 0.5, "trusted": 0.5},
        }
    ],
}
ROWS = (
    b"source_image,target_image,class,XA,YA,XB,YB\n"
    b"a.jpg,x/b.jpg,8,1;2;-1,1;2;-1,3;4;-1,3;4;-1\na.jpg,b.jpg,8,1;nan,1;2,3;4,3;4\n",
    b"source_image,target_image,class,flip\na,b,8,0\na,b,8,1\n",
)
CUB = {
    "images.txt": b"1 a.png\n2 sub/b.png\n",
    "image_class_labels.txt": b"1 1\n2 1\n",
    "bounding_boxes.txt": b"1 0 0 9 9\n2 0.0 1.0 9.5 9\n",
    "train_test_split.txt": b"1 0\n2 0\n",
    "parts/parts.txt": b"1 beak\n2 tail\n",
    "parts/part_locs.txt": b"1 1 3 4 1\n1 2 0 0 0\n2 1 5 6 1\n2 2 7 8 1\n",
}


def matrices(compressed: bool = False, /, **content: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, content, do_compression=compressed)
    return file.getvalue()


MATRICES = (
    matrices(pts_coord=np.arange(20.0).reshape(2, 10)),
    matrices(pts_coord=np.full((2, 10), np.nan), kps=np.array([[1, 2.0]]), bbox=[[0, 0, 9, 9]]),
    matrices(kps=np.array([[1, 2], [np.nan, 1]]), bbox=np.array([[1, 2, 3, 4]])),
    matrices(True, kps=np.eye(2), bbox=np.array([[1, 2, 3, 4]], np.uint16), more=[[1j]]),
    matrices(pts_coord="text", kps=[["a"]], bbox={"x": 1}),
)


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def json_files(*values: Any) -> st.SearchStrategy[bytes]:
    return json_near(*values) | damaged(*(json.dumps(value).encode() for value in values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    places = ("", "images", "JPEGImages/cat", "JPEGImages", "willow/duck")
    for place in places:
        for name in ("a.png", "a.jpg", "b.jpg", "b.png", "sub/b.png"):
            make_image(root / place / name)
    for name in "ab":
        written(root / f"willow/duck/{name}.mat", MATRICES[0])
    return root


def pairs_of(read: Callable[[], Any]) -> None:
    found = kept_promise(read)
    if found is not None:
        pairs = found[0] if isinstance(found[0], list) else found
        assert all(pair.source_path.is_file() for pair in pairs)
        assert all(pair.source_points.shape == pair.target_points.shape for pair in pairs)


@fuzzed
@given(json_files([DHF, DHF], [DHF]))
def test_pair_lists(folder: Path, content: bytes) -> None:
    path = written(folder / "pairs.json", content)
    pairs_of(partial(read_dhf_json, path, folder))
    pairs_of(partial(read_pair_list, PairList(synth=folder)))


@fuzzed
@given(json_files(SPAIR), st.none() | damaged(b"1-a-b:cat\n", "1-a-b:cat\r\n".encode("utf-16")))
def test_spair(folder: Path, content: bytes, layout: bytes | None) -> None:
    written(folder / "PairAnnotation/trn/1-a-b:cat.json", content)
    if layout is None:
        (folder / "Layout/large/trn.txt").unlink(missing_ok=True)
    else:
        written(folder / "Layout/large/trn.txt", layout)
    pairs_of(partial(read_spair, folder, "train"))


@fuzzed
@given(json_files(INDEX))
def test_bird_index(folder: Path, content: bytes) -> None:
    path = written(folder / "index.json", content)
    pairs_of(partial(read_cub_index, path, pairs=1, seed=0))


@fuzzed
@given(st.sampled_from(sorted(CUB)), st.data())
def test_bird_tables(folder: Path, name: str, data: st.DataObject) -> None:
    for file, content in CUB.items():
        written(folder / file, data.draw(damaged(content)) if file == name else content)
    pairs_of(partial(read_cub, folder, pairs=1))


@fuzzed
@given(damaged(*ROWS), damaged(*MATRICES))
def test_pascal(folder: Path, rows: bytes, matrix: bytes) -> None:
    written(folder / "test_pairs.csv", rows)
    written(folder / "Annotations/cat/a.mat", matrix)
    written(folder / "Annotations/cat/b.mat", MATRICES[2])
    pairs_of(partial(read_pf_pascal, folder))


@fuzzed
@given(damaged(*MATRICES))
def test_willow(folder: Path, matrix: bytes) -> None:
    written(folder / "willow/duck/a.mat", matrix)
    pairs_of(partial(read_pf_willow, folder / "willow"))


@fuzzed
@given(json_files(PREDICTED))
def test_predictions(folder: Path, content: bytes) -> None:
    path = written(folder / "predictions.json", content)
    pair = make_pair(folder)
    found = kept_promise(lambda: read_predictions(path, [pair], root=folder))
    assert found is None or found[1][0].predicted.shape == (3, 2)
