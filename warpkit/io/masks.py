"""Object masks: files of many kinds in, object ids out, and DAVIS palette PNGs back.

Ids are uint8, 0 is the background. How a file becomes ids:

- palette image: the indices are the ids; but a palette that is only a gray ramp (and not the
  DAVIS palette) is read by its gray levels;
- gray (also gray stored as RGB, 1 bit, 16 bit): 0 and one other value: one object. Soft edges
  (values between 16 and 239 in at most a tenth of the pixels, never filling a 5 x 5 block, beside
  values of 240 and more): one object, from 128 on. Up to 64 different values otherwise: they are
  the ids. Anything else is refused;
- colours: the ids of the DAVIS palette if every colour is in it, otherwise black is background
  and the other colours are numbered 1, 2, ... in sorted order (red first), at most 255;
- values or colours that look like the blended edges of others (most of them fill no 5 x 5 block
  where some do) are refused, except for small dense gray ids and the DAVIS palette;
- transparency: what is less than half opaque is background; where the rest has one colour, that
  is the one object, whatever the colour.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from warpkit.arrays import Labels
from warpkit.checks import InputError, require
from warpkit.io.images import open_image, save_whole

__all__ = ["DAVIS_PALETTE", "read_labels", "read_mask", "write_labels"]


_DARK, _BRIGHT = 16, 240  # between them a gray value belongs to a soft edge
_SOFT_SHARE = 0.1  # of the pixels: more than that is no edge
_BLOCK = 5  # pixels; a value that fills a block of this side is an object, not an edge
_GRAY_IDS = 64


def _palette() -> npt.NDArray[np.uint8]:
    """The palette of PASCAL VOC and DAVIS, uint8 (256, 3).

    Three bits of the id at a time give one bit of red, green and blue, most significant first.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for level in range(8):
        for channel in range(3):
            colours[:, channel] |= (ids >> (3 * level + channel) & 1) << (7 - level)
    return colours.astype(np.uint8)


DAVIS_PALETTE = _palette()
DAVIS_PALETTE.setflags(write=False)


def _block_values(gray: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values that fill at least one block of the image."""
    height, width = (length - _BLOCK + 1 for length in gray.shape)
    if min(height, width) < 1:
        return gray[:0, 0]
    corner = gray[:height, :width]
    filled = np.ones((height, width), bool)
    for y in range(_BLOCK):
        for x in range(_BLOCK):
            filled &= gray[y : y + height, x : x + width] == corner
    return np.unique(corner[filled])


def _looks_blended(values: npt.NDArray[Any], objects: npt.NDArray[Any]) -> bool:
    """Whether most objects of an image (H, W) of values are thin rims beside solid ones."""
    solid = int(np.isin(objects, _block_values(values)).sum())
    return solid > 0 and len(objects) - solid > 2 * solid


def _labels_of_gray(gray: npt.NDArray[Any], path: Path, *, lossy: bool) -> Labels:
    values = np.unique(gray)
    objects = values[values != 0]
    if len(objects) <= 1:
        return (gray != 0).astype(np.uint8)
    require(
        values[0] >= 0 and values[-1] <= 255,
        f"{path}: object ids must lie in 0..255, got values from {values[0]} to {values[-1]}",
    )
    edge = (gray >= _DARK) & (gray < _BRIGHT)
    blocks = _block_values(gray)
    solid = blocks[(blocks >= _DARK) & (blocks < _BRIGHT)]
    dark, bright = blocks[blocks < _DARK], blocks[blocks >= _BRIGHT]
    one_object = lossy or (bool(edge.any()) and len(dark) <= 1 and len(bright) <= 1)
    if values[-1] >= _BRIGHT and len(solid) == 0 and one_object:
        share = float(edge.mean())
        require(
            share <= _SOFT_SHARE,
            f"{path}: {share:.0%} of the pixels are neither black nor white, which is too blurred"
            " for a mask: save it with two values, or with one value per object",
        )
        return (gray >= 128).astype(np.uint8)
    require(
        not lossy,
        f"{path}: a JPEG cannot hold object ids (its gray values are blurred): save it as PNG",
    )
    dense = values[-1] <= 4 * len(values)
    require(
        len(objects) <= _GRAY_IDS and (dense or not _looks_blended(gray, objects)),
        f"{path}: {len(values)} gray values are neither a mask nor object ids: save a mask of two"
        " values, or a palette PNG of ids",
    )
    return gray.astype(np.uint8)


def _labels_of_colour(rgb: npt.NDArray[np.uint8], path: Path, *, lossy: bool) -> Labels:
    if bool((rgb == rgb[..., :1]).all()):
        return _labels_of_gray(rgb[..., 0], path, lossy=lossy)
    require(
        not lossy,
        f"{path}: a JPEG cannot hold object colours (they are blurred): save it as PNG",
    )
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    image = red << 16 | green << 8 | blue
    codes, where = np.unique(image, return_inverse=True)
    palette = DAVIS_PALETTE.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    order = np.argsort(palette)
    place = np.searchsorted(palette[order], codes).clip(0, 255)
    if bool((palette[order][place] == codes).all()):
        ids = order[place]
    else:
        count = int((codes != 0).sum())
        require(
            count <= 255 and not _looks_blended(image, codes[codes != 0]),
            f"{path}: {count} different colours are too many for object ids: its edges are"
            " anti-aliased or it is a photograph; save it with one flat colour per object",
        )
        ids = np.cumsum(codes != 0) * (codes != 0)
    return ids.astype(np.uint8)[where].reshape(rgb.shape[:2])


def _labels_of_palette(image: Image.Image, path: Path) -> Labels:
    index = np.asarray(image)
    stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(stored)] = stored
    used = np.unique(index)
    colours = palette[used]
    is_davis = np.array_equal(colours, DAVIS_PALETTE[used])
    # An optimised black-and-white PNG may list white first: its indices mean nothing.
    if not is_davis and bool((colours == colours[:, :1]).all()):
        return _labels_of_gray(palette[index, 0], path, lossy=False)
    return index.astype(np.uint8)


def read_labels(path: str | Path) -> Labels:
    """Read object ids from a mask file of any kind; the module says how each kind is read.

    Returns:
        uint8 (H, W), 0 = background.

    Raises:
        InputError: if the file cannot be read or its values are not ids: too many gray values or
            colours, ids above 255, floats.
    """
    path = Path(path)
    image = open_image(path)
    lossy = image.format in ("JPEG", "MPO")
    if image.mode == "P":
        return _labels_of_palette(image, path)
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        gray = np.asarray(image)
        return _labels_of_gray(gray.astype(np.int64), path, lossy=lossy)
    require(image.mode != "F", f"{path}: a mask of floats: save it as an 8-bit PNG")
    try:
        if image.mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
            image = image.convert("RGB")
        rgba = np.array(image.convert("RGBA"))
    except ValueError as error:
        raise InputError(f"{path}: masks of kind {image.mode} cannot be read") from error
    visible = rgba[..., 3] >= 128
    if not visible.all():
        colours = rgba[visible][:, :3]
        if len(colours) == 0 or bool((colours == colours[0]).all()):
            return visible.astype(np.uint8)
        rgba[~visible] = 0
    return _labels_of_colour(rgba[..., :3], path, lossy=lossy)


def read_mask(path: str | Path) -> npt.NDArray[np.bool_]:
    """Read a mask: True on every object. It may be empty; `checks.check_mask` refuses that.

    Returns:
        bool (H, W).

    Raises:
        InputError: as `read_labels`.
    """
    return read_labels(path) > 0


def write_labels(path: str | Path, labels: npt.NDArray[np.uint8]) -> None:
    """Write object ids as a palette PNG in the DAVIS palette.

    Args:
        labels: uint8 (H, W), 0 = background.

    Raises:
        InputError: for another suffix than `.png`, another dtype or shape, or a file that cannot
            be written.
    """
    path = Path(path)
    require(path.suffix.lower() == ".png", f"{path}: object ids are written as .png only")
    require(
        isinstance(labels, np.ndarray)
        and labels.dtype == np.uint8
        and labels.ndim == 2
        and labels.size > 0,
        "object ids to write must be uint8 (height, width), got"
        f" {getattr(labels, 'dtype', type(labels).__name__)} {getattr(labels, 'shape', '')}",
    )
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(DAVIS_PALETTE.tobytes())
    save_whole(image, path, format="PNG")
