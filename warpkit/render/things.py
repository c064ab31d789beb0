"""Drawings of things: a hot-air balloon, and the kelp that passes in front.

Convention: see `warpkit.render.drawing`.
"""

from __future__ import annotations

import math

import numpy as np

from warpkit.render.drawing import Drawing, Style, round_off
from warpkit.render.motion import Array
from warpkit.render.shapes import capsule, circle, cover, ellipse, polygon, smooth_union, union
from warpkit.render.textures import Paint, mix, pattern_cover, smooth

__all__ = ["THINGS"]


# Hot-air balloon: the crown is towards +x, the basket hangs below.


def _envelope(x: Array, y: Array) -> Array:
    dome = circle(x, y, 0.14, 0.0, 0.34)
    cone = polygon(x, y, ((0.02, -0.27), (-0.3, -0.06), (-0.3, 0.06), (0.02, 0.27)), 0.02)
    return smooth_union(dome, cone, 0.06)


def _basket(x: Array, y: Array) -> Array:
    return polygon(x, y, ((-0.42, -0.055), (-0.52, -0.045), (-0.52, 0.045), (-0.42, 0.055)), 0.015)


def _ropes(x: Array, y: Array) -> Array:
    return capsule(x, np.abs(y), (-0.28, 0.055), (-0.43, 0.045), 0.008)


def _balloon_distance(x: Array, y: Array) -> Array:
    return union(_envelope(x, y), _basket(x, y), _ropes(x, y))


def _balloon_paint(x: Array, y: Array, style: Style) -> Array:
    envelope, basket = _envelope(x, y), _basket(x, y)
    paint = Paint("4a3222", len(x))
    weave = np.sin(2 * math.pi * x / 0.03) * np.sin(2 * math.pi * y / 0.03)
    paint.fill(mix("8a5a2c", "c08a4a", smooth(-0.3, 0.3, weave)), cover(basket + 0.01))
    cloth = Paint(style.main, len(x))
    # Gores are meridians: equal angles around the axis, seen from the side.
    half = np.maximum(0.345 * np.sqrt(np.clip(1 - ((x - 0.14) / 0.36) ** 2, 0, 1)), 0.08 + 0 * x)
    half = np.where(x < 0.02, 0.08 + (x + 0.32) * 0.72, half)
    gore = np.arcsin(np.clip(y / half, -1.0, 1.0)) / math.pi
    cloth.fill(style.second, smooth(-0.1, 0.1, np.sin(2 * math.pi * 3.0 * gore)))
    if style.pattern == "star":
        disc = circle(x, y, 0.14, 0.0, 0.2)
        cloth.fill("fffaf0", cover(disc))
        cloth.fill(style.accent, pattern_cover("star", x - 0.14, y))
    elif style.pattern != "plain":
        belt = cover(np.abs(x - 0.12) - 0.11)
        cloth.fill(style.accent, belt)
        cloth.fill(style.second, pattern_cover(style.pattern, x - 0.12, y) * belt)
    cloth.fill(style.accent, cover(x + 0.2) + cover(0.42 - x))
    cloth.shade(1.0 - 0.34 * smooth(-0.05, 0.33, y))
    cloth.fill("ffffff", 0.28 * (1.0 - smooth(0.0, 0.2, np.hypot(x - 0.26, y + 0.14))))
    cloth.fill(style.dark, cover(-envelope - 0.008, 0.006))
    paint.fill(cloth.colours, cover(envelope))
    return paint.colours


# Kelp: a stem along x with leaves on both sides; the scenery that passes in front.


def _kelp_distance(x: Array, y: Array) -> Array:
    stem = capsule(x, y, (-1.4, 0.0), (1.4, 0.0), 0.022)
    pitch = 0.15
    side = np.where(np.floor(x / pitch) % 2 == 0, y, -y)
    leaf = ellipse(x - (np.floor(x / pitch) + 0.5) * pitch, side, 0.0, 0.075, 0.045, 0.085)
    return union(stem, np.maximum(leaf, np.abs(x) - 1.4))


def _kelp_paint(x: Array, y: Array, style: Style) -> Array:
    distance = _kelp_distance(x, y)
    paint = Paint(style.main, len(x))
    paint.fill(style.second, smooth(-0.2, 0.2, np.sin(2 * math.pi * np.abs(y) / 0.05)) * 0.5)
    paint.fill(style.accent, cover(np.abs(y) - 0.014))
    return round_off(paint, distance, style, depth=0.04, line=0.008)


THINGS: dict[str, Drawing] = {
    "balloon": Drawing((-0.56, -0.38, 0.5, 0.38), _balloon_distance, _balloon_paint),
    "kelp": Drawing((-1.43, -0.18, 1.43, 0.18), _kelp_distance, _kelp_paint),
}
