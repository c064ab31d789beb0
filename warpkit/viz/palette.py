"""Colours that colour-blind readers can tell apart, and how to get them onto an image.

Objects and points take the eight colours of Okabe and Ito (2008), made for that purpose; scalars
take a dark-blue to light-yellow scale of even steps in CIELAB; a place takes a 2-D code whose one
axis is lightness and whose other is blue against yellow.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from warpkit.checks import require

__all__ = ["OBJECT_COLORS", "lab_to_rgb", "object_colors", "position_colors", "scale_colors"]

# Okabe and Ito: vermilion, sky blue, yellow, bluish green, reddish purple, orange, blue. Their
# eighth, black, is left out: it reads as a shadow.
OBJECT_COLORS = np.array(
    [
        [213, 94, 0],
        [86, 180, 233],
        [240, 228, 66],
        [0, 158, 115],
        [204, 121, 167],
        [230, 159, 0],
        [0, 114, 178],
    ],
    dtype=np.uint8,
)
OBJECT_COLORS.flags.writeable = False

# The scale's way through CIELAB (L, a, b): dark blue, teal, light yellow. L runs evenly.
_SCALE_LAB = np.array([[12.0, 12.0, -34.0], [52.0, -26.0, -6.0], [92.0, -8.0, 66.0]])


def object_colors(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """A colour (..., 3) for every object id >= 1: the seven colours in turn; id 0 is black."""
    table = np.concatenate([np.zeros((1, 3), np.uint8), OBJECT_COLORS])
    wide = labels.astype(np.int64)
    return table[np.where(wide > 0, (wide - 1) % len(OBJECT_COLORS) + 1, 0)]


def scale_colors(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colours (..., 3) of values in [0, 1], from dark blue over teal to light yellow; clipped."""
    index = np.rint(np.clip(values, 0, 1) * 255).astype(np.intp)
    return _scale_table()[index]


@cache
def _scale_table() -> npt.NDArray[np.uint8]:
    steps = np.linspace(0, len(_SCALE_LAB) - 1, 256)
    knots = np.arange(len(_SCALE_LAB))
    lab = np.stack([np.interp(steps, knots, _SCALE_LAB[:, i]) for i in range(3)], axis=-1)
    return lab_to_rgb(lab)


def position_colors(
    xy: npt.NDArray[np.floating], *, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """The colour (..., 3) of places (..., 2) in an image of `height` x `width` pixels.

    Left is blue, the middle rose, right yellow; top is light and bottom is dark. A chequer of 8
    squares along the longer side, a little lighter and darker, shows scale and rotation.
    """
    require(height > 0 and width > 0, f"the image needs a positive size, got {height} x {width}")
    x = (np.clip(xy[..., 0], -0.5, width - 0.5) + 0.5) / width
    y = (np.clip(xy[..., 1], -0.5, height - 0.5) + 0.5) / height
    side = max(height, width) / 8
    odd = (np.floor(x * width / side) + np.floor(y * height / side)) % 2
    lightness = 82 - 44 * y + np.where(odd == 1, -6, 6)
    # Between blue and yellow lies grey; the bow towards red keeps the middle apart from pictures.
    bow = 12 - 12 * x + 22 * np.sin(np.pi * x)
    return lab_to_rgb(np.stack([lightness, bow, -52 + 112 * x], axis=-1))


def lab_to_rgb(lab: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """CIELAB (..., 3) under D65 to sRGB uint8 (..., 3), clipped to what a screen can show."""
    y = (lab[..., 0] + 16) / 116
    t = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(t > 6 / 29, t**3, 3 * (6 / 29) ** 2 * (t - 4 / 29))
    xyz = xyz * np.array([0.95047, 1.0, 1.08883])
    linear = xyz @ np.array(
        [
            [3.2404542, -0.9692660, 0.0556434],
            [-1.5371385, 1.8760108, -0.2040259],
            [-0.4985314, 0.0415560, 1.0572252],
        ]
    )
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)
