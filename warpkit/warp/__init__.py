"""Warping: the dense field, backward warps, forward warps, blending."""

from warpkit.warp.backward import backward_warp
from warpkit.warp.blend import blend
from warpkit.warp.field import dense_warp, dense_warps
from warpkit.warp.splat import Splat, fill_holes, forward_splat, softmax_weight

__all__ = [
    "Splat",
    "backward_warp",
    "blend",
    "dense_warp",
    "dense_warps",
    "fill_holes",
    "forward_splat",
    "softmax_weight",
]
