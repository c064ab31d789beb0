"""Light: what a warped object takes over of the target's brightness and shading.

In: the warped object and the target, which show it at the same pixels. Out: the warped object.
Lightness is that of CIE Lab; hue and chroma stay the source's.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image, Mask

__all__ = ["Shading", "Tone", "relit"]

Tone = Literal["keep", "target"]
Shading = Literal["none", "target"]

_Lightness = npt.NDArray[np.float32]  # (H, W), 0 to 100

_SMOOTH = 0.1  # standard deviation of what counts as light, in roots of the object's area
_CONTRAST = (0.5, 2.0)  # limits: a flat object has no contrast to take over or to scale
_DETAIL = 0.06  # side of the window that detail fits in, in roots of the object's area
_EDGE = 8.0  # deviation of lightness in a window from which on it is an edge, no detail


def relit(warped: Image, target: Image, valid: Mask, *, tone: Tone, shading: Shading) -> Image:
    """The warped object in the target's light.

    Args:
        warped: uint8 or uint16 (H, W, 3), RGB; only read where `valid`.
        target: the same, with the old object.
        valid: bool (H, W), pixels of the object.
        tone: `target` moves the warped object's light, which is its smoothed lightness, to the mean
            and the standard deviation of the target's; the contrast at most doubles or halves.
        shading: `target` replaces the lightness detail, what an edge-preserving filter takes away,
            by the target's: folds, fur, highlights.

    Returns:
        (H, W, 3) in the same type; `warped` where not `valid`, and all of it for `keep` and `none`.

    Source: mean and deviation in Lab: Reinhard et al., Color Transfer between Images, CG&A 2001.
    Base and detail: He, Sun, Tang, Guided Image Filtering, ECCV 2010 (each guides itself).
    """
    if (tone == "keep" and shading == "none") or not valid.any():
        return warped
    import cv2

    side = float(np.sqrt(valid.sum()))
    lab, ground = _lab(warped), _lab(target)[..., 0]
    light = lab[..., 0]
    if shading == "target":
        light = _base(light, valid, side) + ground - _base(ground, valid, side)
    if tone == "target":
        own, wanted = (_smooth(each, valid, _SMOOTH * side) for each in (light, ground))
        spread, least = float(own[valid].std()), 1e-3
        contrast = np.clip(float(wanted[valid].std()) / max(spread, least), *_CONTRAST)
        moved = (own - own[valid].mean()) * contrast + wanted[valid].mean()
        light = light - own + moved
    lab[..., 0] = light.clip(0, 100)
    white = np.iinfo(warped.dtype).max
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * white
    return np.where(valid[..., None], np.floor(rgb + 0.5).astype(warped.dtype), warped)


def _lab(image: Image) -> npt.NDArray[np.float32]:
    import cv2

    scaled = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB), np.float32)


def _mean(values: _Lightness, valid: Mask, side: float) -> _Lightness:
    """The mean in a square window over the object alone; 0 where it has none of it."""
    import cv2

    size = (2 * round(side / 2) + 1,) * 2
    inside = valid.astype(np.float32)
    total, weight = (
        cv2.boxFilter(each, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for each in (values * inside, inside)
    )
    return np.asarray(total / np.maximum(weight, 1), np.float32)


def _smooth(light: _Lightness, valid: Mask, sigma: float) -> _Lightness:
    """Means of means of means, which weigh almost as a Gaussian."""
    for _ in range(3):
        light = _mean(light, valid, 2 * sigma)
    return light


def _base(light: _Lightness, valid: Mask, side: float) -> _Lightness:
    """Lightness without detail, edges kept."""
    window = max(4.0, _DETAIL * side)
    centre = _mean(light, valid, window)
    variance = (_mean(light * light, valid, window) - centre**2).clip(0)
    kept = np.asarray(variance / (variance + _EDGE**2), np.float32)
    return _mean(kept, valid, window) * light + _mean((1 - kept) * centre, valid, window)
