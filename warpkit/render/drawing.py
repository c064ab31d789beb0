"""What a drawing is: a silhouette and its paint in material coordinates, in a style.

Convention: a drawing is about one unit long and heads towards +x (upright things have their top
there); y is to its right. Colours belong to the material, so they move with every deformation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from warpkit.checks import one_of
from warpkit.render.motion import Array
from warpkit.render.shapes import circle, cover
from warpkit.render.textures import PATTERNS, Paint, smooth

__all__ = ["Drawing", "Style", "eye", "round_off"]


@dataclass(frozen=True)
class Style:
    """What a drawing is painted with.

    Attributes:
        main, second, accent: colour codes such as `ff8800`.
        dark: colour code of outlines and dark parts.
        pattern: one of `textures.PATTERNS`.
    """

    main: str
    second: str
    accent: str
    dark: str = "2a1a1a"
    pattern: str = "plain"

    def __post_init__(self) -> None:
        one_of(self.pattern, PATTERNS, "pattern")


@dataclass(frozen=True)
class Drawing:
    """A silhouette and its paint.

    Attributes:
        bounds: `(x0, y0, x1, y1)` that hold the whole silhouette.
        distance: signed distance (N,) of points x, y (N,): negative inside.
        paint: colours (N, 3) in [0, 1] of points x, y (N,) in a style.
    """

    bounds: tuple[float, float, float, float]
    distance: Callable[[Array, Array], Array]
    paint: Callable[[Array, Array, Style], Array]


def round_off(paint: Paint, distance: Array, style: Style, *, depth: float, line: float) -> Array:
    """Darker towards the rim, as a round body is, and an outline of width `line`."""
    paint.shade(0.74 + 0.26 * smooth(0.0, depth, -distance))
    paint.fill(style.dark, cover(-distance - line, 0.006))
    return paint.colours


def eye(paint: Paint, x: Array, y: Array, cx: float, cy: float, radius: float) -> None:
    """Paint an eye that looks towards +x."""
    paint.fill("1b1414", cover(circle(x, y, cx, cy, radius * 1.25)))
    paint.fill("fffdf4", cover(circle(x, y, cx, cy, radius)))
    paint.fill("14141c", cover(circle(x, y, cx + 0.2 * radius, cy, radius * 0.62)))
    paint.fill("ffffff", cover(circle(x, y, cx + 0.4 * radius, cy - 0.3 * radius, radius * 0.22)))
