"""Region similarity J and boundary accuracy F of object masks, by the DAVIS definitions.

In: object ids of a clip, predicted and true. Out: mean, recall and decay of J and F, in 0..1.

Source: Perazzi et al., CVPR 2016 (measures and their statistics), Pont-Tuset et al., arXiv
1704.00675 (several objects, means over objects, first and last frame left out).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import check_same_size, counted, require
from warpkit.evaluate.bootstrap import bootstrap_mean

__all__ = [
    "STATISTICS",
    "DavisMeans",
    "DavisReport",
    "SequenceScore",
    "boundary_accuracy",
    "disk_dilation",
    "frame_statistics",
    "mask_boundary",
    "mean_sequence_scores",
    "region_similarity",
    "score_sequence",
]

# Share of the image diagonal within which two boundary pixels count as the same.
BOUNDARY_TOLERANCE = 0.008
# A frame counts for recall if its value is above this.
RECALL_THRESHOLD = 0.5
# The columns of an object's row of statistics.
STATISTICS = ("J", "F", "J_recall", "J_decay", "F_recall", "F_decay")


def region_similarity(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """J: intersection over union of two masks (H, W); 1 where both are empty."""
    check_same_size(predicted, truth, "the predicted mask", "the true mask")
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def mask_boundary(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels (H, W) that differ from their right, lower or lower-right neighbour.

    Neighbours outside the image do not exist: a mask cut by the border has no boundary there.
    """
    boundary = np.zeros(mask.shape, dtype=bool)
    boundary[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    boundary[:-1, :] |= mask[:-1, :] != mask[1:, :]
    boundary[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return boundary


def boundary_accuracy(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """F: harmonic mean of boundary precision and recall of two masks (H, W).

    A boundary pixel is matched if the other boundary comes within `ceil(0.008 * diagonal)` pixels
    of it. Both boundaries empty give 1, one empty gives 0.
    """
    import cv2

    check_same_size(predicted, truth, "the predicted mask", "the true mask")
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*truth.shape))
    # A pixel around both masks holds all boundary pixels, so the rest can be cut away: outside, a
    # window's edge has no boundary that the image would not have.
    left, top, width, height = cv2.boundingRect((predicted | truth).view(np.uint8))
    window = np.s_[max(0, top - 1) : top + height + 1, max(0, left - 1) : left + width + 1]
    ours, theirs = mask_boundary(predicted[window]), mask_boundary(truth[window])
    ours_count, theirs_count = np.count_nonzero(ours), np.count_nonzero(theirs)
    if ours_count == 0 or theirs_count == 0:
        return float(ours_count == theirs_count)
    precision = np.count_nonzero(ours & disk_dilation(theirs, radius)) / ours_count
    recall = np.count_nonzero(theirs & disk_dilation(ours, radius)) / theirs_count
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def disk_dilation(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    """Pixels within `radius` (Euclidean, inclusive) of a pixel of the mask."""
    import cv2

    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disk).astype(bool)


def frame_statistics(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean, recall and decay (3, objects) of the values (frames, objects) of the scored frames.

    Recall is the share of frames above 0.5. Decay is the mean of the first quarter less the mean of
    the last: N frames are cut at `round(linspace(1, N, 5)) - 1`, halves rounded up, and a quarter
    holds both its cuts. With under four frames quarters overlap; one frame has decay 0.
    """
    frames = len(values)
    require(frames > 0, "statistics need at least one frame")
    first, last = (((quarter * (frames - 1) + 2) // 4) for quarter in (1, 3))
    decay = values[: first + 1].mean(axis=0) - values[last:].mean(axis=0)
    return np.stack([values.mean(axis=0), (values > RECALL_THRESHOLD).mean(axis=0), decay])


@dataclass(frozen=True, eq=False, kw_only=True)
class DavisMeans:
    """Means over objects, in 0..1 (decay: -1..1); all None where no frame is scored.

    Attributes:
        J: region similarity.
        F: boundary accuracy.
        JF: mean of the two.
        J_recall, F_recall: share of the scored frames above 0.5.
        J_decay, F_decay: loss from the first quarter of the scored frames to the last.
    """

    J: float | None
    F: float | None
    JF: float | None
    J_recall: float | None
    J_decay: float | None
    F_recall: float | None
    F_decay: float | None

    def means(self) -> dict[str, float | None]:
        """The seven numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(DavisMeans)}


def _means_of(rows: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """The seven means of rows (objects, 6) of `STATISTICS`."""
    if len(rows) == 0:
        return {field.name: None for field in fields(DavisMeans)}
    means = dict(zip(STATISTICS, map(float, rows.mean(axis=0)), strict=True))
    return {**means, "JF": (means["J"] + means["F"]) / 2}


@dataclass(frozen=True, eq=False, kw_only=True)
class SequenceScore(DavisMeans):
    """Scores of one clip: the means over its objects, and the values behind them.

    A clip too short to have a scored frame has none: under three frames by the official rule.

    Attributes:
        objects: the ids scored, those of the first true frame.
        region: float64 (frames, objects), J of every frame, the unscored ones included.
        boundary: float64 (frames, objects), F likewise.
        scored: the frames (from, to) that count, half open.
    """

    objects: tuple[int, ...]
    region: npt.NDArray[np.float64]
    boundary: npt.NDArray[np.float64]
    scored: tuple[int, int]

    @property
    def per_object(self) -> npt.NDArray[np.float64]:
        """`STATISTICS` of every object over the scored frames: (objects, 6); (0, 6) without any."""
        return _object_rows(self.region, self.boundary, self.scored)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for reports.

        The seven means; `frames`, `scored_frames`; `objects`, the statistics by object id;
        `frames_J` and `frames_F`, means over objects of every frame, the unscored ones included.
        """
        return {
            **self.means(),
            "frames": len(self.region),
            "scored_frames": self.scored[1] - self.scored[0],
            "objects": {
                str(label): dict(zip(STATISTICS, map(float, row), strict=True))
                for label, row in zip(self.objects, self.per_object, strict=False)
            },
            "frames_J": self.region.mean(axis=1).tolist(),
            "frames_F": self.boundary.mean(axis=1).tolist(),
        }


def _object_rows(
    J: npt.NDArray[np.float64], F: npt.NDArray[np.float64], scored: tuple[int, int]
) -> npt.NDArray[np.float64]:
    counted = slice(*scored)
    if len(J[counted]) == 0:
        return np.zeros((0, len(STATISTICS)))
    (j, j_recall, j_decay), (f, f_recall, f_decay) = (frame_statistics(v[counted]) for v in (J, F))
    return np.stack([j, f, j_recall, j_decay, f_recall, f_decay], axis=1)


def score_sequence(
    predicted: Iterable[npt.NDArray[np.integer[Any]]],
    truth: Iterable[npt.NDArray[np.integer[Any]]],
    *,
    all_frames: bool = False,
) -> SequenceScore:
    """Score the predicted labels of a clip against the true ones.

    Both are read one frame at a time. Objects are those of the first true frame; other ids in the
    prediction count for nothing. 255 in the truth is void and counts as background.

    Args:
        predicted: object ids (H, W) per frame, 0 = background.
        truth: object ids (H, W) per frame, 0 = background.
        all_frames: score every frame; else frames 2 to N - 1, the official semi-supervised rule
            (the first is given, the last is left out).

    Raises:
        InputError: if the two differ in length or size, or the first true frame has no object.
    """
    objects: tuple[int, ...] = ()
    region: list[list[float]] = []
    boundary: list[list[float]] = []
    ours_iterator, theirs_iterator = iter(predicted), iter(truth)
    while True:
        ours, theirs = next(ours_iterator, None), next(theirs_iterator, None)
        if ours is None and theirs is None:
            break
        frame = len(region)
        if ours is None or theirs is None:
            shorter = "predicted" if ours is None else "true"
            require(
                False,
                f"the {shorter} labels end after {counted(frame, 'frame')} but the others go on:"
                " give one prediction for every true frame",
            )
        assert ours is not None and theirs is not None
        check_same_size(ours, theirs, f"the predicted frame {frame}", f"the true frame {frame}")
        if frame == 0:
            objects = tuple(int(i) for i in np.unique(theirs) if i not in (0, 255))
            require(
                bool(objects),
                "the first true frame has no object (ids 1 to 254): read 0/255 masks with"
                " warpkit.datasets.davis.read_davis_labels",
            )
        masks = [(ours == i, theirs == i) for i in objects]
        region.append([region_similarity(a, b) for a, b in masks])
        boundary.append([boundary_accuracy(a, b) for a, b in masks])
    require(bool(region), "there are no frames to score")

    J, F = np.array(region), np.array(boundary)
    scored = (0, len(J)) if all_frames else (1, max(1, len(J) - 1))
    means = _means_of(_object_rows(J, F, scored))
    return SequenceScore(**means, objects=objects, region=J, boundary=F, scored=scored)


@dataclass(frozen=True, eq=False, kw_only=True)
class DavisReport(DavisMeans):
    """Scores of a set of clips: the means over all objects of all clips, and every clip's own.

    Attributes:
        sequences: score by name.
        unscored: names of the clips too short to have a score; they are in no mean.
    """

    sequences: Mapping[str, SequenceScore]
    unscored: tuple[str, ...]

    def interval(self, *, seed: int = 0, resamples: int = 1000) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of `J`, `F` and `JF`; empty if no clip has a score.

        Clips are resampled, not objects: objects of one clip share its difficulty. A clip weighs
        as much as it has objects.
        """
        scores = [score for score in self.sequences.values() if score.J is not None]
        if not scores:
            return {}
        weights = [len(score.objects) for score in scores]
        return {
            name: bootstrap_mean(
                [getattr(score, name) for score in scores], weights=weights, seed=seed, n=resamples
            )
            for name in ("J", "F", "JF")
        }

    def to_json(self, *, seed: int = 0) -> dict[str, Any]:
        """A plain dictionary: `mean`, `interval`, `sequences[name]`, `unscored`."""
        return {
            "mean": self.means(),
            "interval": {name: list(ends) for name, ends in self.interval(seed=seed).items()},
            "sequences": {name: score.to_json() for name, score in self.sequences.items()},
            "unscored": list(self.unscored),
        }


def mean_sequence_scores(sequences: Mapping[str, SequenceScore]) -> DavisReport:
    """Average clips as DAVIS does: every object of every clip counts once."""
    require(bool(sequences), "there are no sequences to average")
    rows = np.concatenate([score.per_object for score in sequences.values()])
    unscored = tuple(name for name, score in sequences.items() if score.J is None)
    return DavisReport(**_means_of(rows), sequences=dict(sequences), unscored=unscored)
