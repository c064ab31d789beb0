"""The quality report of a run: how good it promises to be when, and which frames to check first.

In: one row per frame, tracks. Out: `report.json`, `contact_sheet.png` (the frames to check and
some between, with the result on them) and `report.html`, which shows both with the predicted J over
time and names the frame whose correction would gain most.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from warpkit.checks import counted
from warpkit.io.frame import Frames
from warpkit.io.images import write_image
from warpkit.io.masks import read_labels
from warpkit.io.points import PointTracks
from warpkit.io.whole import write_json, write_text
from warpkit.runs.folder import OutputFolder
from warpkit.runs.frame_rows import Row, result_file
from warpkit.video.calibration import CLIP_ERROR, ERROR, LISTED
from warpkit.video.predicted import Assessment, assess
from warpkit.viz import curves_svg, draw_points, overlay_labels, panel

__all__ = ["Concern", "absences", "concerns", "edit_models", "farthest_frames", "write_quality"]

_MOST = 12  # frames of concern on the contact sheet
_LEAST = 8  # frames on it where fewer are of concern
_DIP = 0.1  # of the median confidence
_GROWTH = math.log(1.6)  # of an object's area from one frame to the next
_RESIZED = math.log(2.0)  # of an object's area since the annotated frame
_PIECE = 0.15  # of an object, that breaks off in one frame
_LOST = 0.1  # of all points, in one frame


@dataclass(frozen=True)
class Concern:
    """A frame to check.

    Attributes:
        frame: its number.
        severity: 0 to 1.
        reasons: in words.
    """

    frame: int
    severity: float
    reasons: tuple[str, ...]


def absences(rows: Sequence[Row]) -> dict[str, list[list[int]]]:
    """First and last frame of every stretch without an object, by object."""
    spans: dict[str, list[list[int]]] = {}
    before: Row = {}
    for row in rows:
        for i in row.get("absent", []):
            found = spans.setdefault(str(i), [])
            if i in before.get("absent", []):
                found[-1][1] = row["frame"]
            else:
                found.append([row["frame"], row["frame"]])
        before = row
    return spans


def edit_models(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """By object, in how many frames its edit was propagated by each model, and where it was lost:
    first and last frame of every stretch.
    """
    found: dict[str, dict[str, Any]] = {}
    before: Row = {}
    for row in rows:
        for i, fit in row.get("edit", {}).items():
            entry = found.setdefault(i, {"frames": {}, "lost": []})
            counts, spans = entry["frames"], entry["lost"]
            counts[fit["model"]] = counts.get(fit["model"], 0) + 1
            if fit.get("lost") and before.get("edit", {}).get(i, {}).get("lost"):
                spans[-1][1] = row["frame"]
            elif fit.get("lost"):
                spans.append([row["frame"], row["frame"]])
        before = row
    return found


def concerns(
    rows: Sequence[Row],
    tracks: PointTracks | None = None,
    *,
    assessed: Assessment | None = None,
    most: int = _MOST,
) -> list[Concern]:
    """Frames to check, the worst first, spread over the clip.

    First comes the frame whose annotation would gain most. Others are of concern where J is
    predicted to be low, and lowest around; where nothing is predicted, where confidence is lowest
    around and well under the median; where an object goes or comes back, breaks, jumps in area, or
    is farthest from the size it was annotated with; where a scene begins, or many points are lost.
    """
    found: dict[int, list[tuple[float, str]]] = {}

    def note(position: int, severity: float, reason: str) -> None:
        found.setdefault(position, []).append((min(severity, 1.0), reason))

    assessed = assessed or assess(rows)
    if assessed.correction is not None:
        first = [row["frame"] for row in rows].index(assessed.correction.frame)
        gain, why = assessed.correction.gain, ", ".join(assessed.correction.reasons)
        told = f"annotate this frame first, for about {gain:+.2f}"
        note(first, 1.0, f"{told}: {why}" if why else told)
    lowest = [min(values.values(), default=None) for values in assessed.predicted]
    for position, low in enumerate(lowest):
        if low is not None and low < LISTED and low == _least_around(lowest, position):
            why = ", ".join(assessed.reasons[position][:2])
            note(position, 1 - low, f"predicted J {low:.2f}" + (f": {why}" if why else ""))
    for position, reason in _resized(rows):
        note(position, 0.25, reason)
    sure = [row.get("frame_confidence") if not row.get("agreement") else None for row in rows]
    known = [value for value in sure if value]
    middle = statistics.median(known) if known else 0.0
    for position, row in enumerate(rows):
        before = rows[position - 1] if position else {}
        if row.get("cut"):
            note(position, 0.95, "a new scene begins")
        for i in row.get("absent", []):
            if position and i not in before.get("absent", []):
                note(position, 0.9, f"object {i} is gone")
        for i, fit in row.get("edit", {}).items():
            if fit.get("lost") and not before.get("edit", {}).get(i, {}).get("lost"):
                note(position, 0.85, f"the edit of object {i} is lost")
        for i in before.get("absent", []):
            if i not in row.get("absent", []):
                note(position, 0.8, f"object {i} is back")
        for i, area in row.get("area", {}).items():
            last = before.get("area", {}).get(i)
            if last and not row.get("given") and abs(math.log(area / last)) > _GROWTH:
                note(position, 0.7, f"the area of object {i} goes from {last} to {area} pixels")
        for i, share in row.get("largest_piece", {}).items():
            last = before.get("largest_piece", {}).get(i)
            if last and not row.get("given") and last - share > _PIECE:
                note(position, 0.6, f"{100 * (1 - share):.0f} % of object {i} break off")
        value = sure[position]
        least = _least_around(sure, position)
        if value and value == least and value < (1 - _DIP) * middle:
            note(position, 1 - value / middle, f"confidence {value:.2f} (median {middle:.2f})")
    if tracks is not None:
        seen = tracks.visible.astype(np.int64)
        lost = np.diff(seen, axis=1, prepend=seen[:, :1]) < 0
        for position, count in enumerate(lost.sum(axis=0).tolist()):
            if count and count >= _LOST * len(seen):
                note(position, count / len(seen), f"{count} of {len(seen)} points lost")
    return _worst_apart(rows, found, most)


def _least_around(values: Sequence[float | None], position: int) -> float | None:
    """The least value in a frame and the two on either side."""
    around = values[max(0, position - 2) : position + 3]
    return min((value for value in around if value is not None), default=None)


def _resized(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """Of every stretch in which an object has another size than annotated, the farthest frame."""
    found = []
    for i in sorted({i for row in rows for i in row.get("area", {})}, key=int):
        annotated, run = 0, list[tuple[float, int, float]]()
        for position, row in enumerate([*rows, Row()]):
            area = row.get("area", {}).get(i)
            annotated = area if area and row.get("given") else annotated
            change = math.log(area / annotated) if area and annotated else 0.0
            if abs(change) > _RESIZED:
                run.append((abs(change), position, change))
            elif run:
                _, at, change = max(run)
                verb = "grows" if change > 0 else "shrinks"
                ratio = f"{math.exp(change):.2g}"
                found.append((at, f"object {i} {verb} to {ratio} times its annotated size"))
                run = []
    return found


def _worst_apart(
    rows: Sequence[Row], found: dict[int, list[tuple[float, str]]], most: int
) -> list[Concern]:
    """The worst, none beside another that is as bad or worse."""
    apart = max(3, len(rows) // (4 * most))
    order = sorted(found, key=lambda p: (-max(found[p])[0], p))
    chosen: list[int] = []
    for position in order:
        if len(chosen) < most and all(abs(position - other) >= apart for other in chosen):
            chosen.append(position)
    return [
        Concern(
            rows[position]["frame"],
            round(max(found[position])[0], 4),
            tuple(reason for _, reason in sorted(found[position], reverse=True)),
        )
        for position in chosen
    ]


def farthest_frames(frames: Sequence[int], shown: Iterable[int], *, least: int) -> list[int]:
    """Frames to add to those shown until there are `least`: each the farthest from all others."""
    chosen, added = list(shown), list[int]()
    while len(chosen) < min(least, len(frames)):
        added.append(max(frames, key=lambda frame: min(abs(frame - other) for other in chosen)))
        chosen.append(added[-1])
    return added


def write_quality(
    folder: OutputFolder,
    frames: Frames,
    rows: Sequence[Row],
    tracks: PointTracks | None,
    *,
    masks: bool,
) -> None:
    """Write `report.json`, `contact_sheet.png`, `confidence.svg` and `report.html`.

    Args:
        masks: whether objects are shown on the contact sheet.
    """
    assessed = assess(rows)
    worst = concerns(rows, tracks, assessed=assessed)
    report = {
        "frames": len(rows),
        "summary": assessed.sentence,
        "predicted_J": _predicted(rows, assessed),
        "annotate_first": assessed.correction,
        "look_at": worst,
        "objects": _objects(rows),
        "absent": absences(rows),
        "cuts": [row["frame"] for row in rows if row.get("cut")],
        "edit": edit_models(rows),
    }
    if tracks is not None:
        report["points"] = {
            "count": len(tracks.xy),
            "visible": tracks.visible.mean(axis=0).round(4).tolist(),
        }
    write_json(folder.file("report.json"), report)
    frame_numbers = [row["frame"] for row in rows]
    shown = {frame_numbers[0]: "start", frame_numbers[-1]: "end"}
    shown |= {concern.frame: concern.reasons[0] for concern in worst}
    for number in farthest_frames(frame_numbers, shown, least=_LEAST):
        shown[number] = ""
    files = {row["frame"]: result_file(row) for row in rows}
    tiles = []
    for index in sorted(shown):
        frame = frames.read(index)
        image = frame.image
        if masks:
            labels = read_labels(folder.written(f"masks/{files[index]}"))
            image = overlay_labels(image, labels)
        if tracks is not None:
            place = int(np.flatnonzero(tracks.frames == index)[0])
            image = draw_points(image, tracks.xy[:, place], tracks.visible[:, place])
        tiles.append((f"{frame.shown}: {shown[index]}".removesuffix(": "), image))
    write_image(folder.file("contact_sheet.png"), panel(tiles, columns=4, height=180))
    series = _series(rows, tracks, assessed)
    marks = {concern.frame: f"frame {concern.frame}: {concern.reasons[0]}" for concern in worst}
    curves = curves_svg(frame_numbers, series, marks=marks)
    write_text(folder.file("confidence.svg"), curves + "\n")
    page = _page(frames, rows, worst, curves, assessed, list(series))
    write_text(folder.file("report.html"), page)


def _predicted(rows: Sequence[Row], assessed: Assessment) -> dict[str, Any] | None:
    """Predicted J of the clip, its objects and frames; null where none is shown or given."""
    if assessed.mean is None:
        return None
    ids = sorted({i for values in assessed.predicted for i in values}, key=int)
    return {
        "mean": assessed.mean,
        "mean_error": CLIP_ERROR,
        "frame_error": ERROR,
        "listed_below": LISTED,
        "listed": assessed.listed,
        "frames": [row["frame"] for row in rows],
        "objects": {i: [values.get(i) for values in assessed.predicted] for i in ids},
    }


def _objects(rows: Sequence[Row]) -> dict[str, Any]:
    """Mean and lowest confidence of every object, and the frame of the latter."""
    values: dict[str, list[tuple[float, int]]] = {}
    for row in rows:
        for i, value in row.get("confidence", {}).items():
            values.setdefault(i, []).append((value, row["frame"]))
    return {
        i: {
            "mean_confidence": round(statistics.fmean(value for value, _ in found), 4),
            "lowest_confidence": min(found)[0],
            "lowest_frame": min(found)[1],
            "frames": len(found),
        }
        for i, found in sorted(values.items(), key=lambda item: int(item[0]))
    }


def _series(
    rows: Sequence[Row], tracks: PointTracks | None, assessed: Assessment
) -> dict[str, list[float | None]]:
    """What is drawn over time, by name: predicted J, or confidence where nothing is predicted."""
    predicted = assessed.mean is not None
    shown = assessed.predicted if predicted else [row.get("confidence", {}) for row in rows]
    ids = sorted({i for values in shown for i in values}, key=int)
    what = "predicted J" if predicted else "confidence"
    series: dict[str, list[float | None]] = {
        f"{what} of object {i}": [values.get(i) for values in shown] for i in ids
    }
    if tracks is not None:
        series["fraction of points visible"] = tracks.visible.mean(axis=0).tolist()
    return series


# What the numbers are.
_MEANS = f"""J is the overlap of a mask with the true one, intersection over union. It is predicted
from what is known without the truth. On clips with truth, by the model <code>embedded</code> with
default settings, a frame's was off by {ERROR:.2f} on average, a clip's mean by {CLIP_ERROR:.2f};
with other models it orders frames rather than measure them."""
_SURE = """The confidence of an object is, on average over its pixels, how far its label leads over
the next one: 0 undecided, 1 certain."""


def _first(assessed: Assessment) -> str:
    """The predicted mean and the first correction, as a paragraph."""
    sentence = escape(assessed.sentence)
    lines = [f"<p><b>{sentence[0].upper()}{sentence[1:]}.</b></p>"] if sentence else []
    if assessed.correction is not None:
        frame = assessed.correction.frame
        lines.append(
            f"<p>Annotate it with <code>--mask {frame}=PNG --update</code>."
            f" Predicted to be under {LISTED:.2f}: {_spans(assessed.listed) or 'no frame'}.</p>"
        )
    return "\n".join(lines)


def _edits(rows: Sequence[Row]) -> str:
    """By which models edits were propagated, as HTML; nothing without any."""
    lines = []
    for i, entry in sorted(edit_models(rows).items(), key=lambda item: int(item[0])):
        models = ", ".join(
            f"{model} in {counted(count, 'frame')}" for model, count in entry["frames"].items()
        )
        lost = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in entry["lost"])
        lines.append(f"<li>Object {i}: {models}{f'; lost in frames {lost}' if lost else ''}</li>")
    return f"<h2>Models of the edit</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _spans(frames: Sequence[int]) -> str:
    """Frame numbers in words, as in "frames 3 to 24, 38"."""
    spans: list[list[int]] = []
    for frame in frames:
        if spans and frame == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], frame]
        else:
            spans.append([frame])
    places = ", ".join(" to ".join(map(str, span)) for span in spans)
    return f"frame{'s' if len(frames) > 1 else ''} {places}" if places else ""


def _page(
    frames: Frames,
    rows: Sequence[Row],
    worst: Sequence[Concern],
    curves: str,
    assessed: Assessment,
    drawn: Sequence[str],
) -> str:
    names = {row["frame"]: row["name"] for row in rows}
    lines = [
        f"<tr><td>{concern.frame}</td><td>{escape(names[concern.frame])}</td><td>{concern.severity:.2f}</td>"
        f"<td>{escape('; '.join(concern.reasons))}</td></tr>"
        for concern in worst
    ]
    table = (
        "<table><tr><th>frame</th><th>name</th><th>severity</th><th>why</th></tr>"
        + "".join(lines)
        + "</table>"
        if lines
        else "<p>Nothing stands out.</p>"
    )
    name = escape(frames.path.name)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}: quality report</title>
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; color: #222 }}
svg, img {{ width: 100%; height: auto }}
td, th {{ text-align: left; padding: 0 1rem 0 0 }}
</style></head><body>
<h1>{name}</h1>
<p>{counted(len(rows), "frame")}.</p>
{_first(assessed)}
<h2>Quality over time</h2>
{curves}
<p>{escape(", ".join(drawn))}. {_MEANS if assessed.mean is not None else _SURE}</p>
<h2>Frames to check first</h2>
{table}
{_edits(rows)}
<img src="contact_sheet.png" alt="these frames, the first, the last and some between, with results">
</body></html>
"""
