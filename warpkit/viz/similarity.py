"""One point of an image and how alike every pixel of another is to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw

from warpkit.arrays import Image
from warpkit.checks import check_image, require
from warpkit.coords import grid_to_pixel
from warpkit.viz.fields import heat
from warpkit.viz.panel import add_scale, panel, resize_to_height

__all__ = ["draw_similarity", "mark_point"]


def mark_point(image: Image, xy: npt.ArrayLike, *, height: int = 320) -> Image:
    """The image at a height with a ring around a point: vermilion between black and white.

    Args:
        image: uint8 RGB (H, W, 3).
        xy: (2,), pixels of the image.
        height: of the result.
    """
    image = check_image(image)
    require(height >= 16, f"the drawing needs a height of at least 16, got {height}")
    scale = height / image.shape[0]
    shown = PilImage.fromarray(resize_to_height(image, height))
    x, y = grid_to_pixel(np.asarray(xy, dtype=np.float64), scale)
    draw = ImageDraw.Draw(shown)
    radius = max(5.0, height / 32)
    for grow, colour in ((2, (0, 0, 0)), (1, (255, 255, 255)), (0, (213, 94, 0))):
        r = radius + grow
        draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=2 + grow)
    draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(255, 255, 255))
    return np.asarray(shown).copy()


def draw_similarity(
    source: Image,
    target: Image,
    source_xy: npt.ArrayLike,
    target_xy: npt.ArrayLike,
    similarity: npt.NDArray[np.floating[Any]],
    *,
    height: int = 320,
) -> Image:
    """A point, its match, and the map of similarities that the match is the top of.

    Args:
        source: uint8 RGB (Hs, Ws, 3).
        target: uint8 RGB (H, W, 3).
        source_xy: (2,), pixels of the source.
        target_xy: (2,), pixels of the target.
        similarity: float (H, W), cosines of the target's pixels.
        height: of each of the three pictures.

    Returns:
        uint8 RGB; the map is dark blue where low and light yellow where high, with its scale.
    """
    require(
        similarity.shape == target.shape[:2],
        f"similarity is {similarity.shape}, the target is {target.shape[:2]}: they must agree",
    )
    low, high = float(similarity.min()), float(similarity.max())
    marked = mark_point(heat(similarity, low=low, high=high), target_xy, height=height)
    scaled = add_scale(marked, low=low, high=high, label="cosine")
    tiles = [
        ("source", mark_point(source, source_xy, height=height)),
        ("target", mark_point(target, target_xy, height=height)),
        ("similarity", resize_to_height(scaled, height)),
    ]
    return panel(tiles, columns=3, height=height)
