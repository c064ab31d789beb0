"""Who finds the object of a picture: the foreground head, or a published segmenter.

In: an image, perhaps hints. Out: a `FoundObject`, alike from all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from warpkit.arrays import Image, mask_box
from warpkit.checks import check_image, require
from warpkit.features.registry import resolve_device
from warpkit.features.segmenters import SEGMENTERS, Segmenter, check_prompts, load_segmenter
from warpkit.image.foreground import (
    FoundObject,
    Hints,
    NothingFoundError,
    box_mask,
    check_hints,
    find_object,
    load_foreground,
    mask_doubts,
    mask_pieces,
    nothing_found,
)

__all__ = ["Finder", "check_finding", "object_finder", "segment_object"]

Finder = Callable[[Image, Hints], FoundObject]


def check_finding(mask: str | None, segmenter: str | None, text: str | None) -> None:
    """Raise where a text has nobody to read it, or a segmenter nothing to do.

    Args:
        mask: `none` where no object is to be found.

    Raises:
        InputError: so it is, or the text says nothing.
    """
    require(
        segmenter is None or mask != "none",
        f"the segmenter {segmenter} finds objects, and --mask none takes whole pictures: leave"
        " one of them out",
    )
    require(
        text is None or segmenter is not None,
        f"the text {text!r} is for a segmenter that reads it: add --segmenter sam3 or clipseg",
    )
    require(text is None or bool(text.strip()), 'the text is empty: name the object, as in "dog"')


def object_finder(
    device: str = "auto", *, segmenter: str | None = None, text: str | None = None
) -> Finder:
    """What finds the object of a picture, for many pictures.

    Args:
        device: where the network runs.
        segmenter: `sam2`, `sam3`, `clipseg`, or the folder or hub id of such a model; None takes
            the foreground head, which is there without a download.
        text: names the object, for `sam3` and `clipseg`.

    Raises:
        InputError: no such device or segmenter, one that is not here and cannot be fetched, or
            cannot work with the text, or without one.
    """
    check_finding(None, segmenter, text)
    if segmenter is None:
        return functools.partial(find_object, model=load_foreground(device))
    for kind in SEGMENTERS:
        if segmenter == kind:  # said before anything is downloaded
            check_prompts(kind, text=text)
    network = load_segmenter(segmenter, resolve_device(device))
    check_prompts(network.kind, text=text)
    head = functools.cache(functools.partial(object_finder, device))  # loaded if it is needed
    return functools.partial(
        segment_object,
        segmenter=network,
        text=text,
        first=lambda image, hints: head()(image, hints),
    )


def segment_object(
    image: Image,
    hints: Hints | None = None,
    *,
    segmenter: Segmenter,
    text: str | None = None,
    first: Finder | None = None,
) -> FoundObject:
    """The object of an image by a published segmenter.

    By boxes and points it outlines what they name; without either `first` says where the object
    is. By a text it outlines all that the text names, of which a box and points choose. The image
    is looked at as it is and mirrored, and the mean of both decides.

    Args:
        image: uint8 RGB (H, W, 3).
        hints: where the object is.
        text: what it is.
        first: finds the object that is outlined where nothing names it; its doubts stay.

    Raises:
        InputError: a box or points that do not lie in the image, or a network that cannot be read.
        NothingFoundError: there is no object in it.
    """
    image, hints = check_image(image), hints or Hints()
    height, width = image.shape[:2]
    prompt = box = check_hints(hints, height=height, width=width)
    doubts: tuple[str, ...] = ()
    if text is None and box is None and not hints.points and first is not None:
        found = first(image, hints)
        prompt, doubts = mask_box(found.mask), found.doubts
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    looks = []
    for mirrored in (False, True):
        seen = pixels.flip(3) if mirrored else pixels
        if text is not None:
            look = segmenter.by_text(seen, text)
        else:
            look = segmenter.by_prompts(seen, **_prompts(hints, prompt, width, mirrored))
        looks.append(look.flip(1) if mirrored else look)
    mask = (torch.stack(looks).mean(dim=0) > 0).numpy()
    if text is not None:
        mask = mask_pieces(mask, at=hints.points, off=hints.background)
        if box is not None:
            mask &= box_mask(box, height=height, width=width)
    if not mask.any():
        raise (
            nothing_found()
            if text is None
            else NothingFoundError(f"nothing was found for {text!r}")
        )
    overlaps = [(look > 0).numpy() for look in looks]
    agreement = float(np.mean([(mask & one).sum() / (mask | one).sum() for one in overlaps]))
    more = mask_doubts(mask, agreement, box, hints.background)
    return FoundObject(mask, agreement, (*doubts, *more))


def _prompts(
    hints: Hints, box: tuple[float, ...] | None, width: int, mirrored: bool
) -> dict[str, Any]:
    """What a segmenter is told, of the image as it is or mirrored left-right."""
    points, background = hints.points, hints.background
    if mirrored:
        points, background = (
            tuple((width - 1 - x, y) for x, y in each) for each in (points, background)
        )
        if box is not None:
            box = (width - 1 - box[2], box[1], width - 1 - box[0], box[3])
    return {"box": box, "points": points, "background": background}
