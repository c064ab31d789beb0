"""A warp in one picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from warpkit.arrays import Image, Mask
from warpkit.coherent import FieldQuality
from warpkit.image.composite import on_plain
from warpkit.io.pictures import Levels
from warpkit.types import Warp
from warpkit.viz import add_scale, field_colors, heat, overlay_labels, panel, source_colors

__all__ = ["warp_overview"]


def warp_overview(
    source: Image,
    target: Image,
    warped: Levels,
    composite: Levels,
    warp: Warp,
    quality: FieldQuality | None = None,
    *,
    source_mask: Mask | None = None,
    target_mask: Mask | None = None,
) -> Image:
    """One labelled picture of a warp: inputs with masks, result, field, similarity.

    Args:
        source: uint8 RGB (Hs, Ws, 3).
        target: uint8 RGB (H, W, 3), shown where the composite is transparent.
        warped, composite, warp, quality: as in `WarpResult`.
        source_mask, target_mask: to be outlined, bool of the images' sizes.

    Returns:
        uint8 RGB, six tiles of 300 pixels in height.
    """

    def outlined(image: Image, mask: Mask | None) -> Image:
        # The outline alone: the colours are what is warped.
        return image if mask is None else overlay_labels(image, mask.astype(np.uint8), alpha=0)

    # Tiles are small: large pictures are thinned before anything is coloured.
    step, there = (max(1, image.shape[0] // 600) for image in (source, target))
    source, target = source[::step, ::step], target[::there, ::there]
    source_mask = None if source_mask is None else source_mask[::step, ::step]
    target_mask = None if target_mask is None else target_mask[::there, ::there]
    field = _thinned(warp, there)
    valid = field.valid.numpy()
    opaque = torch.from_numpy(warped[::there, ::there, 3] > 0)
    shown = dataclasses.replace(field, valid=opaque)
    similarity = field.similarity.numpy()
    low = float(similarity[valid].min()) if valid.any() else 0.0
    high = float(similarity[valid].max()) if valid.any() else 1.0
    heat_map = add_scale(
        heat(similarity, valid, low=low, high=high), low=low, high=high, label="cosine"
    )
    tiles = [
        ("source", outlined(source, source_mask)),
        ("target", outlined(target, target_mask)),
        ("composite", on_plain(composite[::there, ::there], target)),
        ("source, coloured by place", source_colors(source, source_mask)),
        (_field_title(quality), field_colors(shown, target)),
        ("similarity", heat_map),
    ]
    return panel(tiles, columns=3, height=300)


def _thinned(field: Warp, step: int) -> Warp:
    """Every `step`-th row and column of a warp."""
    return dataclasses.replace(
        field,
        source_xy=field.source_xy[::step, ::step],
        similarity=field.similarity[::step, ::step],
        valid=field.valid[::step, ::step],
    )


def _field_title(quality: FieldQuality | None) -> str:
    if quality is None:
        return "where pixels come from"
    mirrored = ", mirrored" if quality.mirrored else ""
    return (
        f"where pixels come from{mirrored}: the way back agrees for"
        f" {100 * quality.consistent:.0f} %, {quality.folds:.1f} % folded,"
        f" cosine {quality.cosine:.2f}"
    )
