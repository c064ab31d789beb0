"""The strips or tiles of a TIFF, looked at before they are decoded.

In: an image that Pillow opened. Out: nothing, or an error. Where the list of parts is damaged,
libtiff decodes what it finds and leaves the rest of the picture as the memory happened to be.
"""

from __future__ import annotations

import math
import os

from PIL import TiffImagePlugin

__all__ = ["check_parts"]

# Tags of TIFF 6.0.
_COMPRESSION, _SAMPLES, _ROWS, _PLANAR = 259, 277, 278, 284
_STRIPS, _TILES = (273, 279), (324, 325)
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_RAW, _SEPARATE = 1, 2
_OLD_JPEG = 6  # its parts may be told otherwise


def check_parts(image: TiffImagePlugin.TiffImageFile) -> None:
    """Check the parts of the picture that Pillow is about to decode.

    Raises:
        ValueError: too few or too many for the picture, or some lie beyond the end of the file.
    """
    tags = image.tag_v2

    def whole(tag: int, usual: tuple[int, ...] = ()) -> tuple[int, ...]:
        value = tags.get(tag, usual)
        values = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(one, int) and one >= 0 for one in values):
            raise ValueError(f"tag {tag} of its header is {value!r}")
        return values

    if whole(_COMPRESSION, (_RAW,))[0] == _OLD_JPEG:
        return
    width, height = whole(256)[:1] + whole(257)[:1]
    tiled = _TILES[0] in tags
    offsets, counts = (whole(tag) for tag in (_TILES if tiled else _STRIPS))
    if tiled:
        across, down = whole(_TILE_WIDTH, (width,))[0], whole(_TILE_HEIGHT, (height,))[0]
    else:
        across, down = width, whole(_ROWS, (height,))[0]
    planes = whole(_SAMPLES, (1,))[0] if whole(_PLANAR, (1,))[0] == _SEPARATE else 1
    expected = math.ceil(width / max(across, 1)) * math.ceil(height / max(down, 1)) * planes
    if len(offsets) != expected or len(counts) not in (0, expected):
        listed = len(offsets) if len(offsets) != expected else len(counts)
        raise ValueError(f"its header lists {listed} parts, {expected} make the picture")
    end = image.fp.seek(0, os.SEEK_END) if image.fp is not None else 0
    # What is not compressed is read as far as the picture goes, whatever its length is said to be.
    raw = whole(_COMPRESSION, (_RAW,))[0] == _RAW
    lengths = [1] * expected if raw or not counts else counts
    beyond = sum(at + length > end for at, length in zip(offsets, lengths, strict=True))
    if beyond:
        raise ValueError(f"{beyond} of its {expected} parts lie beyond the end of the file")
