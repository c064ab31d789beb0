"""The pictures of a warp: the source's colours at the target's pixels, alone and on the target.

In: a pair and the field between its images. Out: RGBA, and RGB with the target's alpha if it has
one.
"""

from __future__ import annotations

import numpy as np
import torch

from warpkit.arrays import Image
from warpkit.image.pair import ImagePair
from warpkit.image.transparency import own_colors
from warpkit.io.pictures import Levels
from warpkit.types import Warp
from warpkit.warp.backward import Interpolation, backward_warp
from warpkit.warp.blend import BlendMode, lay_over
from warpkit.warp.rim import object_colors
from warpkit.warp.tone import Shading, Tone, relit

__all__ = ["composed", "on_plain"]


def composed(
    pair: ImagePair,
    field: Warp,
    *,
    interpolation: Interpolation,
    blend: BlendMode,
    feather: float,
    tone: Tone,
    shading: Shading,
    strength: float,
) -> tuple[Levels, Levels]:
    """The warped object and the composite, as `WarpResult` has them.

    Args:
        field: on the CPU; what is valid of it is shown.
        interpolation, blend, feather, tone, shading, strength: as in `WarpSettings`.
    """
    deep = any(picture.deep is not None for picture in pair.pictures)
    source = own_colors(pair.pictures[0], deep=deep)
    target = own_colors(pair.pictures[1], deep=deep, seen=True)
    if pair.source_mask is not None and interpolation == "bilinear":
        source = object_colors(source, pair.source_mask.numpy())
    colors = backward_warp(
        torch.from_numpy(source.astype(np.float32)).permute(2, 0, 1),
        field,
        interpolation=interpolation,
        source_mask=pair.source_mask,
    )
    white = np.iinfo(target.dtype).max
    rgb = colors.round().clamp(0, white).permute(1, 2, 0).numpy().astype(target.dtype)
    covered = field.valid.numpy()
    warped = np.dstack([rgb, covered.astype(target.dtype) * white])
    alpha = pair.pictures[1].opacity
    if alpha is not None and alpha.dtype != target.dtype:
        alpha = alpha.astype(np.uint16) * 257
    laid = lay_over(
        target,
        relit(rgb, target, covered, tone=tone, shading=shading),
        covered,
        mode=blend,
        feather_width=feather,
        outline=None if pair.target_mask is None else pair.target_mask.numpy(),
        alpha=alpha,
    )
    if strength < 1:
        mixed = strength * laid.astype(np.float32) + (1 - strength) * target
        laid = np.floor(mixed + 0.5).astype(target.dtype)
    if alpha is None:
        return warped, laid
    # Under what is transparent nothing is left, neither of the target's nor of the source's.
    return warped, np.dstack([laid * (alpha > 0)[..., None], alpha])


def on_plain(composite: Levels, ground: Image) -> Image:
    """A composite to be looked at: uint8 (H, W, 3), before `ground` where it is transparent."""
    if composite.dtype == np.uint16:
        composite = (composite >> 8).astype(np.uint8)
    if composite.shape[2] == 3:
        return composite
    share = composite[..., 3:].astype(np.float32) / 255
    mixed = share * composite[..., :3] + (1 - share) * ground
    return np.floor(mixed + 0.5).astype(np.uint8)
