"""A flat part of the first frame aligned with another frame, directly by its grey levels.

In: the part's weights in the first frame, another frame, a guess. Out: the similarity, affine map
or homography from the first frame's pixels to the frame's, and how far both agree.

Grey levels are compared after local normalisation (mean 0, spread 1 in a window around), so that
light may change. The map is found by efficient second-order minimisation (Benhimane and Malis
2004) from coarse to fine, reweighted so that what passes in front counts little. Every frame is
aligned with the FIRST, so errors do not add up along a clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "PLANE_MODELS",
    "FramePyramid",
    "PlaneModel",
    "PlanePart",
    "correlation",
    "first_places",
    "mapped",
    "nearest_map",
]

PlaneModel = Literal["rigid", "affine", "planar"]
PLANE_MODELS: tuple[PlaneModel, ...] = ("rigid", "affine", "planar")

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

_FAR = 30_000.0  # pixels
_PIXELS = 16_000  # of the part at its finest
_LEVELS = 3
_LEAST_SIDE = 20  # pixels of a coarser level
_WINDOW = 15  # pixels, of local normalisation
_FLAT = 5.0  # levels of grey: a spread that is half noise
_BLUR = 0.8  # pixels, before gradients are taken
_ROUNDS = 10
_HOPELESS = 0.25  # correlation of what has been aligned
_FAILS = 0.3  # correlation in a window, below which two planes show something else there
_STILL = 0.01  # pixels of the part by which a last step moves it
_OUTLIER = 0.3  # in spreads, the least difference that makes a pixel count for a quarter
_TOGETHER = 16.0  # pixels that count as one measurement: neighbours err alike
_PREDICTED = 3.0  # pixels of the part, the error of a prediction
# What a small step adds to a point (x, y, 1): all of a homography but its scale.
_GENERATORS = np.zeros((8, 3, 3))
for _k in range(8):
    _GENERATORS[_k].flat[_k] = 1
_BASES: dict[str, Matrix] = {
    "rigid": np.array(
        [
            [1, 0, 0, 0, 1, 0, 0, 0],
            [0, -1, 0, 1, 0, 0, 0, 0],
            [0, 0, 1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 1, 0, 0],
        ],
        np.float64,
    ).T,
    "affine": np.eye(8)[:, :6],
    "planar": np.eye(8),
}


def mapped(homography: npt.NDArray[np.floating], xy: npt.NDArray[np.floating]) -> Matrix:
    """Points (..., 2) mapped by a 3 x 3 matrix."""
    values = xy @ homography[:, :2].T + homography[:, 2]
    return np.asarray(values[..., :2] / values[..., 2:], np.float64)


def first_places(homography: Matrix, grid: Array, inside: Matrix) -> Array:
    """Where pixels (h, w, 2) of a frame are in the first one; far outside of it for what lies
    behind the horizon of the plane.

    Args:
        homography: (3, 3), from the first frame's pixels to the frame's.
        inside: (N, 2), pixels of the first frame on this side of the horizon.
    """
    import cv2

    back = np.linalg.inv(homography)
    middle = mapped(homography, inside.mean(axis=0))
    side = np.sign(middle @ back[2, :2] + back[2, 2])
    behind = side * (grid @ back[2, :2].astype(np.float32) + np.float32(back[2, 2])) <= 0
    places = np.asarray(cv2.perspectiveTransform(grid, back), np.float32).clip(-_FAR, _FAR)
    places[behind] = -_FAR
    return places


def nearest_map(homography: Matrix, xy: Matrix, model: PlaneModel) -> Matrix:
    """The map of a model that moves points (N, 2) most like a 3 x 3 matrix does."""
    if model == "planar":
        return homography
    there = mapped(homography, xy)
    x, y = xy.T
    none, one = np.zeros_like(x), np.ones_like(x)
    if model == "affine":
        rows = np.column_stack([x, y, one])
        top = np.linalg.lstsq(rows, there, rcond=None)[0].T
    else:
        rows = np.vstack([np.column_stack([x, -y, one, none]), np.column_stack([y, x, none, one])])
        a, b, c, d = np.linalg.lstsq(rows, there.T.ravel(), rcond=None)[0]
        top = np.array([[a, -b, c], [b, a, d]])
    return np.vstack([top, [0, 0, 1]])


class FramePyramid:
    """Grey levels and mask of a frame, at half, a quarter, ... of its size where these are needed.

    Args:
        grey: uint8 (H, W).
        mask: bool (H, W), where the object may be seen; None is everywhere.
    """

    def __init__(self, grey: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_] | None) -> None:
        seen = np.ones(grey.shape, np.float32) if mask is None else mask.astype(np.float32)
        self._levels: list[tuple[Array, Array]] = [(grey.astype(np.float32), seen)]

    @property
    def mask(self) -> Array:
        """Where the object may be seen, 0 or 1."""
        return self._levels[0][1]

    def read(self, matrix: Matrix, size: tuple[int, int]) -> tuple[Array, Array]:
        """Grey levels and mask at `matrix @ (u, v, 1)` of every pixel of a (width, height)."""
        import cv2

        centre = np.array([[(size[0] - 1) / 2, (size[1] - 1) / 2]])
        ends = mapped(matrix, centre + np.array([[0, 0], [1, 0], [0, 1]]))
        step = np.sqrt(abs(np.linalg.det(ends[1:] - ends[0])))
        level = int(np.clip(np.rint(np.log2(max(step, 1))), 0, 6))
        while len(self._levels) <= level:
            grey, mask = self._levels[-1]
            grey, mask = (np.asarray(cv2.pyrDown(plane), np.float32) for plane in (grey, mask))
            self._levels.append((grey, mask))
        matrix = np.diag([0.5**level, 0.5**level, 1]) @ matrix
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        borders = cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT
        grey, mask = (
            np.asarray(
                cv2.warpPerspective(plane, matrix, size, flags=flags, borderMode=border), np.float32
            )
            for plane, border in zip(self._levels[level], borders, strict=True)
        )
        return grey, mask


@dataclass(frozen=True, eq=False)
class _PartLevel:
    grey: Array
    weight: Array
    to_first: Matrix  # from [-1, 1] across the part to the first frame's pixels
    to_pixel: Matrix  # from there to the level's own
    xy: Matrix  # (N, 2), the level's pixels in [-1, 1]
    chosen: npt.NDArray[np.int64]

    @property
    def size(self) -> tuple[int, int]:
        return self.grey.shape[1], self.grey.shape[0]

    @property
    def reach(self) -> float:
        """Pixels of the level in a unit of [-1, 1]."""
        return float(self.to_pixel[0, 0])


class PlanePart:
    """A flat part of the first frame.

    Args:
        grey: uint8 (H, W), the first frame.
        weight: float32 (H, W), how much every pixel counts; 0 outside the part.
    """

    def __init__(self, grey: npt.NDArray[np.uint8], weight: Array) -> None:
        rows, columns = (np.flatnonzero(weight.any(axis=axis)) for axis in (1, 0))
        x, y = float(columns[0]), float(rows[0])
        width, height = columns[-1] - x + 1, rows[-1] - y + 1
        step = max(1.0, float(np.sqrt((weight > 0).sum() / _PIXELS)))
        first = FramePyramid(grey, None)
        weights = FramePyramid(np.zeros_like(grey), None)
        weights._levels = [(weight, weight)]
        centre = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
        half = max(width, height) / 2
        self.corners = np.array([[i, j] for j in (-1, 0, 1) for i in (-1, 0, 1)], np.float64)
        self.corners *= np.array([width, height]) / 2
        self.corners += centre
        self._levels: list[_PartLevel] = []
        for number in range(_LEVELS):
            cell = step * 2**number
            size = max(4, round(width / cell)), max(4, round(height / cell))
            if number and min(size) < _LEAST_SIDE:
                break
            to_first = np.array([[half, 0, centre[0]], [0, half, centre[1]], [0, 0, 1]])
            reach = half / cell
            to_pixel = np.array(
                [[reach, 0, (size[0] - 1) / 2], [0, reach, (size[1] - 1) / 2], [0, 0, 1]]
            )
            read = to_first @ np.linalg.inv(to_pixel)
            known, share = first.read(read, size)[0], weights.read(read, size)[0]
            v, u = np.divmod(np.flatnonzero(share > 0.02), size[0])
            pixels = np.column_stack([u, v]).astype(np.float64)
            xy = mapped(np.linalg.inv(to_pixel), pixels)
            self._levels.append(
                _PartLevel(known, share, to_first, to_pixel, xy, np.flatnonzero(share > 0.02))
            )

    def texture(self) -> float:
        """How well the part's grey levels tell its place: 0 for none, in the worse direction."""
        level = self._levels[0]
        normal = _normalised(level.grey, level.weight)
        gx, gy = (_gradient(normal, axis) for axis in (0, 1))
        w = level.weight
        both = [[(w * a * b).sum() for b in (gx, gy)] for a in (gx, gy)]
        return float(np.linalg.eigvalsh(np.array(both))[0] / _TOGETHER)

    def agreement(
        self, frame: FramePyramid, homography: Matrix, *, coarse: bool = False
    ) -> tuple[float, float]:
        """How far a frame looks there as the first one does.

        Args:
            homography: (3, 3), from the first frame's pixels to the frame's.
            coarse: look at half the size, which forgives more.

        Returns:
            The correlation of both, -1 to 1, and the share of the part that the mask leaves.
        """
        level = self._levels[min(int(coarse), len(self._levels) - 1)]
        known, seen, weight = self._both(level, frame, homography)
        share = float(weight.sum() / level.weight.sum())
        return _cosine(known, seen, weight), share

    def aligned(
        self,
        frame: FramePyramid,
        guess: Matrix,
        predicted: Matrix | None,
        model: PlaneModel,
        *,
        coarse: bool = False,
    ) -> Matrix | None:
        """A guess corrected so that the frame looks there as the first one does.

        Args:
            guess: (3, 3), where to begin; of the model.
            predicted: (3, 3), where the part should be to about a pixel: it decides as far as the
                grey levels do not. None leaves it to these.
            coarse: go to half the size alone, which takes a third of the time.

        Returns:
            None where that is hopeless.
        """
        homography = guess
        finest = min(int(coarse), len(self._levels) - 1)
        for level in self._levels[finest:][::-1]:
            homography = self._aligned_at(level, frame, homography, predicted, _BASES[model])
            if _cosine(*self._both(level, frame, homography)) < _HOPELESS:
                return None
        return homography

    def _both(
        self, level: _PartLevel, frame: FramePyramid, homography: Matrix
    ) -> tuple[Array, Array, Array]:
        """The part in the first frame and in the frame, normalised alike, and the weights."""
        read = homography @ level.to_first @ np.linalg.inv(level.to_pixel)
        grey, mask = frame.read(read, level.size)
        weight = level.weight * mask
        return _normalised(level.grey, weight), _normalised(grey, weight), weight

    def _aligned_at(
        self,
        level: _PartLevel,
        frame: FramePyramid,
        homography: Matrix,
        predicted: Matrix | None,
        basis: Matrix,
    ) -> Matrix:
        back = np.linalg.inv(level.to_first)
        corners = mapped(back, self.corners)
        for _ in range(_ROUNDS):
            known, seen, weight = self._both(level, frame, homography)
            chosen = level.chosen
            residual = (known - seen).ravel()[chosen]
            weight = weight.ravel()[chosen]
            if weight.sum() < 1:
                return homography
            scale = max(_OUTLIER, 1.5 * float(np.median(np.abs(residual[weight > 0]))))
            weight = weight / (1 + (residual / scale) ** 2) ** 2
            mean = np.asarray((known + seen) / 2, np.float32)
            slopes = [_gradient(mean, axis).ravel()[chosen] * level.reach for axis in (0, 1)]
            steps = _steepest(level.xy, slopes) @ basis
            trust = weight / (_TOGETHER * scale**2)
            normal = steps.T @ (trust[:, None] * steps)
            right = steps.T @ (trust * residual)
            pull = (level.reach / _PREDICTED) ** 2
            if predicted is not None:
                to_part = np.linalg.inv(homography @ level.to_first)
                away = mapped(to_part @ predicted, self.corners) - corners
                for axis in (0, 1):
                    unit = [np.full(len(corners), float(axis == k)) for k in (0, 1)]
                    moves = _steepest(corners, unit) @ basis
                    normal += pull * moves.T @ moves
                    right += pull * moves.T @ away[:, axis]
            normal += np.diag(np.full(len(normal), 1e-2 * pull))
            step = basis @ np.linalg.solve(normal, right)
            change = np.eye(3) + np.tensordot(step, _GENERATORS, 1)
            moved = np.abs(mapped(change, corners) - corners).max() * level.reach
            if not np.isfinite(moved) or moved > level.reach:
                return homography  # away into nowhere
            homography = homography @ level.to_first @ change @ back
            homography = homography / homography[2, 2]
            if moved < _STILL:
                break
        return homography


def correlation(first: Array, other: Array, weight: Array, inner: Array) -> tuple[float, float]:
    """How far two planes of grey levels (h, w) agree after local normalisation.

    Args:
        weight: float32 (h, w), how much every pixel counts.
        inner: float32 (h, w), the same of the pixels that are to agree everywhere.

    Returns:
        Their correlation, -1 to 1, and the share of `inner` around which they do not agree although
        there is something to be seen.
    """
    import cv2

    first, other = (_normalised(plane, weight) for plane in (first, other))
    window = (_WINDOW, _WINDOW)
    mass = cv2.blur(weight, window) + np.float32(1e-4)
    both = cv2.blur(weight * first * other, window) / mass
    energies = [cv2.blur(weight * plane**2, window) / mass for plane in (first, other)]
    energy = np.sqrt(np.maximum(energies[0] * energies[1], 0))
    failing = (both < _FAILS * energy) * energy * inner
    share = float(failing.sum() / max(float(inner.sum()), 1e-6))
    return _cosine(first, other, weight), share


def _cosine(first: Array, other: Array, weight: Array) -> float:
    scale = np.sqrt((weight * first**2).sum() * (weight * other**2).sum())
    return float((weight * first * other).sum() / max(float(scale), 1e-6))


def _steepest(xy: Matrix, slopes: list[Any]) -> Matrix:
    """How values with slopes (two of (N,)) at points (N, 2) change with the generators: (N, 8)."""
    x, y = xy.T
    gx, gy = slopes
    radial = x * gx + y * gy
    return np.column_stack([x * gx, y * gx, gx, x * gy, y * gy, gy, -x * radial, -y * radial])


def _gradient(image: Array, axis: int) -> Array:
    import cv2

    along = (1, 0) if axis == 0 else (0, 1)
    return cv2.Scharr(image, cv2.CV_32F, *along, scale=1 / 32)  # type: ignore[return-value]


def _normalised(grey: Array, weight: Array) -> Array:
    """Grey levels with mean 0 and spread 1 around every pixel."""
    import cv2

    window = (_WINDOW, _WINDOW)
    grey = cv2.GaussianBlur(grey, (0, 0), _BLUR)  # type: ignore[assignment]
    weight = weight + np.float32(1e-4)
    mass = cv2.blur(weight, window)
    mean = cv2.blur(grey * weight, window) / mass
    spread = cv2.blur(grey * grey * weight, window) / mass - mean**2
    result: Array = (grey - mean) / np.sqrt(np.maximum(spread, 0) + np.float32(_FLAT**2))
    return result
