"""Cut an object out of an image by a box around it: `warpkit mask IMAGE --box x1,y1,x2,y2`.

In: an image and a box. Out: a mask, for `warp`, `match` and `propagate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from warpkit.arrays import Image, Mask
from warpkit.checks import InputError, check_image, require
from warpkit.coords import grid_to_pixel
from warpkit.image.grabcut import largest_piece
from warpkit.io.images import read_image
from warpkit.io.masks import write_labels
from warpkit.runs.folder import check_result_file

__all__ = ["cut_out", "parse_box", "run_mask"]


_SIDE = 512  # GrabCut works on at most this many pixels a side
_ROUNDS = 5


def parse_box(text: str) -> tuple[float, float, float, float]:
    """A box from `"x1,y1,x2,y2"`.

    Raises:
        InputError: anything else.
    """
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f'expected a box as "x1,y1,x2,y2", got {text!r}') from error
    return x1, y1, x2, y2


def cut_out(image: Image, box: Sequence[float]) -> Mask:
    """Find the object in a box by GrabCut: what differs in colour from all that is outside.

    Convention: the box is `(x1, y1, x2, y2)` in pixels, centres at integers, both corners inside;
    what reaches over the image's edge is cut off.

    Args:
        image: uint8 RGB (H, W, 3).
        box: around the whole object, smaller than the image.

    Returns:
        bool (H, W), in one piece without holes, all inside the box. Images of more than 512
        pixels a side are cut out on a smaller copy.

    Raises:
        InputError: a box that is empty, outside or all of the image, or without an object.

    Source: Rother, Kolmogorov, Blake, GrabCut, SIGGRAPH 2004.
    """
    import cv2

    image = check_image(image)
    height, width = image.shape[:2]
    given = f"the box {', '.join(f'{value:g}' for value in box)}"
    require(
        len(box) == 4 and bool(np.isfinite(box).all()),
        f"a box is four numbers x1, y1, x2, y2, got {list(box)}",
    )
    scale = min(1.0, _SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small = np.asarray(PilImage.fromarray(image).resize(size, PilImage.Resampling.BOX))
    edges = [
        grid_to_pixel(float(value), side / whole)
        for value, side, whole in zip(box, size * 2, (width, height) * 2, strict=True)
    ]
    left, top = (max(0, round(value)) for value in edges[:2])
    right, bottom = min(size[0] - 1, round(edges[2])), min(size[1] - 1, round(edges[3]))
    require(
        right > left and bottom > top,
        f"{given} has no pixels inside the image of {width} x {height} (width x height): give x1,"
        " y1 left of and above x2, y2",
    )
    inside = np.zeros(small.shape[:2], bool)
    inside[top : bottom + 1, left : right + 1] = True
    require(
        not inside.all(),
        f"{given} is the whole image: GrabCut needs to see what is not the object",
    )
    state = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    cv2.setRNGSeed(0)  # its colour models start from OpenCV's random numbers
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(small[..., ::-1])
    cv2.grabCut(bgr, state, (0, 0, 0, 0), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = largest_piece((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD))
    require(
        bool(found.any()),
        f"no object that differs from its surroundings was found in {given}: draw a box that"
        " leaves some background around the object, or paint the mask",
    )
    whole = PilImage.fromarray(found.astype(np.uint8) * 255).resize(
        (width, height), PilImage.Resampling.BILINEAR
    )
    return np.asarray(whole) > 127


def run_mask(
    image: Path | str, box: Sequence[float], output: Path | str, *, overwrite: bool = False
) -> Mask:
    """Cut an object out of an image file and write its mask.

    Args:
        output: the `.png` to write.
        overwrite: replace a file that is there.

    Raises:
        InputError: as `cut_out`; or a file that cannot be read or written.
    """
    output = Path(output)
    check_result_file(output, overwrite=overwrite, inputs=[image])
    found = cut_out(read_image(image), box)
    write_labels(output, found.astype(np.uint8))
    return found
