"""Region similarity J and boundary accuracy F of object masks, by the DAVIS definitions.

Source: Perazzi et al., CVPR 2016 (measures), Pont-Tuset et al., arXiv 1704.00675 (several objects,
means over objects, first and last frame left out).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.checks import check_same_size, require

__all__ = [
    "DavisReport",
    "SequenceScore",
    "boundary_accuracy",
    "mask_boundary",
    "mean_scores",
    "region_similarity",
    "score_sequence",
]

# Share of the image diagonal within which two boundary pixels count as the same.
BOUNDARY_TOLERANCE = 0.008


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
    check_same_size(predicted, truth, "the predicted mask", "the true mask")
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*truth.shape))
    ours, theirs = mask_boundary(predicted), mask_boundary(truth)
    ours_count, theirs_count = np.count_nonzero(ours), np.count_nonzero(theirs)
    if ours_count == 0 or theirs_count == 0:
        return float(ours_count == theirs_count)
    # Only boundary pixels are looked up, so the rest of the image can be cut away.
    either = ours | theirs
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ours, theirs = ours[window], theirs[window]
    precision = np.count_nonzero(ours & _dilate(theirs, radius)) / ours_count
    recall = np.count_nonzero(theirs & _dilate(ours, radius)) / theirs_count
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _dilate(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    """Pixels within `radius` (Euclidean, inclusive) of a pixel of the mask."""
    import cv2

    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disk).astype(bool)


@dataclass(frozen=True, eq=False)
class SequenceScore:
    """Scores of one clip, in 0..1.

    `J`, `F` and `JF` are None for a clip too short to have a scored frame: under three frames
    by the official rule.

    Attributes:
        J: mean region similarity over objects.
        F: mean boundary accuracy over objects.
        JF: mean of the two.
        objects: the ids scored, those of the first true frame.
        region: float64 (frames, objects), J of every frame, the unscored ones included.
        boundary: float64 (frames, objects), F likewise.
        scored: the frames (from, to) that count, half open.
    """

    J: float | None
    F: float | None
    JF: float | None
    objects: tuple[int, ...]
    region: npt.NDArray[np.float64]
    boundary: npt.NDArray[np.float64]
    scored: tuple[int, int]

    @property
    def per_object(self) -> npt.NDArray[np.float64]:
        """J and F of every object over the scored frames: (objects, 2); (0, 2) without a score."""
        if self.J is None:
            return np.zeros((0, 2))
        counted = slice(*self.scored)
        return np.stack([self.region[counted].mean(0), self.boundary[counted].mean(0)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for reports; `objects` lists J and F by object id."""
        return {
            "J": self.J,
            "F": self.F,
            "JF": self.JF,
            "frames": len(self.region),
            "scored_frames": max(0, self.scored[1] - self.scored[0]),
            "objects": {
                str(label): {"J": float(j), "F": float(f)}
                for label, (j, f) in zip(self.objects, self.per_object, strict=False)
            },
        }


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
                f"the {shorter} labels end after {frame} frames but the others go on:"
                " give one prediction for every true frame",
            )
        assert ours is not None and theirs is not None
        check_same_size(ours, theirs, f"the predicted frame {frame}", f"the true frame {frame}")
        if frame == 0:
            objects = tuple(int(i) for i in np.unique(theirs) if i not in (0, 255))
            require(
                bool(objects),
                "the first true frame has no object (ids 1 to 254): read 0/255 masks with"
                " warpkit.io.davis.read_davis_labels",
            )
        masks = [(ours == i, theirs == i) for i in objects]
        region.append([region_similarity(a, b) for a, b in masks])
        boundary.append([boundary_accuracy(a, b) for a, b in masks])
    require(bool(region), "there are no frames to score")

    J, F = np.array(region), np.array(boundary)
    first, last = (0, len(J)) if all_frames else (1, len(J) - 1)
    if last <= first:
        return SequenceScore(None, None, None, objects, J, F, (first, first))
    j, f = float(J[first:last].mean()), float(F[first:last].mean())
    return SequenceScore(j, f, (j + f) / 2, objects, J, F, (first, last))


@dataclass(frozen=True, eq=False)
class DavisReport:
    """Scores of a set of clips: the mean over all objects of all clips, and every clip's own.

    Attributes:
        J, F, JF: means over objects (not over clips), in 0..1; None if no clip has a score.
        sequences: score by name.
        unscored: names of the clips too short to have a score; they are in no mean.
    """

    J: float | None
    F: float | None
    JF: float | None
    sequences: Mapping[str, SequenceScore]
    unscored: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary: `mean`, `sequences[name]`, `unscored`."""
        return {
            "mean": {"J": self.J, "F": self.F, "JF": self.JF},
            "sequences": {name: score.to_json() for name, score in self.sequences.items()},
            "unscored": list(self.unscored),
        }


def mean_scores(sequences: Mapping[str, SequenceScore]) -> DavisReport:
    """Average clips as DAVIS does: every object of every clip counts once."""
    require(bool(sequences), "there are no sequences to average")
    unscored = tuple(name for name, score in sequences.items() if score.J is None)
    rows = np.concatenate([score.per_object for score in sequences.values()])
    if len(rows) == 0:
        return DavisReport(None, None, None, dict(sequences), unscored)
    j, f = (float(v) for v in rows.mean(axis=0))
    return DavisReport(j, f, (j + f) / 2, dict(sequences), unscored)
