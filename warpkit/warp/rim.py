"""The rim of an object: pixels at its outline that mix its colours with those behind it.

In: an image and the object's mask. Out: the object's own colours on its side of the outline, or the
image with another object's colours in the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image, Mask

__all__ = ["RIM", "object_colors", "swapped_rim", "with_nearest"]

RIM = 2
"""Pixels outside a mask whose colours may be mixed with the object's."""

_SURE = 20 / 255  # colours that are less apart say little about their mixture
_BLUR = 0.6  # standard deviation in pixels of what the outline's pixels are averaged over


def with_nearest(image: Image, known: Mask) -> Image:
    """An image whose pixels outside `known` have the colours of the nearest one inside.

    Args:
        image: (H, W, C).
        known: bool (H, W), not empty.
    """
    filled: Image = image.reshape(-1, image.shape[2])[_nearest(known)]
    return filled


def _nearest(known: Mask) -> npt.NDArray[np.int64]:
    """The flat index of the nearest pixel inside `known`, int64 (H, W)."""
    import cv2

    labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    index = np.zeros(int(labels.max()) + 1, np.int64)
    index[labels[known]] = np.flatnonzero(known)
    found: npt.NDArray[np.int64] = index[labels]
    return found


@dataclass(frozen=True, eq=False)
class _Mixture:
    """What the colours of N pixels at an outline are made of: share * inner + (1 - share) * outer.

    Attributes:
        at: int64 (N,), their flat indices.
        share: float32 (N, 1), the object's.
        inner, outer: float32 (N, C), colours of the object and of what is behind it.
    """

    at: npt.NDArray[np.int64]
    share: npt.NDArray[np.float32]
    inner: npt.NDArray[np.float32]
    outer: npt.NDArray[np.float32]


def _mixture(image: Image, mask: Mask, wanted: Mask) -> _Mixture:
    """How the pixels `wanted` of an image are mixed.

    The object's colour is that of the nearest pixel more than one pixel inside the mask, the other
    that of the nearest more than `RIM` outside. The share is where the pixel's colour lies between
    both (Gastal, Oliveira, Shared Sampling for Real-Time Alpha Matting, EG 2010, eq. 2), drawn
    towards the blurred mask where both are alike.
    """
    import cv2

    at = np.flatnonzero(wanted)
    core, clean = _distance(mask) > 1, _distance(~mask) > RIM
    core = core if core.any() else mask
    colors = image.reshape(-1, image.shape[2])
    inner, outer, seen = (
        colors[index].astype(np.float32)
        for index in (_nearest(core).flat[at], _nearest(clean).flat[at], at)
    )
    blurred = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), _BLUR).flat[at]
    apart = inner - outer
    prior = np.float32(_SURE * _white(image)) ** 2
    share = ((seen - outer) * apart).sum(axis=1) + prior * blurred
    share = (share / ((apart**2).sum(axis=1) + prior)).clip(0, 1)
    return _Mixture(at, share[:, None], inner, outer)


def object_colors(image: Image, mask: Mask) -> Image:
    """An image whose outermost pixels inside the mask are freed of the colours behind the object.

    Args:
        image: uint8 or uint16 (H, W, 3).
        mask: bool (H, W), the object.

    Returns:
        A copy; it differs from the image in pixels inside the mask that touch its outline.
    """
    if not _has_rim(mask):
        return image
    mixed = _mixture(image, mask, mask & (_distance(mask) <= 1))
    return _with_added(image, mixed.at, (1 - mixed.share) * (mixed.inner - mixed.outer))


def swapped_rim(
    image: Image, mask: Mask, laid: Image, shown: Mask, *, alpha: Image | None = None
) -> Image:
    """An image in which what an object's colours add outside its mask is another object's.

    Args:
        image: uint8 or uint16 (H, W, 3), with the old object.
        mask: bool (H, W), that object.
        laid: (H, W, 3) in the same type, the new object's colours.
        shown: bool (H, W), where they are known; the rest of the mask keeps the old object.
        alpha: (H, W) of a cut-out, whose soft edge takes the new colours alone.

    Returns:
        A copy; it differs from the image at most `RIM` pixels outside the mask.
    """
    beside = ~mask & (_distance(~mask) <= RIM) & (_distance(~shown) <= RIM + 1)
    if not _has_rim(mask) or not beside.any():
        return image
    mixed = _mixture(image, mask, beside)
    new = laid.reshape(-1, 3)[_nearest(shown).flat[mixed.at]].astype(np.float32)
    added = mixed.share * (new - mixed.inner)
    if alpha is not None:
        soft = alpha.flat[mixed.at] < _half(alpha)
        added[soft] = (new - image.reshape(-1, 3)[mixed.at])[soft]
    return _with_added(image, mixed.at, added)


def _has_rim(mask: Mask) -> bool:
    """Whether there is an outline, and something beyond its rim."""
    return bool(mask.any() and (_distance(~mask) > RIM).any())


def _distance(mask: Mask) -> npt.NDArray[np.float32]:
    """Pixels to the nearest one outside the mask; 1 is the first inside, the border is none."""
    import cv2

    return np.asarray(
        cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    )


def _with_added(image: Image, at: npt.NDArray[np.int64], added: npt.NDArray[np.float32]) -> Image:
    out = image.reshape(-1, image.shape[2]).copy()
    out[at] = np.floor(out[at] + added + 0.5).clip(0, _white(image)).astype(image.dtype)
    return out.reshape(image.shape)


def _white(image: Image) -> int:
    return int(np.iinfo(image.dtype).max)


def _half(alpha: Image) -> int:
    """The least value that is half opaque."""
    return (_white(alpha) + 1) // 2
