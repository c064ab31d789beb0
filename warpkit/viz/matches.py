"""Matched points of two images, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw

from warpkit.arrays import Image
from warpkit.checks import check_image, check_mask, require, usable_array
from warpkit.coords import grid_to_pixel
from warpkit.viz.palette import OBJECT_COLORS
from warpkit.viz.panel import load_font, resize_to_height

__all__ = ["draw_matches"]

Points = npt.NDArray[np.floating[Any]]

# Drawn this much larger and then reduced, which smooths the edges of lines and circles.
OVERSAMPLE = 2
# Beyond this many points numbers would hide the images.
MOST_NUMBERS = 60
DARK, LIGHT = (0, 0, 0), (255, 255, 255)
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)  # told apart by colour-blind people


def draw_matches(
    source: Image,
    target: Image,
    source_xy: Points,
    target_xy: Points,
    valid: npt.NDArray[np.bool_] | None = None,
    *,
    true_xy: Points | None = None,
    correct: npt.NDArray[np.bool_] | None = None,
    height: int = 480,
) -> Image:
    """Draw both images side by side, with a numbered point and a line for every match.

    Convention: points are `(x, y)` pixels of each image, pixel centres at integers.

    Args:
        source: uint8 RGB (Hs, Ws, 3), drawn on the left.
        target: uint8 RGB (Ht, Wt, 3), drawn on the right.
        source_xy: (N, 2).
        target_xy: (N, 2); the rows that are not valid are not read.
        valid: bool (N,); a rejected match is an empty ring in the source alone. None: all valid.
        true_xy: (N, 2), where the points really are in the target: crosses, tied to the matches.
        correct: bool (N,), right matches are blue, wrong ones vermilion; None: a colour for each.
        height: height of the drawing in pixels; both images are resized to it.

    Returns:
        uint8 RGB (height, W, 3).
    """
    source, target = check_image(source, "source"), check_image(target, "target")
    source_xy, target_xy = usable_array(source_xy), usable_array(target_xy)
    require(
        source_xy.ndim == 2 and source_xy.shape[1] == 2 and source_xy.shape == target_xy.shape,
        f"source_xy and target_xy must both be (N, 2), got {source_xy.shape} and {target_xy.shape}",
    )
    n = len(source_xy)
    shown = np.ones(n, bool) if valid is None else valid
    shown = check_mask(shown[None], height=1, width=n, name="valid", allow_empty=True)[0]
    for name, extra, expected in (("true_xy", true_xy, (n, 2)), ("correct", correct, (n,))):
        require(
            extra is None or extra.shape == expected,
            f"{name} must be {expected}, one row a match, got {getattr(extra, 'shape', None)}",
        )
    require(height >= 16, f"the drawing needs a height of at least 16, got {height}")

    tall = height * OVERSAMPLE
    left, right = resize_to_height(source, tall), resize_to_height(target, tall)
    gap = tall // 40 // OVERSAMPLE * OVERSAMPLE
    shift = left.shape[1] + left.shape[1] % OVERSAMPLE + gap
    total = shift + right.shape[1] + right.shape[1] % OVERSAMPLE
    canvas = PilImage.new("RGB", (total, tall), LIGHT)
    canvas.paste(PilImage.fromarray(left), (0, 0))
    canvas.paste(PilImage.fromarray(right), (shift, 0))

    start = grid_to_pixel(source_xy, tall / source.shape[0])
    end = grid_to_pixel(target_xy, tall / target.shape[0]) + np.array([shift, 0.0])
    radius = tall / (48 if n <= MOST_NUMBERS else 110)
    lines = PilImage.new("RGBA", canvas.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(lines)
    colors = [_color(i) if correct is None else (RIGHT if correct[i] else WRONG) for i in range(n)]
    for i in np.flatnonzero(shown).tolist():
        path = [tuple(start[i]), tuple(end[i])]
        draw.line(path, (0, 0, 0, 90), width=round(radius * 0.34) + 2)
        draw.line(path, (*colors[i], 205), width=max(1, round(radius * 0.34)))
    canvas.paste(lines, (0, 0), lines)
    if true_xy is not None:
        truth = grid_to_pixel(true_xy, tall / target.shape[0]) + np.array([shift, 0.0])
        draw = ImageDraw.Draw(canvas)
        for i in range(n):
            if shown[i]:
                draw.line([tuple(end[i]), tuple(truth[i])], colors[i], max(2, round(radius / 4)))
            _cross(draw, truth[i], radius * 0.75)

    draw = ImageDraw.Draw(canvas)
    for i in range(n):
        name = str(i + 1) if n <= MOST_NUMBERS else ""
        if shown[i]:
            _dot(draw, start[i], radius, colors[i], name)
            _dot(draw, end[i], radius, colors[i], name)
        else:
            _dot(draw, start[i], radius, None, name)
    size = (total // OVERSAMPLE, height)
    return np.asarray(canvas.resize(size, PilImage.Resampling.BOX)).copy()


def _color(index: int) -> tuple[int, int, int]:
    red, green, blue = OBJECT_COLORS[index % len(OBJECT_COLORS)].tolist()
    return red, green, blue


def _cross(draw: ImageDraw.ImageDraw, xy: Points, arm: float) -> None:
    """A white cross with a dark rim."""
    x, y = float(xy[0]), float(xy[1])
    width = max(2, round(arm / 3))
    for color, thick in ((DARK, 2 * width + 1), (LIGHT, width)):
        draw.line([(x - arm, y - arm), (x + arm, y + arm)], color, thick)
        draw.line([(x - arm, y + arm), (x + arm, y - arm)], color, thick)


def _dot(
    draw: ImageDraw.ImageDraw,
    xy: Points,
    radius: float,
    color: tuple[int, int, int] | None,
    name: str,
) -> None:
    """A filled circle with a number, or an empty white ring where the colour is None."""
    x, y = float(xy[0]), float(xy[1])
    edge = max(1, round(radius / 7))

    def circle(r: float, **style: Any) -> None:
        draw.ellipse((x - r, y - r, x + r, y + r), **style)

    if color is None:
        circle(radius + edge, outline=DARK, width=3 * edge)
        circle(radius, outline=LIGHT, width=edge)
    else:
        circle(radius, fill=color, outline=DARK, width=edge)
    if name:
        # Dark text on light colours, light text on dark ones and on the picture itself.
        light = color is None or np.dot(color, [0.299, 0.587, 0.114]) < 120
        font = load_font(max(8, round(radius * (1.3 if len(name) < 2 else 1.1))))
        outline = edge if color is None else 0
        ink = LIGHT if light else DARK
        draw.text((x, y), name, ink, font, anchor="mm", stroke_width=outline, stroke_fill=DARK)
