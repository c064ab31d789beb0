"""`warpkit eval tapvid`: point tracks on the rendered clips, scored as TAP-Vid does.

In: the rendered clips, whose motion is known exactly, and points drawn on them. Out: one result per
method, as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from warpkit.checks import one_of, require
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.evaluate.commands.shared import check_outputs, check_seed, write_result
from warpkit.evaluate.tapvid import QUERY_MODES, TrackScores, mean_track_scores, score_tracks
from warpkit.match.matcher import Matcher, asked_matcher
from warpkit.propagate import PointConfig, PointTracker
from warpkit.render import CLIPS, ClipSpec, RenderedFrame, render_frame, render_tracks
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import run_record
from warpkit.runs.progress import Bar
from warpkit.types import DescriptorMap

__all__ = ["EvalTapvidSettings", "follow_points", "run_eval_tapvid"]

Points = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EvalTapvidSettings(TaskSettings):
    """What is tracked and how it is scored.

    Attributes:
        point: settings of point tracking.
        clips: names of rendered clips; empty takes all.
        points: per clip, half of them on objects.
        stride: take every `stride`-th frame of a clip.
        query_mode: `first` draws points in the first frame and scores the later ones; `strided`
            draws them in every fifth frame and scores all frames but the query's.
        seed: of the draw.
    """

    point: PointConfig = field(default_factory=PointConfig)
    clips: tuple[str, ...] = ()
    points: int = 64
    stride: int = 1
    query_mode: Literal["first", "strided"] = "first"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.clips:
            one_of(name, CLIPS, "clip")
        require(self.points >= 2, f"points must be at least 2, got {self.points}")
        require(self.stride >= 1, f"stride must be 1 or more, got {self.stride}")
        one_of(self.query_mode, QUERY_MODES, "query mode")
        check_seed(self.seed)


def run_eval_tapvid(
    *,
    output: Path | str | None = None,
    json_file: Path | str | None = None,
    settings: EvalTapvidSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Track points through the rendered clips and score the tracks.

    Besides the settings asked for, matching alone (`point.flow` off) is scored.

    Returns:
        `average_jaccard`, `position` (< delta avg), `occlusion` and more of the mean, `clips`
        with the same of each, `baselines` with those of matching alone; the run's record.

    Raises:
        InputError: bad settings, or an output that exists.
    """
    settings, options = settings or EvalTapvidSettings(), options or ModelOptions()
    check_outputs(output, json_file, overwrite=overwrite, inputs=[])
    clock = Stopwatch()
    describer, matcher = options.load_extractor(), asked_matcher(options.engine)
    methods = {describer.name: settings.point}
    if settings.point.flow:
        methods["match alone"] = replace(settings.point, flow=False)
    scores: dict[str, dict[str, TrackScores]] = {name: {} for name in methods}
    for name in Bar(settings.clips or tuple(CLIPS), desc="clips", unit="clip"):
        spec = CLIPS[name]
        with clock.stage("render"):
            frames = [render_frame(spec, t) for t in range(0, spec.frames, settings.stride)]
            queries, points = _draw(frames, settings)
            truth = _truth(spec, queries * settings.stride, points, settings.stride)
        images = [frame.image for frame in frames]
        with clock.stage("describe"):
            maps = [found for image in images for found in describer.describe([image])]
        for method, config in methods.items():
            with clock.stage(f"track {method}"):
                found = follow_points(images, maps, queries, points, config, matcher)
            scores[method][name] = score_tracks(
                *truth,
                *found,
                queries,
                height=spec.height,
                width=spec.width,
                mode=settings.query_mode,
            )
    rows = [
        {
            "method": method,
            **asdict(mean_track_scores(list(clips.values()))),
            "clips": {name: asdict(value) for name, value in clips.items()},
        }
        for method, clips in scores.items()
    ]
    facts = {"kind": "tapvid", "query_mode": settings.query_mode}
    record = run_record("eval tapvid", (options, settings), clock.seconds)
    result = {**facts, **rows[0], "baselines": rows[1:], **record}
    write_result(result, output, json_file, overwrite=overwrite)
    return result


def _draw(
    frames: Sequence[RenderedFrame], settings: EvalTapvidSettings
) -> tuple[npt.NDArray[np.int64], Points]:
    """Frames and places of points, half of them on objects where there are any."""
    random = np.random.default_rng(settings.seed)
    step = len(frames) if settings.query_mode == "first" else 5
    places = list(range(0, len(frames), step))
    each = max(2, settings.points // len(places))
    queries, points = [], []
    for place in places:
        on = frames[place].labels > 0
        for where, count in ((on, each // 2), (~on, each - each // 2)):
            candidates = np.argwhere(where)[:, ::-1]
            if len(candidates):
                chosen = candidates[random.choice(len(candidates), count)]
                points.append(chosen.astype(np.float32))
                queries += [place] * count
    return np.array(queries, np.int64), np.concatenate(points)


def _truth(
    spec: ClipSpec, frames: npt.NDArray[np.int64], points: Points, stride: int
) -> tuple[Points, npt.NDArray[np.bool_]]:
    xy = np.zeros((len(points), len(range(0, spec.frames, stride)), 2), np.float32)
    seen = np.zeros(xy.shape[:2], np.bool_)
    for frame in np.unique(frames):
        which = frames == frame
        there, visible = render_tracks(spec, points[which], frame=int(frame))
        xy[which], seen[which] = there[:, ::stride], visible[:, ::stride]
    return xy, seen


def follow_points(
    images: Sequence[npt.NDArray[np.uint8]],
    maps: Sequence[DescriptorMap],
    queries: npt.NDArray[np.int64],
    points: Points,
    config: PointConfig,
    matcher: Matcher | None = None,
) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Follow points through frames in memory, both ways from the frames they are given in.

    Args:
        images: uint8 RGB (H, W, 3), T frames.
        maps: their descriptors.
        queries: (N,), the place of every point's frame among them.
        points: (N, 2), pixels.

    Returns:
        Where the points are (N, T, 2), and whether they are seen (N, T).
    """
    count, total = len(points), len(images)
    xy = np.zeros((count, total, 2), np.float32)
    seen = np.zeros((count, total), np.bool_)
    for order in (range(total), range(total - 1, -1, -1)):
        tracker = PointTracker(config, count, matcher)
        for place in order:
            tracker.step(maps[place], images[place])
            given = np.flatnonzero(queries == place)
            if len(given):
                tracker.join(given, points[given], maps[place], images[place])
            ahead = queries <= place if order.step > 0 else queries >= place
            xy[ahead, place] = tracker.now.xy[ahead]
            seen[ahead, place] = tracker.now.visible[ahead]
    return xy, seen
