"""The TAP-Vid scores of point tracks: average Jaccard, position accuracy, occlusion accuracy.

Convention: a track holds a point in every frame of a clip. Positions are scaled to a frame of
256 x 256 pixels before distances are taken, as the benchmark does, whatever the clip's own size.

Source: TAP-Vid (Doersch et al., NeurIPS 2022), section 3 and its public definition of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from warpkit.checks import one_of, require

__all__ = ["QUERY_MODES", "THRESHOLDS", "TrackScores", "mean_track_scores", "score_tracks"]

THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of 256
QUERY_MODES = ("first", "strided")
_SIDE = 256


@dataclass(frozen=True)
class TrackScores:
    """The scores of one clip, or their means over clips; all in 0..1.

    Attributes:
        average_jaccard: mean over the thresholds of true positives over true positives, false
            positives and false negatives: a point counts only where both seen and within.
        position: mean over the thresholds of the share of points truly seen that are predicted
            within, whether called seen or not ("< delta avg").
        occlusion: share of points rightly called seen or not.
        jaccard: by threshold.
        within: by threshold.
        points: scored positions.
    """

    average_jaccard: float
    position: float
    occlusion: float
    jaccard: dict[int, float]
    within: dict[int, float]
    points: int


def score_tracks(
    true_xy: npt.NDArray[np.floating],
    true_visible: npt.NDArray[np.bool_],
    xy: npt.NDArray[np.floating],
    visible: npt.NDArray[np.bool_],
    query_frames: npt.NDArray[np.integer],
    *,
    height: int,
    width: int,
    mode: Literal["first", "strided"] = "first",
) -> TrackScores:
    """Score the predicted tracks of one clip.

    Args:
        true_xy: (N, T, 2), true positions, pixels.
        true_visible: bool (N, T), whether truly seen.
        xy: (N, T, 2), predicted positions, pixels.
        visible: bool (N, T), whether called seen.
        query_frames: (N,), the frame in which each point was given.
        height: height of the clip in pixels.
        width: width of the clip in pixels.
        mode: `first` scores the frames after the query, `strided` all but the query's.

    Raises:
        InputError: arrays that do not fit together, or nothing to score.
    """
    one_of(mode, QUERY_MODES, "query mode")
    n, frames = true_visible.shape
    require(
        true_xy.shape == xy.shape == (n, frames, 2)
        and visible.shape == (n, frames)
        and query_frames.shape == (n,),
        "tracks must be (N, T, 2), visibility (N, T) and query frames (N,), got"
        f" {true_xy.shape}, {xy.shape}, {true_visible.shape}, {visible.shape},"
        f" {query_frames.shape}",
    )
    time = np.arange(frames)[None]
    query = query_frames[:, None]
    scored = time > query if mode == "first" else time != query
    seen = true_visible & scored
    require(bool(seen.any()), "no point is seen in a scored frame: there is nothing to score")
    scale = np.array([_SIDE / width, _SIDE / height])
    distance = np.linalg.norm((xy.astype(np.float64) - true_xy) * scale, axis=-1)
    called = visible & scored
    jaccard, within = {}, {}
    for threshold in THRESHOLDS:
        near = distance < threshold
        hits = int((near & seen & called).sum())
        false_alarms = int((called & ~(near & seen)).sum())
        jaccard[threshold] = hits / (int(seen.sum()) + false_alarms)
        within[threshold] = int((near & seen).sum()) / int(seen.sum())
    return TrackScores(
        average_jaccard=float(np.mean(list(jaccard.values()))),
        position=float(np.mean(list(within.values()))),
        occlusion=float((visible == true_visible)[scored].mean()),
        jaccard=jaccard,
        within=within,
        points=int(scored.sum()),
    )


def mean_track_scores(clips: Sequence[TrackScores]) -> TrackScores:
    """The mean over clips, each counting alike, as the benchmark does."""
    require(len(clips) > 0, "there are no clips to average")
    return TrackScores(
        average_jaccard=float(np.mean([c.average_jaccard for c in clips])),
        position=float(np.mean([c.position for c in clips])),
        occlusion=float(np.mean([c.occlusion for c in clips])),
        jaccard={t: float(np.mean([c.jaccard[t] for c in clips])) for t in THRESHOLDS},
        within={t: float(np.mean([c.within[t] for c in clips])) for t in THRESHOLDS},
        points=sum(c.points for c in clips),
    )
