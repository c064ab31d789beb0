"""Seeded grain, noise, scattered cells and patterns: what the drawings are painted with.

Everything is a function of coordinates, so a texture is sharp at any zoom and sticks to the
material it is painted on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from warpkit.render.motion import Array
from warpkit.render.shapes import cover, star

__all__ = [
    "PATTERNS",
    "Cells",
    "Grain",
    "Paint",
    "bands",
    "colour",
    "grain",
    "mix",
    "pattern_cover",
    "smooth",
]

_SIDE = 256  # the grain repeats after this many cells, far beyond any frame


def colour(code: str) -> Array:
    """RGB in [0, 1] of a code such as `ff8800`."""
    return np.array([int(code[k : k + 2], 16) for k in (0, 2, 4)], dtype=np.float64) / 255.0


def smooth(low: float, high: float, value: Array) -> Array:
    """A smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(first: str | Array, second: str | Array, weight: Array) -> Array:
    """Colours (N, 3) between two colours (codes or arrays): 0 is the first, 1 the second."""
    a = colour(first) if isinstance(first, str) else first
    b = colour(second) if isinstance(second, str) else second
    return a + (b - a) * weight[:, None]


@dataclass(frozen=True, eq=False)
class Cells:
    """Points seen from the scattered centre of the lattice cell they lie in.

    Attributes:
        dx, dy: from the cell's centre, in cells; a shape within 0.3 of it stays in its cell.
        chance: three uniform numbers (3, N) of the cell, the same for all of its points.
    """

    dx: Array
    dy: Array
    chance: Array


class Grain:
    """Reproducible randomness over the plane: noise and scattered cells from one seed."""

    def __init__(self, seed: int) -> None:
        self._table = np.random.default_rng(seed).random((6, _SIDE * _SIDE))

    def _at(self, channel: int, place: npt.NDArray[np.int64]) -> Array:
        return self._table[channel].take(place)

    def noise(self, x: Array, y: Array, size: float, *, octaves: int = 3) -> Array:
        """Soft noise in [0, 1], its coarsest lumps about `size` wide."""
        total, weight = np.zeros(x.shape), 0.0
        for octave in range(octaves):
            u, v = x * 2**octave / size + 31.7 * octave, y * 2**octave / size + 17.3 * octave
            i, j = np.floor(u), np.floor(v)
            a, b = u - i, v - j
            a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
            (left, right), (top, bottom) = _wrapped(i), _wrapped(j)
            left, right = left * _SIDE, right * _SIDE
            channel = octave % len(self._table)
            upper = self._at(channel, left + top) * (1 - a) + self._at(channel, right + top) * a
            lower = (
                self._at(channel, left + bottom) * (1 - a) + self._at(channel, right + bottom) * a
            )
            total += (upper * (1 - b) + lower * b) * 0.5**octave
            weight += 0.5**octave
        return total / weight

    def cells(self, x: Array, y: Array, size: float, *, layer: int = 0) -> Cells:
        """Cells of `size` with scattered centres; layers are shifted against each other."""
        u, v = x / size + 0.37 * layer + 40 * layer, y / size + 0.53 * layer + 23 * layer
        i, j = np.floor(u), np.floor(v)
        place = _wrapped(i)[0] * _SIDE + _wrapped(j)[0]
        centre_x = 0.5 + 0.4 * (self._at(4, place) - 0.5)
        centre_y = 0.5 + 0.4 * (self._at(5, place) - 0.5)
        place = _wrapped(i + 7)[0] * _SIDE + _wrapped(j + 3)[0]
        chance = np.stack([self._at(channel, place) for channel in (0, 1, 2)])
        return Cells(u - i - centre_x, v - j - centre_y, chance)


def _wrapped(cell: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows or columns of the table for whole numbers, and for those after them."""
    place = cell.astype(np.int64)
    return place & (_SIDE - 1), (place + 1) & (_SIDE - 1)


@lru_cache(maxsize=16)
def grain(seed: int) -> Grain:
    """The grain of a seed."""
    return Grain(seed)


class Paint:
    """Colours of N points, painted over layer by layer."""

    def __init__(self, base: str | Array, count: int) -> None:
        start = colour(base) if isinstance(base, str) else base
        self.colours: Array = np.array(np.broadcast_to(start, (count, 3)))

    def fill(self, paint: str | Array, where: Array) -> None:
        """Paint over with coverage `where` (N,) in [0, 1]."""
        on = np.flatnonzero(where)
        if 2 * len(on) > len(where):
            self.colours = mix(self.colours, paint, where)
        elif len(on):
            paint = paint if isinstance(paint, str) else paint[on]
            self.colours[on] = mix(self.colours[on], paint, where[on])

    def shade(self, factor: Array) -> None:
        """Multiply the brightness by `factor` (N,)."""
        self.colours = np.clip(self.colours * factor[:, None], 0.0, 1.0)


def _lattice_dots(x: Array, y: Array, pitch: float, radius: float) -> Array:
    row = np.floor(y / pitch)
    u = x / pitch + 0.5 * (row % 2)
    return np.hypot(u - np.floor(u) - 0.5, y / pitch - row - 0.5) * pitch - radius


PATTERNS = ("plain", "bands", "stripes", "spots", "checks", "zigzag", "star")


def bands(x: Array, y: Array) -> Array:
    """Signed distance to three bent bands across a body."""
    centres = ((0.24, 0.042), (-0.02, 0.055), (-0.25, 0.035))
    return np.minimum.reduce([np.abs(x - at + 0.25 * y * y) - half for at, half in centres])


def pattern_cover(name: str, x: Array, y: Array) -> Array:
    """Coverage in [0, 1] of a named pattern on a body about one unit long, heading towards +x.

    Args:
        name: one of `PATTERNS`: `bands` run across, `stripes` along, `star` is an emblem at the
            origin and `plain` covers nothing.
    """
    if name == "bands":
        return cover(bands(x, y))
    if name == "stripes":
        return smooth(-0.12, 0.12, np.sin(2 * math.pi * y / 0.11))
    if name == "spots":
        return cover(_lattice_dots(x, y, 0.13, 0.038))
    if name == "checks":
        wave = np.sin(2 * math.pi * x / 0.2) * np.sin(2 * math.pi * y / 0.2)
        return smooth(-0.08, 0.08, wave)
    if name == "zigzag":
        saw = np.abs((y / 0.16) % 1.0 - 0.5) * 0.14
        return smooth(-0.12, 0.12, np.sin(2 * math.pi * (x + saw) / 0.15))
    if name == "star":
        return cover(star(x, y, 0.0, 0.0, 0.15))
    return np.zeros(x.shape)
