"""Smooth fields through samples that are not equally sure, and not everywhere.

In: values on a grid of pixels with weights, or at scattered points. Out: values everywhere, close
to the samples where they are sure, smooth and extrapolated where they are not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["affine_values", "edge_weight", "fit_weighted_affine", "smooth_values"]

Array = npt.NDArray[np.float32]

# How much a coarser scale counts against the weights of a finer one.
_PRIOR = 0.02
_ROUNDS = 5  # of reweighting


def fit_weighted_affine(
    xy: npt.NDArray[np.floating], values: Array, weight: Array
) -> npt.NDArray[np.float64]:
    """The affine map through values at points, robust to a minority that is wrong.

    Iteratively reweighted least squares with Geman-McClure weights, whose scale follows the
    residuals; a small pull towards translation decides where the points do not.

    Args:
        xy: (N, 2), points.
        values: (N, 2), where they are mapped.
        weight: (N,) or (N, 3), how sure they are; see `smooth_values`.

    Returns:
        float64 (2, 3), `values = A[:, :2] @ xy + A[:, 2]`.
    """
    points, values = xy.astype(np.float64), values.astype(np.float64)
    trust = _tensor(weight, values).astype(np.float64)
    mass = trust[:, 0] + trust[:, 2] + 1e-9
    total = float(mass.sum())
    centre = (mass[:, None] * points).sum(0) / total
    spread = np.sqrt((mass[:, None] * (points - centre) ** 2).sum() / total) + 1.0
    rows = np.column_stack([(points - centre) / spread, np.ones(len(points))])
    shift = values - points
    pull = np.kron(np.eye(2), np.diag([1e-4, 1e-4, 1e-9])) * total
    robust = np.ones(len(points))
    solution = np.zeros((2, 3))
    xx, xy_, yy = trust.T
    for _ in range(_ROUNDS):
        parts = [rows.T @ ((robust * part)[:, None] * rows) for part in (xx, xy_, yy)]
        normal = np.block([[parts[0], parts[1]], [parts[1], parts[2]]]) + pull
        right = [
            rows.T @ (robust * (xx * shift[:, 0] + xy_ * shift[:, 1])),
            rows.T @ (robust * (xy_ * shift[:, 0] + yy * shift[:, 1])),
        ]
        solution = np.linalg.solve(normal, np.concatenate(right)).reshape(2, 3)
        away = rows @ solution.T - shift
        # The part of the residual in the directions that are known.
        energy = xx * away[:, 0] ** 2 + 2 * xy_ * away[:, 0] * away[:, 1] + yy * away[:, 1] ** 2
        residual = np.sqrt(np.maximum(energy, 0) / mass)
        scale = max(1.5 * _weighted_median(residual, mass), 0.5)
        robust = 1 / (1 + (residual / scale) ** 2) ** 2
    linear = np.eye(2) + solution[:, :2] / spread
    offset = solution[:, 2] - (linear - np.eye(2)) @ centre
    return np.column_stack([linear, offset])


def affine_values(affine: npt.NDArray[np.float64], xy: Array) -> Array:
    """The affine map (2, 3) at points (..., 2)."""
    return (xy @ affine[:, :2].T + affine[:, 2]).astype(np.float32)


def smooth_values(values: Array, weight: Array, scales: tuple[float, ...]) -> Array:
    """Vectors averaged over Gaussian windows, from the widest to the narrowest.

    Every scale keeps what its own weights know and takes the rest from the wider one:
    `(blur(W) + prior I)^-1 (blur(W v) + prior * wider)`, beginning with zero. Values without any
    weight near them fade to zero.

    Args:
        values: (H, W, 2).
        weight: (H, W), how sure a value is, in [0, 1]; or (H, W, 3), the entries xx, xy and yy of
            a matrix W that says so for every direction: along a straight edge optical flow knows
            nothing.
        scales: standard deviations in pixels, widest first.

    Returns:
        float32 (H, W, 2).
    """
    import cv2

    trust = _tensor(weight, values)
    xx, xy, yy = (trust[..., n] for n in range(3))
    u, v = values[..., 0], values[..., 1]
    sums = np.dstack([trust, xx * u + xy * v, xy * u + yy * v]).astype(np.float32)
    height, width = sums.shape[:2]
    result: Array = np.zeros_like(values, dtype=np.float32)
    for sigma in scales:
        # Wide windows are computed on a coarser grid: they are smooth.
        step = max(1, int(sigma / 3))
        size = (max(1, round(width / step)), max(1, round(height / step)))
        known: list[npt.NDArray[Any]] = list(cv2.split(sums))
        if step > 1:
            known = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in known]
        known = [
            cv2.GaussianBlur(part, (0, 0), sigma / step, borderType=cv2.BORDER_CONSTANT)
            for part in known
        ]
        if step > 1:
            known = [cv2.resize(part, (width, height)) for part in known]
        a, b, c = known[0] + _PRIOR, known[1], known[2] + _PRIOR
        right = [known[3 + n] + _PRIOR * result[..., n] for n in range(2)]
        determinant = a * c - b * b
        first = (c * right[0] - b * right[1]) / determinant
        second = (a * right[1] - b * right[0]) / determinant
        result = np.dstack([first, second]).astype(np.float32)
    return result


def edge_weight(grey: npt.NDArray[np.uint8], *, noise: float) -> Array:
    """How much an image says about motion in every direction: its structure tensor, saturated.

    Args:
        grey: uint8 (H, W).
        noise: levels a pixel; gradients of this size count half.

    Returns:
        float32 (H, W, 3), the entries xx, xy and yy; the larger eigenvalue is below 1.
    """
    import cv2

    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.7)
    x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    tensor = np.dstack([cv2.GaussianBlur(part, (0, 0), 1.5) for part in (x * x, x * y, y * y)])
    half = (tensor[..., 0] + tensor[..., 2]) / 2
    largest = half + np.hypot((tensor[..., 0] - tensor[..., 2]) / 2, tensor[..., 1])
    return (tensor / (largest + noise**2)[..., None]).astype(np.float32)


def _tensor(weight: Array, values: npt.NDArray[np.floating]) -> Array:
    """Weights (..., 3) of vectors (..., 2): a scalar weight is the same in every direction."""
    if weight.ndim == values.ndim:
        return weight
    return np.stack([weight, np.zeros_like(weight), weight], axis=-1)


def _weighted_median(values: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])
