"""Points of a clip: queries in from CSV, JSON, NPZ or text, tracks out as CSV, JSON and NPZ.

Convention: `(x, y)` pixels, centres at integers; a frame is its number in the original clip.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, require
from warpkit.io.images import check_target
from warpkit.io.text import read_json, read_text
from warpkit.io.whole import write_json, write_text, written_whole

__all__ = ["PointQueries", "PointTracks", "read_queries", "read_tracks", "write_tracks"]

_EXPECTED = (
    'expected points as "x,y;x,y" (of the first frame) or "frame:x,y;frame:x,y", or a file: .csv'
    " with the columns frame, x, y; .json with a list of [x, y], [frame, x, y] or"
    ' {"frame": ..., "x": ..., "y": ...}; .npz with an array `queries` of (frame, x, y)'
)


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

    Args:
        start: the frame of points without one.

    Raises:
        InputError: no such file, or not points.
    """
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json", ".npz"):
        return _queries([_spelled(part) for part in str(text).split(";") if part.strip()], start)
    require(path.is_file(), f"no points file at {path}")
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                require("queries" in file, f"{path} holds no array `queries`: {_EXPECTED}")
                return _queries(file["queries"].tolist(), start)
        if suffix == ".csv":
            return _queries(_rows_of_csv(read_text(path), path), start)
        data = read_json(path)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as {suffix[1:].upper()}: {error}") from error
    if isinstance(data, dict):
        data = data.get("points", data.get("source_points"))
    return _queries(data, start)


def _spelled(part: str) -> list[str]:
    frame, colon, place = part.rpartition(":")
    return [frame, *place.split(",")] if colon else place.split(",")


def _rows_of_csv(content: str, path: Path) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(content), skipinitialspace=True)
    require(
        {"x", "y"} <= set(reader.fieldnames or ()),
        f"{path}: its first line must name the columns x, y and, for points of other frames, frame",
    )
    return list(reader)


def _queries(items: Any, start: int) -> PointQueries:
    frames, places = [], []
    try:
        for item in items:
            if isinstance(item, dict):
                values = [item.get("frame", start), item["x"], item["y"]]
            else:
                values = [start, *item] if len(item) == 2 else list(item)
            frame, x, y = (float(value) for value in values)
            require(frame == int(frame) and frame >= 0, f"a frame is a whole number, got {frame}")
            frames.append(int(frame))
            places.append((x, y))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{_EXPECTED}; got {str(items)[:80]}") from error
    require(len(places) > 0, f"there are no points: {_EXPECTED}")
    return PointQueries(np.array(frames, np.int64), np.array(places, np.float32))


def write_tracks(path: str | Path, tracks: PointTracks) -> None:
    """Write tracks; the suffix picks the form.

    - `.json`: `frames`, `tracks` (N, T, 2), `visible` and `similarity` (N, T), `queries`;
    - `.csv`: one line per point and frame: point, frame, time, x, y, visible, similarity;
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
    try:
        with np.load(path) as file:
            queries = PointQueries(
                file["queries"][:, 0].astype(np.int64), file["queries"][:, 1:].astype(np.float32)
            )
            columns = ("frames", "times", "tracks", "visible", "similarity")
            return PointTracks(queries, *(file[name] for name in columns))
    except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no tracks of points can be read from it: {error}") from error


def _csv(tracks: PointTracks) -> str:
    lines = ["point,frame,time,x,y,visible,similarity"]
    for n, (places, visible, alike) in enumerate(
        zip(tracks.xy, tracks.visible, tracks.similarity, strict=True)
    ):
        lines += [
            f"{n},{frame},{time:.6f},{x:.3f},{y:.3f},{int(seen)},{cosine:.4f}"
            for frame, time, (x, y), seen, cosine in zip(
                tracks.frames, tracks.times, places, visible, alike, strict=True
            )
        ]
    return "\n".join(lines) + "\n"
