"""Backgrounds: painted planes without an edge, functions of world coordinates and a seed.

Convention: world coordinates as in `warpkit.render.motion` (frame heights from the centre, y down).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from warpkit.render.motion import Array
from warpkit.render.shapes import cover, polygon
from warpkit.render.textures import Grain, Paint, mix, smooth

__all__ = ["SCENERIES"]


def _ground(x: Array, y: Array, seeds: Grain) -> Array:
    """Sandy ground with pebbles and tufts of moss."""
    paint = Paint(mix("b89a6c", "dcc598", seeds.noise(x, y, 0.3)), len(x))
    moss = seeds.noise(x + 9.0, y, 0.55, octaves=4)
    paint.fill(mix("5f7d3a", "8fa653", seeds.noise(x, y + 4.0, 0.05)), smooth(0.55, 0.62, moss))
    for layer, size in enumerate((0.07, 0.12, 0.23)):
        cells = seeds.cells(x, y, size, layer=layer)
        turn = 6.3 * cells.chance[1]
        u = np.cos(turn) * cells.dx + np.sin(turn) * cells.dy
        v = np.cos(turn) * cells.dy - np.sin(turn) * cells.dx
        radius = 0.14 + 0.14 * cells.chance[0]
        lumps = 1.0 + 0.1 * np.sin(3 * np.arctan2(v, u) + 9 * cells.chance[2])
        stone = np.hypot(u, v * 1.35) - radius * lumps
        there = cells.chance[2] > 0.45
        paint.shade(1.0 - 0.35 * there * cover(stone - 0.03, 0.09))
        tint = mix("7d7a78", "cdbfae", cells.chance[1])
        lit = 0.82 + 0.3 * smooth(-0.25, 0.25, -(cells.dx + cells.dy))
        paint.fill(tint * lit[:, None], there * cover(stone, 0.02))
    return paint.colours


def _coral(x: Array, y: Array, seeds: Grain, base: Array) -> Array:
    paint = Paint(base, len(x))
    for layer, (size, floor) in enumerate(((0.42, 0.3), (0.3, 0.42))):
        column = np.floor(x / size + 0.31 * layer)
        chance = seeds.cells(column * size + 0.5 * size, 0.1 + 0 * x, size, layer=layer).chance
        u = x - (column - 0.31 * layer + 0.5) * size
        v = floor + 0.05 * chance[0] - y
        fan = 0.15 + 0.5 * np.clip(v, 0.0, 0.3)
        fingers = np.abs(np.sin(5.5 * np.arctan2(u, v + 0.08) / fan * 0.28 + chance[1]))
        height = (0.1 + 0.1 * chance[2]) * (0.55 + 0.45 * fingers)
        inside = cover(np.maximum(np.hypot(u * 1.1, v * 0.85) - height, -v - 0.06), 0.012)
        tints = mix("b0577a", "d88a5a", smooth(0.3, 0.7, chance[0]))
        shade = 0.6 + 0.5 * smooth(0.0, 0.16, v)
        paint.fill(tints * shade[:, None], inside)
    return paint.colours


def _reef(x: Array, y: Array, seeds: Grain) -> Array:
    """Blue water with light from above over corals and sand."""
    paint = Paint(mix("6cc7dc", "14507f", smooth(-0.6, 0.55, y)), len(x))
    beams = seeds.noise(x + 0.45 * y, 0.12 * y, 0.16, octaves=2)
    paint.fill("d6f6f4", 0.3 * smooth(0.5, 0.85, beams) * smooth(0.5, -0.5, y))
    far = 0.16 + 0.18 * seeds.noise(x, 0 * x, 0.35)
    paint.fill("2a6a8c", 0.75 * smooth(0.0, 0.02, y - far))
    paint = Paint(_coral(x, y, seeds, paint.colours), len(x))
    sand = 0.4 + 0.05 * seeds.noise(x, 0 * x, 0.5)
    ripple = 0.5 + 0.5 * np.sin(2 * math.pi * (y + 0.02 * np.sin(9 * x)) / 0.035)
    paint.fill(mix("b9a878", "dccfa0", ripple), smooth(0.0, 0.012, y - sand))
    for layer, size in enumerate((0.17, 0.11)):
        cells = seeds.cells(x, y, size, layer=layer + 2)
        reach = np.hypot(cells.dx, cells.dy)
        ring = np.abs(reach - 0.06 - 0.05 * cells.chance[0]) - 0.012
        paint.fill("e8fbff", 0.55 * cover(ring, 0.03) * (cells.chance[1] > 0.7) * (y < 0.3))
    return paint.colours


def _seabed(x: Array, y: Array, seeds: Grain) -> Array:
    """Rippled sand from above, with sea grass and dancing light."""
    bend = 0.12 * seeds.noise(x, y, 0.5)
    ripple = 0.5 + 0.5 * np.sin(2 * math.pi * (y + 0.25 * x + bend) / 0.075)
    paint = Paint(mix("7fb0a4", "b5d2b4", 0.65 * ripple + 0.35 * seeds.noise(x, y, 0.1)), len(x))
    grass = seeds.noise(x + 3.0, y + 7.0, 0.5, octaves=4)
    blades = seeds.noise(x * 3.2, y * 0.7, 0.06, octaves=2)
    paint.fill(mix("2f6b57", "5f9c68", blades), smooth(0.55, 0.6, grass))
    web = np.abs(seeds.noise(x, y + 2.0, 0.17, octaves=2) - 0.5)
    paint.fill("f2fff0", 0.24 * smooth(0.07, 0.0, web))
    for layer, size in enumerate((0.2, 0.34)):
        cells = seeds.cells(x, y, size, layer=layer)
        arms = 0.09 + 0.05 * np.cos(5 * np.arctan2(cells.dy, cells.dx) + 6 * cells.chance[1])
        shell = np.hypot(cells.dx, cells.dy) - arms
        tint = mix("d9785a", "efe3c8", cells.chance[0])
        paint.fill(tint, cover(shell, 0.02) * (cells.chance[2] > 0.72))
    return paint.colours


def _meadow(x: Array, y: Array, seeds: Grain) -> Array:
    """Grass from above with scattered flowers."""
    paint = Paint(mix("3f7a35", "86b04d", seeds.noise(x, y, 0.45)), len(x))
    blades = seeds.noise(x * 2.6 + 0.8 * y, y * 0.6, 0.05, octaves=2)
    paint.fill("26592c", 0.55 * smooth(0.5, 0.25, blades))
    paint.fill("b3d070", 0.4 * smooth(0.6, 0.8, blades))
    petals = ("f6f2ff", "f3cf4e", "c98ae0", "ef8fa6")
    for layer, size in enumerate((0.11, 0.17, 0.26)):
        cells = seeds.cells(x, y, size, layer=layer)
        reach = np.hypot(cells.dx, cells.dy)
        turn = np.arctan2(cells.dy, cells.dx) + 6.3 * cells.chance[1]
        bloom = reach - (0.17 + 0.06 * cells.chance[0]) * (0.72 + 0.28 * np.cos(5 * turn))
        there = cells.chance[2] > 0.55
        paint.shade(1.0 - 0.25 * there * cover(bloom - 0.03, 0.08))
        for k, code in enumerate(petals):
            chosen = there & (np.floor(cells.chance[1] * len(petals)) == k)
            paint.fill(code, chosen * cover(bloom, 0.02))
        paint.fill("d9892b", there * cover(reach - 0.055, 0.02))
    return paint.colours


def _deep(x: Array, y: Array, seeds: Grain) -> Array:
    """Dark water with soft glows, rocks at the sides and drifting specks."""
    paint = Paint(mix("2b6f93", "0d1f45", smooth(-0.55, 0.5, y)), len(x))
    paint.fill("3a93a0", 0.4 * smooth(0.45, 0.8, seeds.noise(x, y, 0.6)))
    beams = seeds.noise(x - 0.5 * y, 0.1 * y, 0.2, octaves=2)
    paint.fill("a5e3e6", 0.25 * smooth(0.5, 0.9, beams) * smooth(0.4, -0.5, y))
    rock = np.abs(x) + 0.22 * y + 0.3 * seeds.noise(x, y, 0.3) - 0.83
    stone = mix("1a2a3f", "44566a", seeds.noise(x, y + 5.0, 0.08))
    paint.fill(stone, smooth(-0.01, 0.01, rock))
    for layer, size in enumerate((0.09, 0.15)):
        cells = seeds.cells(x, y, size, layer=layer)
        speck = np.hypot(cells.dx, cells.dy) - 0.03 - 0.06 * cells.chance[0]
        paint.fill("bfeee0", 0.6 * cover(speck, 0.06) * (cells.chance[2] > 0.6))
    return paint.colours


def _sky(x: Array, y: Array, seeds: Grain) -> Array:
    """Sky with clouds over mountains and fields."""
    paint = Paint(mix("5fa4dc", "f4dfc2", smooth(-0.55, 0.35, y)), len(x))
    cloud = seeds.noise(x, 2.2 * y, 0.5, octaves=5)
    paint.fill("ffffff", 0.85 * smooth(0.52, 0.66, cloud) * smooth(0.25, 0.0, y))
    ridges = (("9fb0c8", 0.12, 0.55, 0.22), ("6f8fa0", 0.2, 0.4, 0.2), ("4f7d62", 0.3, 0.6, 0.12))
    for k, (code, base, size, height) in enumerate(ridges):
        crest = base + height * (0.5 - seeds.noise(x + 5.0 * k, 0 * x + k, size, octaves=4))
        tint = mix(code, "ffffff", 0.18 * seeds.noise(x, y, 0.07))
        paint.fill(tint, smooth(-0.004, 0.004, y - crest))
        if k == 0:
            snow = crest + 0.05 * seeds.noise(x, y, 0.05)
            paint.fill("f6f8ff", cover(y - snow, 0.01) * smooth(-0.004, 0.004, y - crest))
    field = np.floor((x + 0.8 * y) / 0.16) + 3 * np.floor((y - 0.4 * x) / 0.09)
    rows = 0.5 + 0.5 * np.sin(2 * math.pi * (x + 0.8 * y) / 0.02)
    meadow = mix("8fae57", "d9c26a", (field * 0.37) % 1.0) * (0.9 + 0.1 * rows)[:, None]
    hill = 0.36 + 0.05 * (seeds.noise(x, 0 * x, 0.8) - 0.5)
    paint.fill(meadow, smooth(0.0, 0.006, y - hill))
    return paint.colours


def _tiles(x: Array, y: Array, seeds: Grain) -> Array:
    """Plain two-coloured triangles: cheap, for tests and small pictures."""
    u, v = (x / 0.25) % 1.0, (y / 0.25) % 1.0
    corner = polygon(u, v, ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    return mix("4a5a78", "8fa0a8", 0.6 * cover(corner, 0.05) + 0.4 * seeds.noise(x, y, 0.3))


SCENERIES: dict[str, Callable[[Array, Array, Grain], Array]] = {
    "ground": _ground,
    "reef": _reef,
    "seabed": _seabed,
    "meadow": _meadow,
    "deep": _deep,
    "sky": _sky,
    "tiles": _tiles,
}
