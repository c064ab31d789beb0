"""Object masks: files of many kinds in, object ids out, and DAVIS palette PNGs back.

Ids are uint8, 0 is the background. How a file becomes ids:

- palette image whose index 0 is black (or transparent): the indices are the ids. Its colours are
  read instead, as those of the same picture in RGB, where the indices cannot be meant: index 0 has
  another colour, the palette is the web's, holds grays alone, or all colours in use are of the
  DAVIS palette at other indices. Without black anywhere it is refused;
- gray (also gray stored as RGB, 1 bit, 16 bit): 0 and one other value: one object. Soft edges
  (values between 16 and 239 in at most a tenth of the pixels, never filling a 5 x 5 block, beside
  values of 240 and more): one object, from 128 on; 16 bit likewise, by their upper 8. Up to 64
  different values otherwise: they are the ids. Anything else is refused;
- colours: the ids of the DAVIS palette if every colour is in it, otherwise black is background
  and the other colours are numbered 1, 2, ... in sorted order (red first), at most 255;
- values or colours that look like the blended edges of others, or are dithered, are refused, except
  for small dense gray ids and the DAVIS palette;
- lossy files (JPEG, AVIF, lossy WebP and JPEG 2000) hold one white object on black, or are refused;
- transparency: what is less than half opaque is background; where the rest has one colour, or is a
  photograph (an object cut out), that is the one object;
- 255 beside other ids is void in a palette file, as in PASCAL VOC: no object, unless
  `write_labels` wrote it. `read_objects` takes it so beside ids below 64 in any file.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from warpkit.arrays import Labels
from warpkit.checks import InputError, require, usable_array
from warpkit.io.images import is_lossy, open_image, save_whole
from warpkit.io.mask_values import (
    block_values,
    has_rims,
    is_dithered,
    is_photograph,
    looks_blended,
)

__all__ = ["DAVIS_PALETTE", "read_labels", "read_mask", "read_objects", "write_labels"]

_log = logging.getLogger("warpkit")

_DARK, _BRIGHT = 16, 240  # between them a gray value belongs to a soft edge
_SOFT_SHARE = 0.1  # of the pixels: more than that is no edge
_GRAY_IDS = 64
_VOID = 255
_ALL_IDS = "warpkit-ids"  # text of a PNG: its 255 is an object's id
_WEB = set(itertools.product(range(0, 256, 51), repeat=3))  # of a palette made for no picture


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


def _labels_of_gray(gray: npt.NDArray[Any], path: Path, *, lossy: bool) -> Labels:
    values = np.unique(gray)
    objects = values[values != 0]
    deep = bool(values[-1] > 255)
    if len(objects) <= 1 and not (lossy and 0 < values[-1] < _BRIGHT):
        return (gray != 0).astype(np.uint8)
    out_of_range = (
        f"{path}: object ids must lie in 0..255, got values from {values[0]} to {values[-1]}"
    )
    widened = not (values % 257).any()  # an 8-bit mask in a 16-bit file
    if deep and values[0] >= 0 and (widened or 257 * _BRIGHT <= values[-1] <= 65535):
        gray, deep = np.rint(gray / 257).astype(np.int64), not widened
        values = np.unique(gray)
        objects = values[values != 0]
    require(values[0] >= 0 and values[-1] <= 255, out_of_range)
    edge = (gray >= _DARK) & (gray < _BRIGHT)
    blocks = block_values(gray)
    solid = blocks[(blocks >= _DARK) & (blocks < _BRIGHT)]
    dark, bright = blocks[blocks < _DARK], blocks[blocks >= _BRIGHT]
    one_object = (
        lossy
        or deep
        or (bool(edge.any()) and len(dark) <= 1 and len(bright) <= 1)
        or looks_blended(gray, objects)  # the noise of a JPEG that was saved as another kind
    )
    if values[-1] >= _BRIGHT and len(solid) == 0 and one_object:
        share = float(edge.mean())
        require(
            share <= _SOFT_SHARE,
            f"{path}: {100 * share:.0f} % of the pixels are neither black nor white, which is too"
            " blurred for a mask: save it with two values, or with one value per object",
        )
        return (gray >= 128).astype(np.uint8)
    require(not deep, out_of_range)
    require(not lossy, _no_lossy(path, "ids", "gray values are"))
    dense = values[-1] <= 4 * len(values)
    require(
        len(objects) <= _GRAY_IDS and (dense or not looks_blended(gray, objects)),
        f"{path}: {len(values)} gray values are neither a mask nor object ids: save a mask of two"
        " values, or a palette PNG of ids",
    )
    if not dense:
        _require_flat(np.searchsorted(values, gray), values[:, None], path)
    return gray.astype(np.uint8)


def _no_lossy(path: Path, what: str, blurred: str) -> str:
    return (
        f"{path}: a JPEG cannot hold object {what} (its {blurred} blurred), nor can lossy WebP,"
        " AVIF or JPEG 2000: save it as PNG"
    )


def _require_flat(index: npt.NDArray[Any], colours: npt.NDArray[np.uint8], path: Path) -> None:
    """Raise where soft edges or dither make the colours (N, C) of an image of their rows."""
    require(
        not is_dithered(np.where(colours[index].any(axis=-1), index + 1, 0))
        and not has_rims(index, colours),
        f"{path}: its colours are mixed pixel by pixel or blend into each other (dithered or"
        " anti-aliased): save it with one flat colour per object",
    )


def _require_black(colours: npt.NDArray[np.uint8], path: Path, none: str) -> None:
    """Raise where none of several colours (N, 3) can be the background."""
    require(
        len(colours) == 1 or bool((colours == 0).all(axis=1).any()),
        f"{path}: {none} is black, which marks the background: save it with black around the"
        " objects, or as gray PNG of ids",
    )


def _davis_ids(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """The ids (N,) that colours (N, 3) stand for in the DAVIS palette, or None if one is not."""
    weights = np.array([1 << 16, 1 << 8, 1])
    palette, codes = DAVIS_PALETTE.astype(np.int64) @ weights, colours.astype(np.int64) @ weights
    order = np.argsort(palette)
    place = np.searchsorted(palette[order], codes).clip(0, 255)
    return order[place].astype(np.uint8) if bool((palette[order][place] == codes).all()) else None


def _labels_of_colour(rgb: npt.NDArray[np.uint8], path: Path, *, lossy: bool) -> Labels:
    spread = rgb.max(axis=-1).astype(np.int64) - rgb.min(axis=-1)
    if int(spread.max()) <= (_DARK if lossy else 0):
        return _labels_of_gray(rgb.mean(axis=-1).round().astype(np.int64), path, lossy=lossy)
    require(not lossy, _no_lossy(path, "colours", "colours are"))
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    image = red << 16 | green << 8 | blue
    codes, where = np.unique(image, return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
    ids = _davis_ids(colours)
    if ids is None:
        dark = colours.max(axis=1) < _DARK
        if dark.sum() == 1:  # the black of another program
            codes[dark], colours[dark] = 0, 0
            image = codes[where].reshape(image.shape)
        count = int((codes != 0).sum())
        require(
            count <= 255 and not looks_blended(image, codes[codes != 0]),
            f"{path}: {count} different colours are too many for object ids: its edges are"
            " anti-aliased or it is a photograph; save it with one flat colour per object",
        )
        _require_black(colours, path, "no colour of it")
        _require_flat(where.reshape(image.shape), colours, path)
        ids = (np.cumsum(codes != 0) * (codes != 0)).astype(np.uint8)
    return ids[where].reshape(rgb.shape[:2])


def _labels_of_rgba(rgba: npt.NDArray[np.uint8], path: Path, *, lossy: bool) -> Labels:
    visible = rgba[..., 3] >= 128
    if visible.all():
        return _labels_of_colour(rgba[..., :3], path, lossy=lossy)
    colours = rgba[visible][:, :3]
    one_colour = len(colours) == 0 or int(np.ptp(colours, axis=0).max()) <= (_DARK if lossy else 0)
    if one_colour:
        return visible.astype(np.uint8)
    if is_photograph(rgba[..., :3], visible):
        _log.warning("%s: a picture cut out: what is opaque of it is taken as the mask", path)
        return visible.astype(np.uint8)
    return _labels_of_colour(np.where(visible[..., None], rgba[..., :3], 0), path, lossy=lossy)


def _labels_of_palette(image: Image.Image, path: Path) -> Labels:
    index = np.asarray(image)
    stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    used = np.nonzero(np.bincount(index.ravel(), minlength=256))[0]
    if used[-1] >= len(stored):
        return index.astype(np.uint8)  # without colours only the indices can mean something
    colours = stored[used]
    if np.array_equal(colours, DAVIS_PALETTE[used]):
        return index.astype(np.uint8)
    opacity = np.full(256, 255)
    clearness = image.info.get("transparency", b"")  # one index, or the opacity of the first ones
    if isinstance(clearness, int):
        opacity[clearness] = 0
    else:
        opacity[: len(clearness)] = list(clearness)[:256]
    clear = opacity[used] < 128
    if clear.any() and (clear[1:].any() or used[0] != 0 or len(used) == 2):
        return _labels_of_rgba(np.asarray(image.convert("RGBA")), path, lossy=False)
    if clear[0]:
        colours[0] = 0
    dark = colours.max(axis=1) < _DARK
    if dark.sum() == 1:
        colours[dark] = 0  # the black of a palette that was made by averaging
    black = (colours == 0).all(axis=1)
    place = (np.cumsum(np.isin(np.arange(256), used)) - 1)[index]
    gray = bool((colours == colours[:, :1]).all())
    web = len(stored) >= 216 and {tuple(colour) for colour in stored.tolist()} >= _WEB
    if gray or web or not black[0] or used[0] != 0 or _davis_ids(colours) is not None:
        if not gray:
            _require_black(colours, path, "no colour of its palette")
        return _labels_of_colour(colours[place], path, lossy=False)
    _require_flat(place, colours, path)
    return index.astype(np.uint8)


def _read(path: Path) -> tuple[Labels, bool | None]:
    """The ids as they are stored, and whether 255 beside others means "no object" in that file.

    None where the file does not tell: it has no palette.
    """
    image = open_image(path)
    lossy = is_lossy(image, path)
    if image.mode == "P":
        return _labels_of_palette(image, path), _ALL_IDS not in image.info
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        gray = np.asarray(image)
        require(
            image.mode != "1" or not is_dithered(gray),
            f"{path}: its black and white are mixed pixel by pixel (dithered): save it without"
            " dithering, black around a white object",
        )
        return _labels_of_gray(gray.astype(np.int64), path, lossy=lossy), None
    require(image.mode != "F", f"{path}: a mask of floats: save it as an 8-bit PNG")
    try:
        if image.mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
            image = image.convert("RGB")
        rgba = np.array(image.convert("RGBA"))
    except ValueError as error:
        raise InputError(f"{path}: masks of kind {image.mode} cannot be read") from error
    return _labels_of_rgba(rgba, path, lossy=lossy), None


def _without_void(labels: Labels, path: Path) -> Labels:
    void = labels == _VOID
    if not void.any() or not bool((labels[~void] > 0).any()):
        return labels
    _log.warning("%s: the value 255 (void, as in PASCAL VOC) is taken as no object", path)
    return np.where(void, 0, labels).astype(np.uint8)


def read_labels(path: str | Path) -> Labels:
    """Read object ids from a mask file of any kind; the module says how each kind is read.

    Returns:
        uint8 (H, W), 0 = background.

    Raises:
        InputError: if the file cannot be read or its values are not ids: too many gray values or
            colours, blended or dithered ones, ids above 255, floats.
    """
    labels, void = _read(Path(path))
    return _without_void(labels, Path(path)) if void else labels


def read_objects(path: str | Path) -> Labels:
    """Read a mask that says what is to be propagated: as `read_labels`, and without void pixels.

    255 beside small ids alone is void in gray and colour files, too.

    Raises:
        InputError: as `read_labels`.
    """
    path = Path(path)
    labels, void = _read(path)
    if void is None:
        void = bool((labels[labels != _VOID] < _GRAY_IDS).all())
    return _without_void(labels, path) if void else labels


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
    labels = usable_array(labels)
    require(
        isinstance(labels, np.ndarray)
        and labels.dtype == np.uint8
        and labels.ndim == 2
        and labels.size > 0,
        "object ids to write must be uint8 (height, width), got"
        f" {getattr(labels, 'dtype', type(labels).__name__)} {getattr(labels, 'shape', '')}",
    )
    image = Image.fromarray(labels)
    image.putpalette(DAVIS_PALETTE.tobytes())
    said = PngInfo()
    if bool((labels == _VOID).any()):
        said.add_text(_ALL_IDS, "255 is an object, not void")
    save_whole(image, path, format="PNG", pnginfo=said)
