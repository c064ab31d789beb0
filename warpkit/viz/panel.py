"""Text and the labelled grid: overview pictures and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from warpkit.arrays import Image
from warpkit.checks import check_image, require, usable_array
from warpkit.viz.masks import over_checkerboard
from warpkit.viz.palette import scale_colors

__all__ = ["add_scale", "load_font", "panel", "resize_to_height"]


PAPER = (255, 255, 255)
INK = (32, 32, 32)
_SMALL = 15  # pixels of a font


def load_font(size: int) -> Any:
    """Pillow's own font at a size in pixels."""
    return ImageFont.load_default(size)


def resize_to_height(image: Image, height: int) -> Image:
    """The image (H, W, C) resized to a height, its aspect ratio kept."""
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    # Enlarged pixels stay square so that coarse grids can be seen as what they are.
    enlarged = height >= 4 * image.shape[0]
    method = PilImage.Resampling.NEAREST if enlarged else PilImage.Resampling.LANCZOS
    return np.asarray(PilImage.fromarray(image).resize((width, height), method))


def panel(
    images: Sequence[tuple[str, Image]], *, columns: int | None = None, height: int = 256
) -> Image:
    """Lay out titled images in a grid.

    Args:
        images: (title, image) pairs in reading order; an image is uint8 RGB (H, W, 3) or RGBA
            (H, W, 4), which is laid over a checkerboard.
        columns: images per row; None puts all in one row.
        height: height of every image in pixels; widths follow the aspect ratios, a column is as
            wide as its widest image.

    Returns:
        uint8 RGB. A title too long for its column goes on in further lines; a word that is longer
        than the column is cut with an ellipsis.
    """
    require(len(images) > 0, "a panel needs at least one image")
    require(columns is None or columns >= 1, f"a panel needs at least one column, got {columns}")
    require(height >= 16, f"the images of a panel need a height of at least 16, got {height}")
    columns = min(columns or len(images), len(images))
    size = min(max(11, height // 16), 22)
    gap, strip, line = max(6, size // 2), round(size * 1.7), round(size * 1.2)
    font = load_font(size)

    tiles = [_tile(image, title, height) for title, image in images]
    widths = [max(tile.shape[1] for tile in tiles[column::columns]) for column in range(columns)]
    lefts = [gap + sum(widths[:column]) + gap * column for column in range(columns)]
    titles = [
        _lines(title, widths[position % columns], font)
        for position, (title, _) in enumerate(images)
    ]
    # The pictures of a row stand on one line, below the longest of its titles.
    starts = range(0, len(tiles), columns)
    strips = [strip + line * (max(map(len, titles[at : at + columns])) - 1) for at in starts]
    tops = [gap + sum(strips[:row]) + (height + gap) * row for row in range(len(strips) + 1)]
    sheet = PilImage.new("RGB", (sum(widths) + gap * (columns + 1), tops[-1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for position, (tile, words) in enumerate(zip(tiles, titles, strict=True)):
        row, column = divmod(position, columns)
        bottom = tops[row] + strips[row]
        left = lefts[column] + (widths[column] - tile.shape[1]) // 2
        middle = lefts[column] + widths[column] / 2
        for above, text in enumerate(reversed(words)):
            at = bottom - strip / 2 - line * above
            draw.text((middle, at), text, INK, font, anchor="mm")
        sheet.paste(PilImage.fromarray(tile), (left, bottom))
    return np.asarray(sheet).copy()


def _tile(image: Image, title: str, height: int) -> Image:
    """One image at its height; the checkerboard comes last, so its squares are alike everywhere."""
    image = usable_array(image)
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 4:
        return over_checkerboard(resize_to_height(image, height))
    return resize_to_height(check_image(image, f"the panel image '{title}'"), height)


def _lines(text: str, width: int, font: Any) -> list[str]:
    """The text in lines that fit, as many as it takes."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [_fitting(line, width, font) for line in lines]


def _fitting(text: str, width: int, font: Any) -> str:
    """The text, or as much of its beginning as fits with an ellipsis."""
    # The font's space, a fifth of its size, is two pixels in small text: too few.
    wide = text.replace(" ", "  ")
    if font.size < _SMALL and font.getlength(wide) <= width:
        return wide
    if font.getlength(text) <= width:
        return text
    for end in range(len(text) - 1, 0, -1):
        cut = text[:end].rstrip() + "..."
        if font.getlength(cut) <= width:
            return cut
    return ""


def add_scale(image: Image, *, low: float, high: float, label: str = "") -> Image:
    """Put the colour scale of `heat` under an image, with its two ends and a label.

    Args:
        image: uint8 RGB (H, W, 3).
        low: value of the scale's left end.
        high: value of its right end.
        label: what is measured, written in the middle.

    Returns:
        uint8 RGB (H + strip, W, 3).
    """
    image = check_image(image)
    width = image.shape[1]
    size = min(max(10, width // 24), 20)
    bar, strip, font = max(6, size // 2), round(size * 1.5), load_font(size)
    out = PilImage.new("RGB", (width, image.shape[0] + 2 + bar + strip), PAPER)
    out.paste(PilImage.fromarray(image), (0, 0))
    ramp = scale_colors(np.tile(np.linspace(0, 1, width), (bar, 1)))
    out.paste(PilImage.fromarray(ramp), (0, image.shape[0] + 2))
    draw = ImageDraw.Draw(out)
    middle = image.shape[0] + 2 + bar + strip / 2
    left, right = f"{low:.3g}", f"{high:.3g}"
    draw.text((2, middle), left, INK, font, anchor="lm")
    draw.text((width - 2, middle), right, INK, font, anchor="rm")
    room = width - 2 * round(max(font.getlength(left), font.getlength(right)) + size)
    draw.text((width / 2, middle), _fitting(label, room, font), INK, font, anchor="mm")
    return np.asarray(out).copy()
