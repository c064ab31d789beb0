"""One flat part of an object followed through frames, each aligned with the first.

In: frames with masks of the object. Out: where the part is, how far the frame agrees with it, and
whether it is lost. Where it goes from frame to frame is predicted by sparse optical flow; a part
that was lost is found again from pairs of points that descriptors or a smooth field give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Mask
from warpkit.coords import grid_to_pixel, pixel_to_grid
from warpkit.propagate.plane_alignment import (
    FramePyramid,
    Matrix,
    PlaneModel,
    PlanePart,
    mapped,
    nearest_map,
)

__all__ = ["PlaneFit", "PlaneTracker", "PointPairs", "flat_part", "part_motion"]

Array = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]

LOST = 0.35  # correlation below which a part is lost
_SURE = 0.55  # from which it is laid on in full
_FOUND = 0.45  # that a part needs to be found again
_LEAST_SEEN = 0.1  # of a part, or nothing can be said of it
_FOUND_SEEN = 0.4  # the same of one that is found again
_THIN = 0.12  # of its width, seen so far from the side a part is gone
_HOPE = 0.15  # correlation at half the size, from which a guess is corrected
_BETTER = 0.05  # by which what is found anew must agree more
_TRIED = 3  # guesses that are corrected
_GONE = 0.1  # opacity of what is lost, below which nothing is laid on
_FADE = 0.5  # of what opacity lacks, by which it changes from frame to frame
_MARGINS = (0.5, 1.0, 2.0, 8.0)  # in sides of the part, until there is texture enough
_TEXTURE = 4.0
_RIM = 0.5  # what a pixel just beside the part counts
_POINTS = 200  # that are followed from frame to frame
_STRAY = 2.0  # pixels off a common motion
_CYCLE = 1.0  # pixels between a point and its way there and back


@dataclass(frozen=True, eq=False)
class PointPairs:
    """Points of the first frame with their places in another, some wrong.

    Attributes:
        first_xy: (N, 2), pixels of the first frame.
        xy: (N, 2), pixels of the other.
        error: of a right one, pixels.
    """

    first_xy: npt.NDArray[np.floating]
    xy: npt.NDArray[np.floating]
    error: float

    def map(self) -> Matrix | None:
        """The similarity that most of them agree on, (3, 3); None where there is none."""
        import cv2

        if len(self.xy) < 3:
            return None
        found, _ = cv2.estimateAffinePartial2D(
            self.first_xy.astype(np.float32),
            self.xy.astype(np.float32),
            method=cv2.RANSAC,
            ransacReprojThreshold=self.error,
        )
        return None if found is None else np.vstack([found, [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class PlaneFit:
    """A flat part in one frame.

    Attributes:
        homography: float64 (3, 3), from pixels of the first frame to the frame's.
        agreement: correlation of the frame with the first one there, after local normalisation of
            both; -1 to 1.
        lost: whether the part was not found; `homography` is then where it would have gone.
        opacity: with which an edit is to be laid on: it fades out as the part is lost.
    """

    homography: Matrix
    agreement: float
    lost: bool
    opacity: float


def flat_part(grey: Grey, edited: Mask, mask: Mask | None) -> tuple[PlanePart, Array]:
    """The part of the first frame that an edit lies on, with as much around it as it needs.

    Args:
        grey: uint8 (H, W), the first frame.
        edited: bool (H, W), where the edit is.
        mask: bool (H, W), the object; None if it is not known.

    Returns:
        The part, and the weight of every pixel, (H, W).
    """
    import cv2

    outline = cv2.findNonZero(edited.astype(np.uint8))
    inner = np.zeros(edited.shape, np.uint8)
    cv2.fillConvexPoly(inner, cv2.convexHull(outline), 1)
    beside = cv2.distanceTransform(1 - inner, cv2.DIST_L2, 5)
    allowed = np.ones(edited.shape, bool) if mask is None else mask
    side = float(np.sqrt(inner.sum()))
    for margin in _MARGINS[: 1 if mask is None else None]:
        weight = _RIM * np.clip(1 - beside / (margin * side + 4), 0, 1)
        weight[inner > 0] = 1
        weight = (weight * allowed).astype(np.float32)
        part = PlanePart(grey, weight)
        if part.texture() >= _TEXTURE:
            break
    return part, weight


def part_motion(points: Matrix, before: Grey, grey: Grey, ratio: float) -> Matrix | None:
    """How points moved from one frame to the next, as one: a similarity (3, 3); None if unknown.

    Args:
        points: (N, 2), pixels of the frame before.
        before, grey: uint8 (h, w), both frames, resized.
        ratio: their size by that of the frames.
    """
    import cv2

    height, width = before.shape
    start = pixel_to_grid(points, 1 / ratio)
    inside = ((start >= 0) & (start < (width, height))).all(axis=1)
    if inside.sum() < 4:
        return None
    start = start[inside].astype(np.float32)[:, None]
    options = {"winSize": (15, 15), "maxLevel": 4}
    ahead, there, _ = cv2.calcOpticalFlowPyrLK(before, grey, start, None, **options)  # type: ignore[call-overload]
    back, here, _ = cv2.calcOpticalFlowPyrLK(grey, before, ahead, None, **options)  # type: ignore[call-overload]
    good = (there & here)[:, 0] > 0
    good &= np.linalg.norm(back - start, axis=2)[:, 0] < _CYCLE
    if good.sum() < 4:
        return None
    first_xy, xy = (grid_to_pixel(part[good, 0], 1 / ratio) for part in (start, ahead))
    return PointPairs(first_xy, xy, _STRAY / ratio).map()


class PlaneTracker:
    """Follows a flat part by one kind of map.

    Args:
        part: of the first frame.
        model: `rigid` is moved, turned and resized, `affine` is sheared as well, `planar` is seen
            in perspective.

    Attributes:
        fit: where it was seen last; None where that is not known.
    """

    def __init__(self, part: PlanePart, model: PlaneModel) -> None:
        self.part, self.model = part, model
        self.fit: PlaneFit | None = None
        self.begin(at_first=True)

    def begin(self, *, at_first: bool) -> None:
        """Go on behind the first frame, or somewhere else in the clip."""
        self.fit = PlaneFit(np.eye(3), 1.0, False, 1.0) if at_first else None

    def step(
        self,
        frame: FramePyramid,
        motion: Matrix | None,
        shifts: Iterable[Matrix],
        search: Callable[[], Iterable[list[Matrix]]],
        *,
        coarse: bool = False,
    ) -> PlaneFit | None:
        """Where the part is in the next frame; None while it is not known where to look for it.

        Args:
            motion: the map (3, 3) from the frame before to this one, good to about a pixel; None
                where that is not known.
            shifts: others that may hold.
            search: gives lists of maps (3, 3) from the first frame to this one, to be tried one
                after another where the part is not found from the frame before.
            coarse: look at half the size alone: about right, and sooner.
        """
        last = self.fit
        known = last is not None and not last.lost
        predicted = None
        guesses: list[Matrix] = []
        if last is not None:
            guesses = [self._near(shift @ last.homography) for shift in shifts]
            if motion is not None:
                predicted = self._near(motion @ last.homography)
        least = _LEAST_SEEN if known else _FOUND_SEEN
        best = self._best(frame, guesses, predicted, least, coarse)
        if best is None or best[0] < _SURE:
            for batch in search():
                found = self._best(
                    frame, [self._near(guess) for guess in batch], None, _FOUND_SEEN, coarse
                )
                if found is not None and (best is None or found[0] > best[0] + _BETTER):
                    best = found
                if best is not None and best[0] >= _SURE:
                    break
        if best is not None and best[0] >= (LOST if known else _FOUND):
            agreement, homography = best
            wanted = float(np.clip((agreement - LOST) / (_SURE - LOST), 0, 1))
            shown = wanted if last is None else last.opacity + _FADE * (wanted - last.opacity)
            self.fit = PlaneFit(homography, agreement, False, shown)
        elif predicted is not None and last is not None and self._possible(predicted):
            agreement = 0.0 if best is None else best[0]
            shown = (1 - _FADE) * last.opacity
            self.fit = PlaneFit(predicted, agreement, True, shown if shown > _GONE else 0.0)
        else:
            self.fit = None
        return self.fit

    def _near(self, guess: Matrix) -> Matrix:
        return nearest_map(guess, self.part.corners, self.model)

    def _best(
        self,
        frame: FramePyramid,
        guesses: list[Matrix],
        predicted: Matrix | None,
        least: float,
        coarse: bool,
    ) -> tuple[float, Matrix] | None:
        """The guess with the best agreement, corrected; others only where that is no good.

        Args:
            least: share of the part that is to be seen.
        """
        rated: list[tuple[float, Matrix, Matrix | None]] = []
        for guess in guesses if predicted is None else [predicted, *guesses]:
            if self._possible(guess):
                agreement, seen = self.part.agreement(frame, guess, coarse=True)
                if seen >= least and agreement > _HOPE:
                    rated.append((agreement, guess, predicted if guess is predicted else None))
        rated.sort(key=lambda one: -one[0])
        best = None
        for _, guess, prior in rated[:_TRIED]:
            homography = self.part.aligned(frame, guess, prior, self.model, coarse=coarse)
            if homography is None or not self._possible(homography):
                continue
            agreement, seen = self.part.agreement(frame, homography, coarse=coarse)
            if seen >= least and (best is None or agreement > best[0]):
                best = agreement, homography
            if agreement >= _SURE:
                break
        return best

    def _possible(self, homography: Matrix) -> bool:
        """Whether the part is seen from its front, and not from its edge."""
        corners = self.part.corners
        denominators = corners @ homography[2, :2] + homography[2, 2]
        if not np.isfinite(homography).all() or denominators.min() <= 0.05 * denominators.max():
            return False
        x, y = (np.ptp(corners, axis=0) / 2).tolist()
        centre = corners.mean(axis=0)
        ends = mapped(homography, centre + np.array([[0, 0], [x, 0], [0, y]]))
        linear = (ends[1:] - ends[0]).T / (x, y)
        if np.linalg.det(linear) <= 0:
            return False
        spread = np.linalg.svd(linear, compute_uv=False)
        return bool(spread[1] > _THIN * spread[0] and 0.02 < spread[0] < 50)
