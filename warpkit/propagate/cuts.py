"""Scene cuts: whether two neighbouring frames show different scenes.

In: frames one after another. Out: for each, whether a new scene begins with it. Only hard cuts are
found; a fade changes too little from one frame to the next.

Two frames are of different scenes if their colours differ and their pictures are not alike.
Colours: the share of pixels that would have to change colour to make one histogram the other's
(CIELAB, coarse bins, smoothed so that lighting moves it little). Alikeness: the correlation of the
small grey pictures, the best over small shifts, so that motion and shake do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import check_image

__all__ = ["CutFinder", "FrameSketch", "difference", "is_cut", "sketch"]


_SIDE = 48  # pixels of the short side of the small picture
_BINS = (8, 6, 6)  # lightness, a, b
_SHIFT = 6  # pixels of the small picture
_FLAT = 2.0  # standard deviation in levels under which a picture correlates with nothing


@dataclass(frozen=True, eq=False)
class FrameSketch:
    """What is kept of a frame to compare it with the next.

    Attributes:
        grey: float32 (h, w), a small picture.
        colours: float32, its histogram, summing to 1.
    """

    grey: npt.NDArray[np.float32]
    colours: npt.NDArray[np.float32]


def sketch(image: Image) -> FrameSketch:
    """The sketch of a uint8 RGB frame (H, W, 3)."""
    import cv2

    image = check_image(image, "a frame")
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / min(height, width))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    colours: Any = cv2.calcHist([lab], [0, 1, 2], None, list(_BINS), [0, 256, 64, 192, 64, 192])
    kernel = np.array([0.25, 0.5, 0.25])
    for axis in range(3):
        padded = np.pad(colours, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        count = colours.shape[axis]
        colours = sum(
            weight * padded.take(range(i, i + count), axis=axis) for i, weight in enumerate(kernel)
        )
    colours = colours / max(float(colours.sum()), 1e-12)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return FrameSketch(grey, colours.astype(np.float32))


def difference(before: FrameSketch, after: FrameSketch) -> tuple[float, float]:
    """How much the colours of two frames differ, 0 to 1, and how alike they are, -1 to 1."""
    import cv2

    colours = float(np.abs(before.colours - after.colours).sum()) / 2
    inner = before.grey[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    if min(inner.shape) < 8 or min(inner.std(), after.grey.std()) < _FLAT:
        return colours, 1.0 if colours < 0.5 else 0.0
    scores = cv2.matchTemplate(after.grey, inner, cv2.TM_CCOEFF_NORMED)
    return colours, float(scores.max())


def is_cut(before: FrameSketch, after: FrameSketch, *, threshold: float) -> bool:
    """Whether a new scene begins between two frames.

    Args:
        threshold: for the geometric mean of the colours' difference and the lack of alikeness
            (1 - correlation); 0 to 1, smaller finds more.
    """
    colours, alike = difference(before, after)
    return (colours * min(max(1 - alike, 0.0), 1.0)) ** 0.5 > threshold


class CutFinder:
    """Tells for one frame after another whether a scene begins with it; the first is none.

    Example:
        >>> finder = CutFinder(threshold=0.35)
        >>> dark, light = np.zeros((2, 64, 64, 3), np.uint8), np.full((64, 64, 3), 240, np.uint8)
        >>> [finder.next(image) for image in (*dark, light, light)]
        [False, False, True, False]
    """

    def __init__(self, *, threshold: float, before: Image | None = None) -> None:
        self.threshold = threshold
        self._before = None if before is None else sketch(before)

    def next(self, image: Image) -> bool:
        """Whether a new scene begins with this frame, uint8 RGB (H, W, 3)."""
        now, before = sketch(image), self._before
        self._before = now
        return before is not None and is_cut(before, now, threshold=self.threshold)
