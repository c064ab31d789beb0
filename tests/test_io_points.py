"""Points as users bring them: tables of any country, arrays, JSON, and one's own results."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran

from warpkit.checks import InputError
from warpkit.image.match import parse_points
from warpkit.io import points
from warpkit.io.guides import read_guides
from warpkit.io.points import PointQueries, PointTracks, read_queries, read_tracks, write_tracks

Cli = Callable[..., Ran]

FRAMES, XY = [0, 7], [[160.5, 90.25], [-0.25, 1234.0]]


def listed(path: Path | str, **options: int) -> list[list[float]]:
    found = read_queries(path, **options)
    return [
        [frame, *xy] for frame, xy in zip(found.frames.tolist(), found.xy.tolist(), strict=True)
    ]


ALL = [[0, 160.5, 90.25], [7, -0.25, 1234]]


@pytest.mark.parametrize(
    "content",
    [
        "frame,x,y\n0,160.5,90.25\n7,-0.25,1234\n",
        "frame;x;y\n0;160.5;90.25\n7;-.25;1234\n",
        "frame;x;y\r\n0;160,5;90,25\r\n7;-0,25;1234,000\r\n",
        "\ufeffFrame;X;Y\n0;160,5;90,25\n7;-0,25;1234\n",
        "frame\tx\ty\n0\t160,5\t90,25\n7\t-0,25\t1234\n",
        "frame x  y\n0 160,5 90,25\n7 -0,25 1,234e3\n",
        '"frame","x","y"\n"0","160,5","90,25"\n"7","-0,25","1234"\n',
        "sep=;\nframe;x;y\n0;160,5;90,25\n7;-0,25;1234\n;;\n",
        "y;note;x;frame;\n90.25;über, oben;160.5;0;\n1234;;-0.25;7;\n",
        "0;160,5;90,25\n7;-0,25;1234\n",
        "0,160.5,90.25,\r0007, -0.25, 1234,\r",
        "0.0e+00 1.605e+02 9.025e+01\n7.0e+00 -2.5e-01 1.234e+03\n",
        "# frame x y\n0 160.5 90.25\n7 -0.25 1234\n",
        "# made by hand\nframe|x|y\n\n0|160.5|90.25\n7|-0.25|1234",
        "point,frame,x,y\nnose,0,160.5,90.25\ntail,7,-0.25,1234\n",
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-16", "cp1252"])
def test_tables(tmp_path: Path, content: str, coding: str) -> None:
    if coding != "utf-8":
        content = content.removeprefix("\ufeff")
    (tmp_path / "points.csv").write_bytes(content.encode(coding))
    assert listed(tmp_path / "points.csv") == ALL


def test_tables_without_frames(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", "x;y\n160,5;90,25\n"),
        ("b.tsv", "160.5\t90.25\n"),
        ("c.TXT", "160.5 90.25\n"),
    ):
        (tmp_path / name).write_text(content)
        assert listed(tmp_path / name, start=3) == [[3, 160.5, 90.25]]
        assert parse_points(str(tmp_path / name)).tolist() == [[160.5, 90.25]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x\ty\n1,234\t5,678\n", "decimals or thousands"),
        ('x,y\n"1,234",5\n', "decimals or thousands"),
        ("x;y\n1,5;2.5\n", "decimals or thousands"),
        ("160,5 90,25\n120,5 80,25\n", "several places x,y"),
        ("160,5,90,25\n", "must name the columns x, y"),
        ("a;b\n1;2\n", "must name the columns x, y"),
        ("1,2\n3\n", "must name the columns x, y"),
        ("", "must name the columns x, y"),
        ("PK\x03\x04\x00\x00", "must name the columns x, y"),
        ("x,y\n1,2\n3\n", "row 2: 'y' must be a number, got ''"),
        ("x,y\n1,nan\n", "row 1: 'y' must be a number, got 'nan'"),
        ("x,y\n1,1e99\n", "points must be finite numbers, got .* as point 1"),
        ("frame,x,y\n0.5,1,1\n", "a frame is a whole number, got 0.5"),
        ("frame,x,y\n1e300,1,1\n", "a frame is a whole number"),
        ('x,y\n"' + "1" * 200_000 + '",2\n', "not a table of text"),
        ("x,y\n", "there are no points"),
    ],
)
def test_what_a_table_lacks_is_said(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "points.csv").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_queries(tmp_path / "points.csv")
    assert "points.csv" in str(error.value)
    assert "\n" not in str(error.value)


EXPECTED = [[[1.5, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.25]]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "source_x;source_y;target_x;target_y\n1,5;2;3;4\n5;6;7;8,25\n"),
        ("b.csv", "1,5;2;3;4\n5;6;7;8,25\n"),
        ("c.tsv", "Source_X\tSource_Y\tTarget_X\tTarget_Y\n1,5\t2\t3\t4\n5\t6\t7\t8,25\n"),
        ("d.txt", "1.5 2 3 4\n5 6 7 8.25\n"),
        ("e.csv", '"1,5","2","3","4"\n"5","6","7","8,25"\n'),
        ("f.json", json.dumps(EXPECTED)),
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_guides(tmp_path: Path, name: str, content: str, coding: str) -> None:
    (tmp_path / name).write_bytes(content.encode(coding))
    assert read_guides(tmp_path / name).tolist() == EXPECTED


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_with_a_mark(tmp_path: Path, coding: str) -> None:
    path = tmp_path / "points.json"
    for content in (ALL, {"points": ALL}, [{"frame": f, "x": x, "y": y} for f, x, y in ALL]):
        path.write_bytes(json.dumps(content).encode(coding))
        assert listed(path) == ALL


# ------------------------------------------------------------------------------ one's own results


def tracks_of(queries: PointQueries) -> PointTracks:
    """Tracks in which every point is everywhere most like itself."""
    count, frames = len(queries.frames), np.arange(0, 10)
    xy = np.random.default_rng(0).uniform(0, 99, (count, 10, 2)).astype(np.float32)
    xy[np.arange(count), queries.frames] = queries.xy
    ones = np.ones((count, 10), np.float32)
    return PointTracks(queries, frames, frames / 12, xy, ones > 0, ones)


@pytest.mark.parametrize(
    ("frames", "xy"),
    [
        ([0, 0], [[20, 15], [40.5, 30]]),
        ([9, 0, 4], [[1 / 3, 2 / 3], [1e-5, 71.0625], [100 / 7, 1234.5678]]),
        ([5], [[-0.5, 3]]),
    ],
)
def test_written_tracks_are_read_as_their_points(
    tmp_path: Path, frames: list[int], xy: list[list[float]]
) -> None:
    queries = PointQueries(np.array(frames, np.int64), np.array(xy, np.float32))
    for suffix in ("csv", "json", "npz"):
        write_tracks(tmp_path / f"points.{suffix}", tracks_of(queries))
        found = read_queries(tmp_path / f"points.{suffix}")
        assert found.frames.tolist() == frames, suffix
        assert np.array_equal(found.xy, queries.xy), suffix
    kept = read_tracks(tmp_path / "points.npz")
    assert np.array_equal(kept.xy, tracks_of(queries).xy)
    assert kept.visible.dtype == np.bool_


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_tracks_that_do_not_say_where_points_were_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, delimiter: str
) -> None:
    path = tmp_path / "tracks.csv"
    for column, values, expected in (
        ("similarity", "0.9 1 0.8 1 0.7 0.6", [[3, 2, 2], [0, 4, 4]]),
        ("visible", "0 0 1 1 1 1", [[6, 3, 3], [0, 4, 4]]),
        ("other", "0 0 0 0 0 0", [[0, 1, 1], [0, 4, 4]]),
    ):
        rows = [("point", "frame", "x", "y", column)]
        for n, value in enumerate(values.split()):
            rows.append((str(n // 3), str(n % 3 * 3), str(n + 1), str(n + 1), value))
        path.write_text("".join(f"{delimiter.join(row)}\n" for row in rows))
        caplog.clear()
        assert listed(path) == expected
        assert "tracks.csv holds tracks: 2 points taken" in caplog.text


def test_results_go_on_from_one_command_to_another(cli: Cli, files: Path, tmp_path: Path) -> None:
    """Points of propagate, in three forms, and matches: all the same points again."""
    clip = ("propagate", files / "frames", "--end", 3)
    assert cli(*clip, "--points", "40,20;2:41.1,21.7", "-o", tmp_path / "a").code == 0
    for suffix in ("csv", "json", "npz"):
        found = listed(tmp_path / f"a/points.{suffix}")
        assert found == [[0, 40, 20], [2, float(np.float32(41.1)), float(np.float32(21.7))]]
    ran = cli(*clip, "--points", tmp_path / "a/points.csv", "-o", tmp_path / "b")
    assert (ran.code, ran.messages) == (0, [])
    for name in ("points.csv", "points.json", "points.npz"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    pair = (files / "frames/000.png", files / "frames/003.png")
    assert cli("match", *pair, "--points", "40,20;41,21", "-o", tmp_path / "m.json").code == 0
    assert listed(tmp_path / "m.json") == [[0, 40, 20], [0, 41, 21]]
    ran = cli("match", *pair, "--points", tmp_path / "a/points.csv")
    assert (ran.code, "points of the frames 0, 2" in ran.messages[0]) == (2, True)


def test_coordinates_below_zero_need_no_equals_sign(cli: Cli, files: Path, tmp_path: Path) -> None:
    pair = (files / "frames/000.png", files / "frames/001.png")
    ran = cli("match", *pair, "--points", "-0.4,3;2,-.25")
    assert ran.code == 0
    points = json.loads(ran.out)["source_points"]
    assert np.allclose(points, [[-0.4, 3], [2, -0.25]])
    assert cli("match", *pair, "--points=-0.4,3;2,-.25").out == ran.out
    out = tmp_path / "out"
    clip = ("propagate", files / "frames")
    assert cli(*clip, "--points", "-.4,3", "-o", out).code == 0
    assert listed(out / "points.json") == [[0, float(np.float32(-0.4)), 3]]
    ran = cli(*clip, "--points", "-1,3", "-o", tmp_path / "no")
    assert (ran.code, "(-1, 3) lies outside the image" in ran.messages[0]) == (2, True)
    ran = cli("warp", *pair, "--guide", "-1,3>4,5", "-o", tmp_path / "no")
    assert (ran.code, "(-1, 3) lies outside" in ran.messages[0]) == (2, True)


# ----------------------------------------------------------------------------------------- arrays


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "points.npz"
    rows = np.array([(0, 160.5, 90.25), (7, -0.25, 1234)])
    for content in (
        {"queries": rows, "tracks": np.zeros((2, 9, 2))},
        {"queries": np.asfortranarray(rows.astype(">f4"))},
        {"points": rows.astype(np.float16)},
    ):
        np.savez_compressed(path, **content)
        assert listed(path) == ALL
    np.savez(path, source_points=rows[:, 1:])
    assert listed(path, start=2) == [[2, 160.5, 90.25], [2, -0.25, 1234]]


def archive(header: bytes, values: bytes = b"") -> bytes:
    """An `.npz` whose one array has a header of one's own."""
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("queries.npy", array)
    return file.getvalue()


def saved(**content: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)  # type: ignore[arg-type]
    return file.getvalue()


def huge(shape: str) -> bytes:
    return archive(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode())


WHOLE = saved(queries=[[0, 1, 2]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04xxxx", "cannot be read as NPZ"),
        (b"", "cannot be read as NPZ"),
        (WHOLE[:-30], "cannot be read as NPZ"),
        (WHOLE[:120] + b"\xff" + WHOLE[121:], "cannot be read as NPZ"),
        (saved(queries=np.array([[0, 1, None]])), "holds Python objects, not numbers"),
        (saved(queries=[["0", "1", "2"]]), "holds <U1, not numbers"),
        (saved(queries=[[0, 1j, 2]]), "holds complex128, not numbers"),
        (huge("(1000000000000, 3)"), "should have 1000000000000 x 3 numbers, its bytes are 0"),
        (huge("(-1, 3)"), "cannot be read as NPZ"),
        (archive(b"{'descr': '<f8', 'shape': (((((("), "cannot be read as NPZ"),
        (saved(other=[[0, 1, 2]]), "holds no array `queries`"),
        (saved(queries=[0, 1, 2]), "expected points as"),
        (saved(queries=[[0, 1, 2, 3]]), "expected points as"),
        (saved(queries=np.zeros((0, 3))), "there are no points"),
        (saved(queries=[[0, 1, 2], [0, 1, np.nan]]), "must be finite numbers, got .* as point 2"),
        (saved(queries=[[np.nan, 1, 2]]), "a frame is a whole number, got nan"),
        (saved(queries=[[-1, 1, 2]]), "a frame is a whole number, got -1"),
    ],
)
def test_what_is_wrong_with_arrays_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "points.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_queries(path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        read_tracks(path)


def test_arrays_that_unpack_to_far_more_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "points.npz"
    monkeypatch.setattr(points, "_MOST_QUERY_BYTES", 1 << 20)
    monkeypatch.setattr(points, "_MOST_TRACK_BYTES", 1 << 20)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3)}"
    for content, message in (
        ({"queries": np.zeros((1 << 20, 3))}, r"1048576 x 3 numbers, .* expected at most 1048576"),
        ({"frames": np.zeros(1 << 22)}, r"4194304 numbers, .* expected at most 1048576"),
        ({}, "should have 1 x 3 numbers, its bytes are 16777216"),
        ({"magic": b"\x02\x00\xff\xff\xff\x00"}, "cannot be read as NPZ"),
    ):
        if set(content) & {"queries", "frames"}:
            np.savez_compressed(path, **content)
        else:
            text = header + b" " * (117 - len(header)) + b"\n"
            start = content.get("magic", b"\x01\x00" + struct.pack("<H", len(text)) + text)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
                made.writestr("queries.npy", b"\x93NUMPY" + start + bytes(1 << 24))
        tracemalloc.start()
        with pytest.raises(InputError, match=message):
            read_tracks(path) if "frames" in content else read_queries(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_arrays_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "points.npz"
    path.write_bytes(saved(queries=[[0, 1, 2]], names=np.array([None]), labels=["a"]))
    assert listed(path) == [[0, 1, 2]]
