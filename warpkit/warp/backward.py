"""Backward warping: every valid target pixel takes its value from the source.

In: source values and a `Warp`. Out: values of the target's size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from warpkit.checks import one_of, require
from warpkit.coords import sample_nearest
from warpkit.types import Warp

__all__ = ["Interpolation", "backward_warp"]

Interpolation = Literal["bilinear", "nearest"]


def backward_warp(
    image: Tensor,
    warp: Warp,
    *,
    interpolation: Interpolation = "bilinear",
    source_mask: Tensor | None = None,
) -> Tensor:
    """Values of the source at every valid target pixel.

    Convention: coordinates are (x, y) source pixels, centres at integers, clamped at the border.
    `nearest` rounds halves up. Bilinear weights are normalised over the pixels inside
    `source_mask`, so nothing from outside it leaks in; where all four neighbours are outside, the
    nearest pixel is taken.

    Args:
        image: float (C, source height, source width).
        warp: for every target pixel the source coordinate.
        interpolation: `bilinear` or `nearest` (the paper's).
        source_mask: bool (source height, source width), the mask that the warp was made with.

    Returns:
        (C, H, W) of the target's size in the dtype of `image`; 0 where the warp is not valid.

    Raises:
        InputError: for sizes that disagree with the warp, an unknown interpolation, or a warp
            that reads outside `source_mask`.
    """
    one_of(interpolation, ["bilinear", "nearest"], "interpolation")
    size = (warp.source_height, warp.source_width)
    require(
        image.ndim == 3 and image.is_floating_point() and tuple(image.shape[1:]) == size,
        f"the warp reads a float source (C, {size[0]}, {size[1]}), got {image.dtype}"
        f" {tuple(image.shape)}",
    )
    xy = warp.source_xy[warp.valid].to(image.device)
    weight = torch.ones(size, dtype=image.dtype, device=image.device)
    if source_mask is not None:
        require(
            tuple(source_mask.shape) == size and source_mask.dtype == torch.bool,
            f"source_mask must be a bool tensor ({size[0]}, {size[1]}), got {source_mask.dtype}"
            f" {tuple(source_mask.shape)}",
        )
        source_mask = source_mask.to(image.device)
        outside = int((~sample_nearest(source_mask, xy)).sum())
        require(
            outside == 0,
            f"{outside} valid pixels of the warp lead outside source_mask: give the mask that the"
            " warp was made with",
        )
        # Removed, not only weighted by 0: what lies outside may be infinite or undefined.
        image = torch.where(source_mask, image, 0)
        weight = source_mask.to(image.dtype)

    out = image.new_zeros(len(image), warp.height, warp.width)
    read = _bilinear if interpolation == "bilinear" else _nearest
    out[:, warp.valid.to(image.device)] = read(image, weight, xy)
    return out


def _nearest(image: Tensor, weight: Tensor, xy: Tensor) -> Tensor:
    return sample_nearest(image, xy)


def _bilinear(image: Tensor, weight: Tensor, xy: Tensor) -> Tensor:
    """Values (C, N) at points (N, 2): sum_j b_j m_j v_j / sum_j b_j m_j over four pixels j."""
    height, width = weight.shape
    x = xy[:, 0].to(image.dtype).clamp(0, width - 1)
    y = xy[:, 1].to(image.dtype).clamp(0, height - 1)
    x0, y0 = x.floor().long(), y.floor().long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    a, b = x - x0, y - y0
    value = image.new_zeros(len(image), len(xy))
    total = image.new_zeros(len(xy))
    corners = [
        (y0, x0, (1 - a) * (1 - b)),
        (y0, x1, a * (1 - b)),
        (y1, x0, (1 - a) * b),
        (y1, x1, a * b),
    ]
    for row, column, share in corners:
        share = share * weight[row, column]
        value += share * image[:, row, column]
        total += share
    nearest = sample_nearest(image, xy)
    return torch.where(total > 0, value / total.clamp(min=torch.finfo(total.dtype).tiny), nearest)
