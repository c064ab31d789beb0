"""Pictures of objects that were cut out: what is opaque of them, and what hides under the rest.

In: a `StoredPicture`. Out: its mask, and its colours without those.
"""

from __future__ import annotations

import numpy as np

from warpkit.arrays import Image, Mask
from warpkit.checks import require
from warpkit.io.pictures import Levels, StoredPicture
from warpkit.warp.rim import with_nearest

__all__ = ["opaque_part", "own_colors", "seen_picture"]


def opaque_part(picture: StoredPicture) -> Mask | None:
    """What is at least half opaque, bool (H, W); None where all of it is.

    Raises:
        InputError: nothing is.
    """
    if picture.alpha is None:
        return None
    opaque: Mask = picture.alpha >= 128
    require(
        bool(opaque.any()),
        f"{picture.name} is transparent everywhere: give a picture with something to see",
    )
    return None if opaque.all() else opaque


def seen_picture(picture: StoredPicture) -> Image:
    """What is described and shown: uint8 (H, W, 3), of the opaque part's mean colour elsewhere."""
    opaque = opaque_part(picture)
    if opaque is None:
        return picture.rgb
    mean = np.rint(picture.rgb[opaque].mean(axis=0)).astype(np.uint8)
    return np.where(opaque[..., None], picture.rgb, mean)


def own_colors(picture: StoredPicture, *, deep: bool, seen: bool = False) -> Levels:
    """Colours to be read: (H, W, 3), with those of the nearest that count where none does.

    Args:
        deep: uint16 instead of uint8.
        seen: all that can be seen count, not only what is at least half opaque.
    """
    colors = picture.colors
    if deep and colors.dtype == np.uint8:
        colors = colors.astype(np.uint16) * 257
    counts = opaque_part(picture)
    if seen and picture.opacity is not None:
        counts = picture.opacity > 0
    return colors if counts is None else with_nearest(colors, counts)
