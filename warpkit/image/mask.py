"""`warpkit mask`: a mask for `warp` and `propagate`, from any image or video.

In: an image, or a video and a moment, and hints. Out: a mask with a picture of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from warpkit.arrays import Image
from warpkit.checks import InputError, require
from warpkit.image.foreground import FoundObject, Hints
from warpkit.image.segment import object_finder
from warpkit.image.transparency import opaque_part, seen_picture
from warpkit.io.frames import open_frames
from warpkit.io.images import IMAGE_SUFFIXES, write_image
from warpkit.io.masks import write_labels
from warpkit.io.moments import frame_at
from warpkit.io.pictures import read_picture
from warpkit.io.whole import written_together
from warpkit.runs.folder import check_result_file
from warpkit.viz import overlay_labels

__all__ = ["parse_hints", "run_mask"]

_log = logging.getLogger("warpkit")

_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d*)?|-?\.\d+)\s*(%?)\s*")


def parse_hints(
    *, box: str | None, points: Sequence[str], background: Sequence[str], height: int, width: int
) -> Hints:
    """Hints from text: numbers in pixels, or in percent of the image's width and height.

    Args:
        box: `"x1,y1,x2,y2"`; `"10%,20%,60%,80%"` are edges, so that `0%` and `100%` are the
            image's own.
        points: `"x,y"` each, on the object; `"50%,50%"` is the image's centre.
        background: the same, off it.

    Raises:
        InputError: anything else.
    """
    sizes = (width, height)

    def numbers(text: str, count: int, example: str) -> tuple[float, ...]:
        parts = [_NUMBER.fullmatch(part) for part in text.split(",")]
        known = [part for part in parts if part is not None]
        if len(parts) != count or len(known) != count:
            raise InputError(f"expected {example} in pixels or percent, got {text!r}")
        return tuple(
            float(part[1]) * sizes[at % 2] / 100 - 0.5 if part[2] else float(part[1])
            for at, part in enumerate(known)
        )

    found = None if box is None else numbers(box, 4, 'a box as "x1,y1,x2,y2"')
    on, off = (
        tuple(numbers(text, 2, 'a point as "x,y"')[:2] for text in given)
        for given in (points, background)
    )
    return Hints(found, on, off)  # type: ignore[arg-type]  # lengths are checked above


def run_mask(
    path: Path | str,
    output: Path | str,
    *,
    frame: str | None = None,
    box: str | None = None,
    points: Sequence[str] = (),
    background: Sequence[str] = (),
    segmenter: str | None = None,
    text: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> tuple[FoundObject, Path]:
    """Find the object of an image or of a frame and write its mask, with a picture beside it.

    Args:
        path: an image, a video or a folder of frames. Of an image with transparency what is opaque
            is looked at, as `warp` does.
        output: the `.png` to write, object 1 on 0; the picture is called `<stem>_preview.jpg`.
        frame: a moment of a video or folder (see `warpkit.io.moments`); None is its first frame.
        box, points, background: see `parse_hints`; none finds the most prominent object.
        segmenter, text: see `warpkit.image.segment.object_finder`; None is the foreground head.
        device: where the network runs.
        overwrite: replace files that are there.

    Returns:
        What was found, and where the picture is.

    Raises:
        InputError: files that cannot be read or written, hints that do not lie in the image, a
            segmenter that cannot work with them or is not here, or nothing was found.
    """
    output = Path(output)
    require(output.suffix.lower() == ".png", f"masks are PNG files: call it {output.stem}.png")
    preview = output.with_name(f"{output.stem}_preview.jpg")
    for file in (output, preview):
        check_result_file(file, overwrite=overwrite, inputs=[path])
    image = _read(Path(path), frame)
    height, width = image.shape[:2]
    hints = parse_hints(box=box, points=points, background=background, height=height, width=width)
    found = object_finder(device, segmenter=segmenter, text=text)(image, hints)
    labels = found.mask.astype(np.uint8)
    with written_together(output, preview) as (mask_file, picture_file):
        assert mask_file is not None
        assert picture_file is not None
        write_labels(mask_file, labels)
        write_image(picture_file, overlay_labels(image, labels))
    return found, preview


def _read(path: Path, frame: str | None) -> Image:
    if frame is None and path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        picture = read_picture(path)
        if opaque_part(picture) is not None:
            _log.info(
                "%s is transparent in part: without a mask, warp and match take what is opaque of"
                " it as its object",
                path,
            )
        return seen_picture(picture)
    frames = open_frames(path)
    return frames.read(frame_at(frames, frame or "0")).image
