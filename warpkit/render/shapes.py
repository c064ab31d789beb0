"""Signed distances of plain shapes: negative inside, positive outside, in the units of x and y.

Each takes the coordinates x and y of N points and gives N distances. Distances are exact at the
outline and near enough around it for soft edges; only their sign decides what covers a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from warpkit.render.motion import Array

__all__ = ["capsule", "circle", "cover", "ellipse", "polygon", "smooth_union", "star", "union"]


def circle(x: Array, y: Array, cx: float, cy: float, radius: float) -> Array:
    """A disc."""
    return np.hypot(x - cx, y - cy) - radius


def ellipse(
    x: Array, y: Array, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0
) -> Array:
    """An ellipse with half axes `rx`, `ry`, turned by `angle` radians (first-order distance)."""
    c, s = math.cos(angle), math.sin(angle)
    u = (c * (x - cx) + s * (y - cy)) / rx
    v = (c * (y - cy) - s * (x - cx)) / ry
    level = np.hypot(u, v)
    slope = np.hypot(u / rx, v / ry)
    # At the centre the slope vanishes; the distance there is the short half axis.
    return np.where(slope > 1e-9, level * (level - 1) / np.maximum(slope, 1e-9), -min(rx, ry))


def capsule(
    x: Array,
    y: Array,
    start: tuple[float, float],
    end: tuple[float, float],
    radius: float,
    end_radius: float | None = None,
) -> Array:
    """A thick line from `start` to `end`, its radius running to `end_radius` if given."""
    ax, ay = start
    bx, by = end[0] - ax, end[1] - ay
    along = np.clip(((x - ax) * bx + (y - ay) * by) / (bx * bx + by * by), 0.0, 1.0)
    thick = radius + ((radius if end_radius is None else end_radius) - radius) * along
    return np.hypot(x - ax - along * bx, y - ay - along * by) - thick


def polygon(
    x: Array, y: Array, vertices: Sequence[tuple[float, float]], rounding: float = 0.0
) -> Array:
    """A simple polygon, grown by `rounding` with round corners."""
    nearest = np.full(x.shape, np.inf)
    odd = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(vertices, [*vertices[1:], vertices[0]], strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        nearest = np.minimum(nearest, (x - ax - along * ex) ** 2 + (y - ay - along * ey) ** 2)
        if ay != by:
            # Even-odd rule: count the edges that a ray to the right of the point crosses.
            crosses = ((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / ey)
            odd ^= crosses
    return np.where(odd, -1.0, 1.0) * np.sqrt(nearest) - rounding


def star(
    x: Array, y: Array, cx: float, cy: float, radius: float, *, points: int = 5, inner: float = 0.45
) -> Array:
    """A star with `points` tips, its notches at `inner` times the radius; one tip towards +x."""
    vertices = []
    for k in range(2 * points):
        reach = radius * (1.0 if k % 2 == 0 else inner)
        turn = math.pi * k / points
        vertices.append((cx + reach * math.cos(turn), cy + reach * math.sin(turn)))
    return polygon(x, y, vertices)


def union(*distances: Array) -> Array:
    """What any of the shapes covers."""
    return np.minimum.reduce(distances)


def smooth_union(first: Array, second: Array, width: float) -> Array:
    """The union with the seam filled smoothly over `width`."""
    gap = np.clip(0.5 + 0.5 * (second - first) / width, 0.0, 1.0)
    return second + (first - second) * gap - width * gap * (1.0 - gap)


def cover(distance: Array, soft: float = 0.008) -> Array:
    """Coverage in [0, 1] of a shape whose edge is `soft` wide."""
    return np.clip(0.5 - distance / soft, 0.0, 1.0)
