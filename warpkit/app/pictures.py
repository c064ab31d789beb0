"""Pictures and paint between the page's canvas and arrays.

A canvas shows a copy of the picture of at most `SIDE` pixels. What is painted comes back as a PNG
of that size whose levels are object ids, or as a PNG with transparency for colours.
"""

from __future__ import annotations

import base64
import binascii
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from warpkit.checks import InputError, require
from warpkit.image.transparency import seen_picture
from warpkit.io.pictures import read_picture
from warpkit.viz.palette import OBJECT_COLORS

__all__ = [
    "MOST_OBJECTS",
    "canvas_value",
    "decode_labels",
    "decode_layer",
    "encode_labels",
    "encode_layer",
]

SIDE = 1024
"""Longest side of a canvas in pixels."""

MOST_OBJECTS = len(OBJECT_COLORS)

_HEAD = "data:image/png;base64,"
_MOST_TEXT = 12_000_000  # characters of one drawing
_SERIAL = itertools.count(1)


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of a picture's canvas."""
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def canvas_value(
    path: Path | None = None,
    *,
    picture: str | None = None,
    message: str | None = "",
    **more: Any,
) -> dict[str, Any]:
    """What a canvas is told.

    Args:
        path: image file to show; None leaves the one that is shown.
        picture: its name.
        message: a line under the canvas; None leaves the one that is there.
        more: `labels`, `found` (labels that nobody gave), `layer`, `edit`, `points`, `marks`,
            `wrong` (the message is an error), `object`, `frame` (its number, of a picture that is
            one of a video), `image` (empty to empty the canvas), `of` (the picture that it answers
            for: where another is shown by now it comes too late), `settled` (an error of before is
            none any more).
    """
    value: dict[str, Any] = {"serial": next(_SERIAL), "message": message, "picture": picture}
    if path is not None:
        image = PilImage.fromarray(seen_picture(read_picture(path)))
        value |= {"width": image.width, "height": image.height}
        small = image.resize(canvas_size(image.height, image.width), PilImage.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=92, subsampling=0)
        value["image"] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return value | more


def encode_labels(labels: npt.NDArray[np.uint8]) -> str:
    """Object ids (H, W) as a canvas reads them."""
    image = PilImage.fromarray(np.ascontiguousarray(labels))
    size = canvas_size(*labels.shape)
    buffer = io.BytesIO()
    image.resize(size, PilImage.Resampling.NEAREST).save(buffer, format="PNG")
    return _HEAD + base64.b64encode(buffer.getvalue()).decode()


def encode_layer(rgba: npt.NDArray[np.uint8]) -> str:
    """Colours (H, W, 4) as a canvas reads them."""
    buffer = io.BytesIO()
    size = canvas_size(*rgba.shape[:2])
    PilImage.fromarray(rgba).resize(size, PilImage.Resampling.BILINEAR).save(buffer, format="PNG")
    return _HEAD + base64.b64encode(buffer.getvalue()).decode()


def decode_labels(text: Any, *, height: int, width: int) -> npt.NDArray[np.uint8] | None:
    """Painted object ids at the picture's own size: uint8 (height, width); None if none are.

    Raises:
        InputError: what came is no such drawing.
    """
    drawn = _decode(text)
    if drawn is None:
        return None
    ids = np.asarray(drawn.convert("RGB"))[..., 0]
    require(
        int(ids.max()) <= MOST_OBJECTS, "the painted mask is damaged: reload the page and paint it"
    )
    if not ids.any():
        return None
    if ids.shape == (height, width):
        return ids.copy()
    # Each object is enlarged smoothly, and every pixel takes the strongest.
    best = np.full((height, width), 0.5, np.float32)
    labels = np.zeros((height, width), np.uint8)
    for i in np.unique(ids[ids > 0]).tolist():
        one = PilImage.fromarray((ids == i).astype(np.uint8) * 255)
        cover = np.asarray(one.resize((width, height), PilImage.Resampling.BILINEAR)) / 255
        stronger = cover > best
        labels[stronger], best[stronger] = i, cover[stronger]
    return labels if labels.any() else None


def decode_layer(text: Any, *, height: int, width: int) -> npt.NDArray[np.uint8] | None:
    """Painted colours at the picture's own size: uint8 RGBA (height, width, 4); None if none are.

    Raises:
        InputError: what came is no such drawing.
    """
    drawn = _decode(text)
    if drawn is None:
        return None
    layer = drawn.convert("RGBA").resize((width, height), PilImage.Resampling.BILINEAR)
    rgba = np.asarray(layer).copy()
    return rgba if rgba[..., 3].any() else None


def _decode(text: Any) -> PilImage.Image | None:
    """The PNG of a canvas, None for an empty text."""
    if not text:
        return None
    try:
        if not isinstance(text, str) or not text.startswith(_HEAD) or len(text) > _MOST_TEXT:
            raise ValueError
        data = base64.b64decode(text[len(_HEAD) :], validate=True)
        image = PilImage.open(io.BytesIO(data), formats=["PNG"])
        if max(image.size) > 2 * SIDE:
            raise ValueError
        image.load()
    except (ValueError, OSError, SyntaxError, binascii.Error) as error:
        raise InputError("the drawing is damaged: reload the page and paint it again") from error
    return image
