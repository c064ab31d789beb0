"""Forward splatting: source values are thrown onto the target.

In: source values, where each source pixel lands in the target, and its weight. Out: a `Splat`
with the normalised values, the accumulated weight and the holes.

Source: softmax splatting, Niklaus and Liu, CVPR 2020, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warpkit.checks import require

__all__ = ["Splat", "fill_holes", "forward_splat", "softmax_weight"]

# exp(-60) is about 1e-26: far below any competitor, but it does not underflow to a hole.
_LEAST_EXPONENT = -60.0


@dataclass(frozen=True, eq=False)
class Splat:
    """Values thrown onto a target image.

    Attributes:
        values: float (C, H, W), weighted mean of what landed on each pixel; 0 in holes.
        weight: float (H, W), sum of the weights that landed.
        hole: bool (H, W), pixels on which nothing landed.
        lost: sum of the weights that landed outside the target.
    """

    values: Tensor
    weight: Tensor
    hole: Tensor
    lost: float

    def __post_init__(self) -> None:
        size = tuple(self.weight.shape)
        if (
            self.values.ndim != 3
            or tuple(self.values.shape[1:]) != size
            or tuple(self.hole.shape) != size
            or self.hole.dtype != torch.bool
        ):
            raise ValueError(
                "Splat must hold values (C, H, W), weight (H, W) and bool hole (H, W), got"
                f" {tuple(self.values.shape)}, {size}, {self.hole.dtype} {tuple(self.hole.shape)}"
            )


def softmax_weight(similarity: Tensor, tau: float, valid: Tensor | None = None) -> Tensor:
    """Splatting weights `exp((similarity - max) / tau)`: the best is 1, the invalid are 0.

    The common factor cancels in the normalisation and keeps the exponential from overflowing.
    Valid weights never underflow to 0: a pixel that only poor matches reach is no hole.

    Args:
        similarity: float tensor of any shape.
        tau: temperature, positive; the smaller, the more the best match wins.
        valid: bool of the same shape; None for all.

    Raises:
        InputError: if `tau` is not positive.
    """
    require(tau > 0, f"tau must be positive, got {tau:g}")
    if valid is None:
        valid = torch.ones_like(similarity, dtype=torch.bool)
    if not bool(valid.any()):
        return torch.zeros_like(similarity)
    exponent = (similarity - similarity[valid].max()) / tau
    return torch.where(valid, exponent.clamp(min=_LEAST_EXPONENT, max=0).exp(), 0)


def forward_splat(
    values: Tensor, target_xy: Tensor, weight: Tensor, *, height: int, width: int
) -> Splat:
    """Throw every source pixel onto the four target pixels around the place where it lands.

    Convention: `target_xy[y, x]` is the (x, y) target pixel on which source pixel (x, y) lands,
    centres at integers. Each of the four takes `weight` times its bilinear share; the result is
    the weighted mean. The parts of footprints outside the target are lost and counted:
    `Splat.weight.sum() + Splat.lost` is `weight.sum()`.

    Args:
        values: float (C, Hs, Ws); any channels (labels, colours; premultiply colours by their
            alpha, or transparent pixels mix in).
        target_xy: float (Hs, Ws, 2); only read where `weight` is positive.
        weight: float (Hs, Ws), not negative; 0 leaves a source pixel out.
        height: rows of the target.
        width: columns of the target.

    Returns:
        `Splat` of the target's size.

    Raises:
        InputError: for sizes that disagree, negative weights, or coordinates that are not finite.
    """
    size = tuple(weight.shape)
    require(
        values.ndim == 3
        and values.is_floating_point()
        and tuple(values.shape[1:]) == size
        and tuple(target_xy.shape) == (*size, 2),
        "forward_splat takes float values (C, H, W), target_xy (H, W, 2) and weight (H, W), got"
        f" {values.dtype} {tuple(values.shape)}, {tuple(target_xy.shape)} and {size}",
    )
    require(height > 0 and width > 0, f"the target needs a positive size, got {height} x {width}")
    require(bool((weight >= 0).all()), "splatting weights must not be negative (or undefined)")
    thrown = weight > 0
    xy, w, v = target_xy[thrown], weight[thrown].to(values.dtype), values[:, thrown]
    require(
        bool(xy.isfinite().all()),
        "target_xy must be finite where weight is positive: give weight 0 to what has no target",
    )

    corner = xy.floor()
    a, b = (xy - corner).to(values.dtype).unbind(1)
    # Far beyond any border is as good as just beyond it, and fits an integer.
    x0 = corner[:, 0].clamp(-2, width).long()
    y0 = corner[:, 1].clamp(-2, height).long()
    sums = values.new_zeros(len(values) + 1, height * width)  # the last row holds the weight
    lost = 0.0
    footprint = [
        (x0, y0, (1 - a) * (1 - b)),
        (x0 + 1, y0, a * (1 - b)),
        (x0, y0 + 1, (1 - a) * b),
        (x0 + 1, y0 + 1, a * b),
    ]
    for x, y, share in footprint:
        part = w * share
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        lost += float(part[~inside].sum())
        rows = torch.cat([v * part, part[None]])[:, inside]
        sums.index_add_(1, (y * width + x)[inside], rows)
    total = sums[-1]
    hole = total == 0
    mean = torch.where(hole, 0, sums[:-1] / torch.where(hole, 1, total))
    return Splat(
        mean.view(-1, height, width), total.view(height, width), hole.view(height, width), lost
    )


def fill_holes(splat: Splat, values: Tensor, valid: Tensor) -> Splat:
    """Fill holes from an image of the target's size, such as a backward-warped one.

    Args:
        splat: what was thrown.
        values: float (C, H, W), e.g. of `backward_warp`.
        valid: bool (H, W), where `values` may be used, e.g. `Warp.valid`.

    Returns:
        `Splat` whose `hole` marks what is still empty; `weight` is unchanged.

    Raises:
        InputError: for sizes that disagree.
    """
    require(
        values.shape == splat.values.shape and valid.shape == splat.hole.shape,
        f"to fill a splat of {tuple(splat.values.shape)} give values and valid of its size, got"
        f" {tuple(values.shape)} and {tuple(valid.shape)}",
    )
    filled = splat.hole & valid
    return replace(
        splat, values=torch.where(filled, values, splat.values), hole=splat.hole & ~valid
    )
