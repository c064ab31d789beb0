"""Whatever lies in a file of points or guides: points, or one line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from fuzzing import damaged, fuzzed, json_near, kept_promise
from hypothesis import example, given
from hypothesis import strategies as st

from warpkit.image.match import parse_points
from warpkit.io.guides import read_guides
from warpkit.io.points import read_queries, read_tracks

ROWS = [[0, 160.5, 90.25], [7, -0.25, 1234]]
TABLES = (
    b"frame,x,y\n0,160.5,90.25\n7,-0.25,1234\n",
    b"\xef\xbb\xbfframe;x;y\r\n0;160,5;90,25\r\n",
    b"0.0e+00 1.605e+02 9.025e+01\n",
    b'sep=;\n"x";"y"\n"1,5";"2"\n',
    b"point,frame,time,x,y,visible,similarity,given\n0,0,0.0,1,2,1,1.0,1\n0,1,0.1,3,4,1,0.9,0\n",
    b"point\tframe\tx\ty\tsimilarity\na\t0\t1\t2\t0.5\na\t1\t3\t4\t1\n",
    b"source_x,source_y,target_x,target_y\n1.5,2,3,4\n",
    b"1,5;2;3;4\n",
    "x,y\n1,2\n".encode("utf-16"),
)
JSONS = (
    ROWS,
    [row[1:] for row in ROWS],
    {"points": ROWS},
    {"queries": ROWS, "frames": [0, 1], "tracks": [[[1, 2]]]},
    [{"frame": 0, "x": 1.5, "y": 2}],
    {"source_points": [[1, 2]], "target_points": [[3, 4]]},
    [[[1, 2], [3, 4]]],
    [{"source_x": 1, "source_y": 2, "target_x": 3, "target_y": 4}],
)


def archive(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


TRACKS = {
    "queries": np.array(ROWS),
    "frames": np.arange(3),
    "times": np.arange(3) / 12,
    "tracks": np.zeros((2, 3, 2), np.float32),
    "visible": np.ones((2, 3), bool),
    "similarity": np.ones((2, 3), np.float32),
}
ARCHIVES = (
    archive(queries=ROWS),
    archive(points=np.ones((2, 2), np.float16), more=["a"]),
    archive(queries=np.array([[0, None, 2]])),
    archive(**TRACKS),
)
DTYPES = st.sampled_from(["f8", ">f4", "f2", "i8", "u1", "?", "c8", "U2", "S3", "M8[s]", "O", "V4"])


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Tracks of which some arrays have another type or shape."""
    arrays = dict(TRACKS)
    for name in draw(st.lists(st.sampled_from(sorted(arrays)), max_size=2)):
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        values = draw(st.sampled_from([0, 1, -1, 2**63 - 1, np.nan, np.inf, 0.5]))
        with np.errstate(all="ignore"):
            try:
                arrays[name] = np.full(shape, values).astype(draw(DTYPES))
            except (ValueError, TypeError, RuntimeWarning):
                del arrays[name]
    return archive(**arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read_all(path: Path) -> None:
    found = kept_promise(lambda: read_queries(path, start=3))
    if found is not None:
        assert found.xy.shape == (len(found.frames), 2) and found.xy.dtype == np.float32
        assert len(found.frames) > 0 and (found.frames >= 0).all() and np.isfinite(found.xy).all()
    alone = kept_promise(lambda: parse_points(str(path)))
    assert alone is None or alone.ndim == 2
    if path.suffix != ".npz":
        pairs = kept_promise(lambda: read_guides(path))
        assert pairs is None or (pairs.shape[1:] == (2, 2) and np.isfinite(pairs).all())


@fuzzed
@given(damaged(*TABLES))
def test_tables(folder: Path, content: bytes) -> None:
    path = folder / "points.csv"
    path.write_bytes(content)
    read_all(path)


@fuzzed
@given(json_near(*JSONS) | damaged(*(json.dumps(value).encode() for value in JSONS)))
@example(b"[" * 990 + b"]" * 990)
def test_json(folder: Path, content: bytes) -> None:
    path = folder / "points.json"
    path.write_bytes(content)
    read_all(path)


@fuzzed
@given(archives() | damaged(*ARCHIVES))
def test_arrays(folder: Path, content: bytes) -> None:
    path = folder / "points.npz"
    path.write_bytes(content)
    read_all(path)
    tracks = kept_promise(lambda: read_tracks(path))
    assert tracks is None or tracks.xy.shape == (*tracks.visible.shape, 2)


@fuzzed
@given(st.text() | damaged(b"120,80;57:300,200", b"1,2>3,4").map(lambda b: b.decode("latin-1")))
@example("x" * 5000 + ".csv")
@example("a\x00.json")
def test_texts(text: str) -> None:
    kept_promise(lambda: read_queries(text))
    kept_promise(lambda: parse_points(text))
    kept_promise(lambda: read_guides(text))
