"""Points of a clip: queries in from CSV, JSON, NPZ or text, tracks out as CSV, JSON and NPZ.

Convention: `(x, y)` pixels, centres at integers; a frame is its number in the original clip.
"""

from __future__ import annotations

import io
import logging
import math
import reprlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, counted, first_line, float32, is_file, require
from warpkit.io.images import check_target
from warpkit.io.tables import TABLE_SUFFIXES, NumberTable, read_table
from warpkit.io.text import read_json
from warpkit.io.whole import write_json, write_text, written_whole

__all__ = ["PointQueries", "PointTracks", "read_queries", "read_tracks", "write_tracks"]

_log = logging.getLogger("warpkit")

_EXPECTED = (
    'expected points as "x,y;x,y" (of the first frame) or "frame:x,y;frame:x,y", or a file: .csv,'
    " .tsv or .txt with the columns frame, x, y or x, y; .json with a list of [x, y], [frame, x, y]"
    ' or {"frame": ..., "x": ..., "y": ...}, or with such a list as \'points\', \'source_points\''
    " or 'queries'; .npz with an array `queries` of (frame, x, y)"
)
_LISTS = ("queries", "points", "source_points")
_HEADER_BYTES = 1 << 14  # more than NumPy takes
_MOST_QUERY_BYTES, _MOST_TRACK_BYTES = 1 << 26, 1 << 30  # unpacked, of one array
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, eq=False)
class PointQueries:
    """Points to follow.

    Attributes:
        frames: int64 (N,), the frame in which each was given.
        xy: float32 (N, 2), where it is in that frame.
    """

    frames: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        require(
            self.frames.ndim == 1 and self.xy.shape == (len(self.frames), 2) and len(self.xy) > 0,
            f"points must be frames (N,) and places (N, 2), got {self.frames.shape} and"
            f" {self.xy.shape}",
        )
        require(bool(np.isfinite(self.xy).all()), "points must be finite numbers")


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Points followed through a clip.

    Attributes:
        queries: the points.
        frames: int64 (T,), numbers of the frames.
        times: float64 (T,), seconds since the original's first frame.
        xy: float32 (N, T, 2), where the points are; also given where not visible.
        visible: bool (N, T), whether they are seen.
        similarity: float32 (N, T), cosine of the place and the query.
    """

    queries: PointQueries
    frames: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    xy: npt.NDArray[np.float32]
    visible: npt.NDArray[np.bool_]
    similarity: npt.NDArray[np.float32]


def read_queries(text: str | Path, *, start: int = 0) -> PointQueries:
    """Points to follow, from a file or as text.

    What `write_tracks` writes gives the points that were followed, in all of its forms.

    Args:
        start: the frame of points without one.

    Raises:
        InputError: no such file, or not points.
    """
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix not in (*TABLE_SUFFIXES, ".json", ".npz"):
        parts = [_spelled(part) for part in str(text).split(";") if part.strip()]
        return _queries(parts, start, repr(str(text)[:80]))
    require(is_file(path), f"no points file at {path}")
    if suffix in TABLE_SUFFIXES:
        items: Any = _listed(read_table(path, ("x", "y"), ("frame", "x", "y")), start)
    elif suffix == ".npz":
        lists = _arrays(path, _LISTS, _MOST_QUERY_BYTES)
        require(len(lists) > 0, f"{path} holds no array `queries`: {_EXPECTED}")
        items = next(iter(lists.values())).tolist()
    else:
        items = read_json(path)
        if isinstance(items, dict):
            items = next((items[name] for name in _LISTS if name in items), None)
    return _queries(items, start, str(path))


def _spelled(part: str) -> list[str]:
    frame, colon, place = part.rpartition(":")
    return [frame, *place.split(",")] if colon else place.split(",")


def _listed(table: NumberTable, start: int) -> list[list[float]]:
    """The points of a table; of tracks the place where each was given."""
    places = table.numbers("x", "y")
    if "frame" not in table.names:
        return [[start, x, y] for x, y in places.tolist()]
    rows = np.column_stack([table.numbers("frame"), places])
    if "point" not in table.names:
        return rows.tolist()
    ids = table.texts("point")
    if "given" in table.names:
        return rows[table.numbers("given")[:, 0] != 0].tolist()
    if len(set(ids)) == len(ids) or len(set(zip(ids, rows[:, 0], strict=True))) < len(ids):
        return rows.tolist()
    # Tracks that do not say where a point was given: there it is like itself, or is seen first.
    known = next((name for name in ("similarity", "visible") if name in table.names), None)
    worth = table.numbers(known)[:, 0] if known else np.zeros(len(ids))
    best: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name not in best or worth[row] > worth[best[name]]:
            best[name] = row
    how = {"similarity": "most like itself", "visible": "first seen"}.get(str(known), "first")
    _log.warning(
        "%s holds tracks: %s taken, each where it is %s",
        *(table.path, counted(len(best), "point"), how),
    )
    return rows[sorted(best.values())].tolist()


def _queries(items: Any, start: int, source: str) -> PointQueries:
    frames, places = [], []
    try:
        for item in items:
            if isinstance(item, dict):
                values = [item.get("frame", start), item["x"], item["y"]]
            else:
                require(isinstance(item, list | tuple), _EXPECTED)
                values = [start, *item] if len(item) == 2 else list(item)
            frame, x, y = (float(value) for value in values)
            require(
                frame.is_integer() and 0 <= frame < 2**53,
                f"{source}: a frame is a whole number, got {frame:g}",
            )
            frames.append(int(frame))
            places.append((x, y))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{_EXPECTED}; got {reprlib.repr(items)} from {source}") from error
    require(len(places) > 0, f"there are no points in {source}: {_EXPECTED}")
    xy = float32(places)
    bad = np.flatnonzero(~np.isfinite(xy).all(axis=1))
    at = bad[0] if len(bad) else 0
    require(
        not len(bad), f"{source}: points must be finite numbers, got {places[at]} as point {at + 1}"
    )
    return PointQueries(np.array(frames, np.int64), xy)


def write_tracks(path: str | Path, tracks: PointTracks) -> None:
    """Write tracks; the suffix picks the form.

    - `.json`: `frames`, `tracks` (N, T, 2), `visible` and `similarity` (N, T), `queries`;
    - `.csv`: one line per point and frame: point, frame, time, x, y, visible, similarity, given
      (1 where the point is a query, which stands there undiminished);
    - `.npz`: the same as arrays, with `times`; `queries` is (N, 3): frame, x, y.

    Raises:
        InputError: another suffix, or a file that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    require(suffix in (".json", ".csv", ".npz"), f"{path}: tracks go into .json, .csv or .npz")
    check_target(path)
    queries = np.column_stack([tracks.queries.frames, tracks.queries.xy])
    if suffix == ".json":
        content = {
            "frames": tracks.frames,
            "queries": queries,
            "tracks": tracks.xy.astype(np.float64).round(3),
            "visible": tracks.visible,
            "similarity": tracks.similarity.astype(np.float64).round(4),
        }
        write_json(path, content)
    elif suffix == ".csv":
        write_text(path, _csv(tracks))
    else:
        with written_whole(path) as partial:
            np.savez_compressed(
                partial,
                frames=tracks.frames,
                times=tracks.times,
                queries=queries,
                tracks=tracks.xy,
                visible=tracks.visible,
                similarity=tracks.similarity,
            )


def read_tracks(path: Path) -> PointTracks:
    """The tracks of a `.npz` that `write_tracks` wrote.

    Raises:
        InputError: it cannot be read.
    """
    columns = ("frames", "times", "tracks", "visible", "similarity")
    arrays = _arrays(path, columns, _MOST_TRACK_BYTES)
    try:
        given = _arrays(path, ("queries",), _MOST_QUERY_BYTES)
        queries = _queries(given["queries"].tolist(), 0, str(path))
        tracks = PointTracks(queries, *(arrays[name] for name in columns))
    except LookupError as error:
        raise InputError(f"{path}: no tracks of points can be read from it: {error}") from error
    count, length = len(queries.frames), tracks.frames.size
    shapes = (length,), (length,), (count, length, 2), (count, length), (count, length)
    require(
        tuple(arrays[name].shape for name in columns) == shapes,
        f"{path}: the arrays {', '.join(columns)} must have the shapes"
        f" {', '.join(map(str, shapes))}",
    )
    return tracks


def _arrays(path: Path, names: Sequence[str], most: int) -> dict[str, npt.NDArray[Any]]:
    """Those of the named arrays of numbers that an `.npz` has; others are not read.

    Args:
        most: bytes that one of them may take, unpacked.

    Raises:
        InputError: it is damaged, or one of them holds other things or is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {name: _array(archive, members[name], most) for name in names if name in members}
    # What zip files and NumPy raise for damaged ones; RuntimeError: it has a password.
    except (
        *(OSError, EOFError, ValueError, LookupError, TypeError, SyntaxError, RecursionError),
        *(RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
    ) as error:
        raise InputError(f"{path} cannot be read as NPZ: {first_line(error)}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> npt.NDArray[Any]:
    """One array of an `.npz`: no more is unpacked than its header until that is found to be right.

    The header announces a size, which must be that of the member and at most `most` bytes.
    """
    name = member.filename
    with archive.open(member) as packed:
        start = packed.read(_HEADER_BYTES)
        file = io.BytesIO(start)
        shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        require(
            dtype.kind in "biuf",
            f"its array {name} holds {'Python objects' if dtype.hasobject else dtype}, not numbers",
        )
        size, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        numbers = " x ".join(map(str, shape))
        require(
            size == held,
            f"its array {name} should have {numbers} numbers, its bytes are {held}",
        )
        require(
            size <= most,
            f"its array {name} has {numbers} numbers, which are {size} bytes: expected at most"
            f" {most}, give fewer points or frames",
        )
        values = start[file.tell() :] + packed.read(max(0, member.file_size - len(start)))
    require(len(values) == size, f"its array {name} ends after {len(values)} of {size} bytes")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")


def _csv(tracks: PointTracks) -> str:
    return "\n".join(["point,frame,time,x,y,visible,similarity,given", *_csv_rows(tracks)]) + "\n"


def _csv_rows(tracks: PointTracks) -> Iterator[str]:
    for n, (first, query) in enumerate(zip(tracks.queries.frames, tracks.queries.xy, strict=True)):
        columns = (tracks.frames, tracks.times, tracks.xy[n], tracks.visible[n])
        for frame, time, xy, seen, cosine in zip(*columns, tracks.similarity[n], strict=True):
            given = frame == first
            x, y = query if given else (f"{value:.3f}" for value in xy)
            yield f"{n},{frame},{time:.6f},{x},{y},{int(seen)},{cosine:.4f},{int(given)}"
