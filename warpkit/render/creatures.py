"""Drawings of animals: fish, beetle, turtle, butterfly and jellyfish.

Convention: see `warpkit.render.drawing`.
"""

from __future__ import annotations

import math

import numpy as np

from warpkit.render.drawing import Drawing, Style, eye, round_off
from warpkit.render.motion import Array
from warpkit.render.shapes import capsule, circle, cover, ellipse, polygon, smooth_union, union
from warpkit.render.textures import Paint, bands, grain, pattern_cover, smooth

__all__ = ["CREATURES"]


# Fish, seen from the side: its back is towards -y.

_TAIL = ((-0.31, 0.0), (-0.43, -0.17), (-0.56, -0.23), (-0.51, 0.0), (-0.56, 0.23), (-0.43, 0.17))
_BACK_FIN = ((0.24, -0.14), (0.1, -0.29), (-0.1, -0.27), (-0.24, -0.14), (-0.2, -0.05), (0.1, -0.1))
_BELLY_FIN = ((-0.04, 0.15), (-0.1, 0.27), (-0.22, 0.23), (-0.2, 0.06))
_CHEST_FIN = ((0.19, 0.15), (0.12, 0.29), (0.03, 0.25), (0.06, 0.12))


def _fish_body(x: Array, y: Array) -> Array:
    trunk = ellipse(x, y, 0.1, 0.0, 0.4, 0.2)
    return smooth_union(trunk, capsule(x, y, (0.0, 0.0), (-0.36, 0.0), 0.13, 0.04), 0.08)


def _fish_fins(x: Array, y: Array) -> Array:
    return union(*(polygon(x, y, v, 0.018) for v in (_TAIL, _BACK_FIN, _BELLY_FIN, _CHEST_FIN)))


def _fish_distance(x: Array, y: Array) -> Array:
    return union(_fish_body(x, y), _fish_fins(x, y))


def _fish_paint(x: Array, y: Array, style: Style) -> Array:
    body, fins = _fish_body(x, y), _fish_fins(x, y)
    paint = Paint(style.accent, len(x))
    rays = np.sin(46.0 * np.arctan2(y, x + 0.22 + 0.2 * np.sign(x + 0.3)))
    paint.fill(style.dark, 0.3 * smooth(0.1, 0.9, rays))
    on_body = cover(body)
    skin = Paint(style.main, len(x))
    skin.fill("ffffff", 0.45 * smooth(0.02, 0.19, y))
    skin.fill(style.dark, 0.3 * smooth(0.06, 0.2, -y))
    scales = np.sin(2 * math.pi * x / 0.055) * np.sin(2 * math.pi * y / 0.05)
    skin.shade(1.0 + 0.07 * smooth(-0.4, 0.6, scales))
    if style.pattern == "bands":  # black-edged, like a clownfish
        skin.fill(style.dark, cover(bands(x, y) - 0.016))
        skin.fill(style.second, cover(bands(x, y)))
    else:
        skin.fill(style.second, pattern_cover(style.pattern, x + 0.14, y) * cover(x - 0.24))
    paint.fill(skin.colours, on_body)
    paint.shade(1.0 - 0.4 * on_body * (1.0 - smooth(0.0, 0.07, -body)))
    gill = np.abs(np.hypot(x - 0.38, y) - 0.17) - 0.006
    paint.fill(style.dark, 0.55 * cover(union(gill, x - 0.38)) * cover(np.maximum(gill, x - 0.3)))
    side_fin = polygon(x, y, ((0.13, 0.03), (-0.02, 0.1), (-0.03, 0.02), (0.05, -0.01)), 0.015)
    paint.fill(style.dark, 0.7 * cover(side_fin - 0.012))
    paint.fill(style.accent, cover(side_fin))
    paint.fill(style.dark, 0.8 * cover(capsule(x, y, (0.5, 0.045), (0.42, 0.065), 0.006)))
    eye(paint, x, y, 0.36, -0.05, 0.042)
    whole = union(body, fins)
    paint.fill(style.dark, cover(-whole - 0.011, 0.006))
    return paint.colours


# Beetle, seen from above.

_LEGS = (
    ((0.16, 0.22), (0.27, 0.4), (0.4, 0.45)),
    ((-0.04, 0.26), (-0.06, 0.46), (-0.02, 0.53)),
    ((-0.22, 0.22), (-0.36, 0.38), (-0.48, 0.44)),
)


def _beetle_shell(x: Array, y: Array) -> Array:
    return ellipse(x, y, -0.1, 0.0, 0.4, 0.33)


def _beetle_front(x: Array, y: Array) -> Array:
    return union(ellipse(x, y, 0.25, 0.0, 0.14, 0.22), ellipse(x, y, 0.38, 0.0, 0.1, 0.13))


def _beetle_limbs(x: Array, y: Array) -> Array:
    y = np.abs(y)
    parts = [capsule(x, y, (0.43, 0.05), (0.55, 0.16), 0.014), circle(x, y, 0.56, 0.17, 0.026)]
    for hip, knee, foot in _LEGS:
        parts += [capsule(x, y, hip, knee, 0.032, 0.024), capsule(x, y, knee, foot, 0.024, 0.014)]
    return union(*parts)


def _beetle_distance(x: Array, y: Array) -> Array:
    return union(_beetle_shell(x, y), _beetle_front(x, y), _beetle_limbs(x, y))


def _beetle_paint(x: Array, y: Array, style: Style) -> Array:
    paint = Paint(style.dark, len(x))
    front = _beetle_front(x, y)
    paint.fill("3c3a44", 0.8 * smooth(0.0, 0.12, -front))
    cheek = ellipse(x, np.abs(y), 0.28, 0.13, 0.055, 0.045)
    paint.fill("fff6e0", cover(cheek))
    paint.fill("fff6e0", cover(circle(x, np.abs(y), 0.42, 0.07, 0.026)))
    shell = _beetle_shell(x, y)
    skin = Paint(style.main, len(x))
    if style.pattern == "plain":  # the seven spots of a ladybird
        for cx, cy, radius in ((0.17, 0.0, 0.07), (0.06, 0.17, 0.075), (-0.17, 0.14, 0.08)):
            skin.fill(style.second, cover(circle(x, np.abs(y), cx, cy, radius)))
        skin.fill(style.second, cover(circle(x, np.abs(y), -0.36, 0.1, 0.055)))
    else:
        skin.fill(style.second, pattern_cover(style.pattern, x + 0.1, y))
    skin.shade(0.66 + 0.4 * smooth(0.0, 0.2, -shell))
    skin.fill("ffffff", 0.4 * (1.0 - smooth(0.0, 0.16, np.hypot(x - 0.04, y + 0.12))))
    skin.fill(style.dark, cover(np.abs(y) - 0.012))
    skin.fill(style.dark, cover(-shell - 0.014, 0.006))
    paint.fill(skin.colours, cover(shell))
    return paint.colours


# Turtle, seen from above: a shell with head and tail, and paddles that hinge on it.


def _turtle_shell(x: Array, y: Array) -> Array:
    return smooth_union(ellipse(x, y, 0.02, 0.0, 0.33, 0.27), circle(x, y, -0.2, 0.0, 0.15), 0.1)


def _turtle_head(x: Array, y: Array) -> Array:
    neck = capsule(x, y, (0.25, 0.0), (0.45, 0.0), 0.07, 0.06)
    head = smooth_union(ellipse(x, y, 0.49, 0.0, 0.11, 0.085), neck, 0.04)
    return union(head, capsule(x, y, (-0.3, 0.0), (-0.46, 0.0), 0.04, 0.01))


def _turtle_distance(x: Array, y: Array) -> Array:
    return union(_turtle_shell(x, y), _turtle_head(x, y))


def _turtle_skin(x: Array, y: Array, style: Style) -> Paint:
    """Skin with pale seams between dark scales."""
    paint = Paint(style.accent, len(x))
    cells = grain(11).cells(x, y, 0.06)
    blot = cover(np.hypot(cells.dx, cells.dy) - 0.24 - 0.08 * cells.chance[0], 0.12)
    paint.fill(style.dark, 0.6 * blot)
    return paint


_SCUTES = (
    *((cx, 0.0) for cx in (0.24, 0.08, -0.09, -0.25)),
    *((cx, side * cy) for cx, cy in ((0.19, 0.15), (0.0, 0.18), (-0.18, 0.16)) for side in (-1, 1)),
)


def _turtle_paint(x: Array, y: Array, style: Style) -> Array:
    paint = _turtle_skin(x, y, style)
    head = _turtle_head(x, y)
    paint.shade(0.8 + 0.3 * smooth(0.0, 0.06, -head))
    paint.fill(style.dark, cover(-head - 0.01, 0.006))
    shell = _turtle_shell(x, y)
    plate = Paint(style.main, len(x))
    # Scutes are the cells around their centres; the seam runs where two centres are equally near.
    reach = np.sort(np.stack([np.hypot(x - cx, y - cy) for cx, cy in _SCUTES]), axis=0)[:2]
    seam = reach[1] - reach[0]
    plate.fill(style.second, 0.85 * (1.0 - smooth(0.02, 0.1, reach[0])))
    if style.pattern != "plain":
        plate.fill(style.second, pattern_cover(style.pattern, x, y))
    plate.fill(style.dark, cover(seam - 0.014))
    plate.fill(style.accent, cover(np.abs(shell + 0.035) - 0.008) * 0.9)
    plate.shade(0.72 + 0.36 * smooth(0.0, 0.2, -shell))
    plate.fill(style.dark, cover(-shell - 0.013, 0.006))
    paint.fill(plate.colours, cover(shell))
    for side in (-1.0, 1.0):
        eye(paint, x, y, 0.51, 0.062 * side, 0.019)
    return paint.colours


def _paddle_distance(x: Array, y: Array) -> Array:
    blade = ellipse(x, y, 0.2, 0.03, 0.22, 0.075, 0.16)
    return smooth_union(blade, circle(x, y, 0.0, 0.0, 0.065), 0.08)


def _paddle_paint(x: Array, y: Array, style: Style) -> Array:
    paint = _turtle_skin(x, y, style)
    return round_off(paint, _paddle_distance(x, y), style, depth=0.05, line=0.01)


# Butterfly, seen from above.


def _front_wing(x: Array, y: Array) -> Array:
    return polygon(x, y, ((0.1, 0.03), (0.34, 0.36), (0.3, 0.46), (0.05, 0.4), (-0.04, 0.06)), 0.04)


def _hind_wing(x: Array, y: Array) -> Array:
    lobe = ellipse(x, y, -0.16, 0.2, 0.2, 0.17, 0.5)
    return smooth_union(lobe, capsule(x, y, (-0.25, 0.26), (-0.4, 0.3), 0.04, 0.02), 0.05)


def _butterfly_body(x: Array, y: Array) -> Array:
    trunk = union(ellipse(x, y, -0.02, 0.0, 0.25, 0.035), circle(x, y, 0.22, 0.0, 0.045))
    feeler = capsule(x, np.abs(y), (0.24, 0.015), (0.4, 0.1), 0.009)
    return union(trunk, feeler, circle(x, np.abs(y), 0.41, 0.105, 0.018))


def _butterfly_distance(x: Array, y: Array) -> Array:
    side = np.abs(y)
    return union(_front_wing(x, side), _hind_wing(x, side), _butterfly_body(x, y))


def _butterfly_paint(x: Array, y: Array, style: Style) -> Array:
    side = np.abs(y)
    front, hind = _front_wing(x, side), _hind_wing(x, side)
    wing = union(front, hind)
    paint = Paint(style.main, len(x))
    paint.fill(style.second, smooth(-0.01, 0.01, front - hind))
    paint.fill("ffffff", 0.25 * (1.0 - smooth(0.0, 0.22, np.hypot(x - 0.02, side))))
    if style.pattern != "plain":
        paint.fill(style.accent, pattern_cover(style.pattern, x, side))
    veins = np.sin(30.0 * np.arctan2(side, x + 0.02))
    paint.fill(style.dark, 0.75 * smooth(0.86, 0.98, veins) * smooth(0.1, 0.2, np.hypot(x, side)))
    paint.fill(style.dark, cover(-wing - 0.045, 0.012))
    paint.fill(style.dark, cover(np.abs(front - hind) - 0.012) * cover(wing))
    turn = np.arctan2(side - 0.2, x)
    dots = np.hypot((wing + 0.024) / 0.013, np.sin(turn * 12.0) * 1.6) - 1.0
    paint.fill("fff8e8", cover(dots, 0.4))
    for cx, cy, radius in ((0.2, 0.3, 0.055), (-0.2, 0.22, 0.05)):
        paint.fill(style.dark, cover(circle(x, side, cx, cy, radius)))
        paint.fill(style.accent, cover(circle(x, side, cx, cy, radius * 0.72)))
        paint.fill(style.dark, cover(circle(x, side, cx, cy, radius * 0.32)))
    body = _butterfly_body(x, y)
    paint.fill(style.dark, cover(body))
    rings = smooth(0.2, 0.8, np.sin(2 * math.pi * x / 0.07)) * cover(np.abs(y) - 0.022)
    paint.fill("e8c070", 0.6 * rings * cover(x - 0.12) * cover(body))
    return paint.colours


# Jellyfish: the bell is towards +x, the arms trail behind.

_ARMS = ((-0.16, 0.36), (-0.055, 0.5), (0.055, 0.46), (0.16, 0.38))


def _bell(x: Array, y: Array) -> Array:
    dome = ellipse(x, y, 0.12, 0.0, 0.32, 0.3)
    hem = 0.12 - 0.02 * np.cos(2 * math.pi * y / 0.12)
    return np.maximum(dome, hem - x - 0.06)


def _arms(x: Array, y: Array) -> Array:
    parts = [
        capsule(
            x, y + 0.02 * np.sin(24.0 * x + 9.0 * at), (0.1, at), (-reach, at * 1.15), 0.042, 0.012
        )
        for at, reach in _ARMS
    ]
    return union(*parts)


def _jellyfish_distance(x: Array, y: Array) -> Array:
    return union(_bell(x, y), _arms(x, y))


def _jellyfish_paint(x: Array, y: Array, style: Style) -> Array:
    bell, arms = _bell(x, y), _arms(x, y)
    paint = Paint(style.accent, len(x))
    paint.fill("ffffff", 0.45 * smooth(-0.3, 0.9, np.sin(2 * math.pi * x / 0.05)))
    paint.fill(style.dark, cover(-arms - 0.009, 0.006))
    dome = Paint(style.main, len(x))
    dome.fill(style.second, 0.8 * smooth(0.12, 0.42, x))
    if style.pattern == "plain":
        for cx, cy in ((0.2, -0.13), (0.22, 0.13), (0.33, 0.0), (0.18, 0.0)):
            ring = np.abs(circle(x, y, cx, cy, 0.045)) - 0.013
            dome.fill(style.accent, cover(ring))
    else:
        dome.fill(style.accent, pattern_cover(style.pattern, x - 0.2, y))
    ribs = np.sin(34.0 * np.arctan2(y, x + 0.3))
    dome.fill("ffffff", 0.22 * smooth(0.3, 0.95, ribs))
    dome.fill(style.dark, 0.8 * cover(np.abs(x - 0.105) - 0.01) * cover(bell))
    dome.shade(0.75 + 0.3 * smooth(0.0, 0.14, -bell))
    dome.fill("ffffff", 0.5 * cover(ellipse(x, y, 0.32, -0.12, 0.05, 0.03, -0.7), 0.03))
    dome.fill(style.dark, cover(-bell - 0.011, 0.006))
    paint.fill(dome.colours, cover(bell))
    return paint.colours


CREATURES: dict[str, Drawing] = {
    "fish": Drawing((-0.6, -0.33, 0.52, 0.33), _fish_distance, _fish_paint),
    "beetle": Drawing((-0.54, -0.56, 0.6, 0.56), _beetle_distance, _beetle_paint),
    "turtle": Drawing((-0.5, -0.3, 0.62, 0.3), _turtle_distance, _turtle_paint),
    "paddle": Drawing((-0.1, -0.15, 0.46, 0.2), _paddle_distance, _paddle_paint),
    "butterfly": Drawing((-0.45, -0.52, 0.45, 0.52), _butterfly_distance, _butterfly_paint),
    "jellyfish": Drawing((-0.55, -0.32, 0.46, 0.32), _jellyfish_distance, _jellyfish_paint),
}
