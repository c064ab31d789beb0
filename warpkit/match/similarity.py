"""How alike one point of an image is to every pixel of another.

In: two `DescriptorMap`s and a point of the first. Out: a map of cosines over the second.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from warpkit.checks import check_points, require
from warpkit.coords import pixel_grid, sample_descriptors
from warpkit.types import DescriptorMap

__all__ = ["similarity_map"]

_BLOCK_FLOATS = 2**24  # descriptors of one block of pixels: 64 MB


def similarity_map(source: DescriptorMap, target: DescriptorMap, point: Any) -> Tensor:
    """Cosine between the descriptor of one source point and that of every target pixel.

    Convention: the point is (x, y) in pixels of the source image, read exactly where it is.

    Args:
        source: map of the image that the point is in.
        target: map of the other image, with as many channels.
        point: (2,), array, tensor or list.

    Returns:
        float32 (target height, target width) in [-1, 1], on the device of `target`.

    Raises:
        InputError: a point outside the source, or maps of different widths.
    """
    require(
        source.channels == target.channels,
        f"descriptors of {source.channels} and {target.channels} channels cannot be compared: use"
        " one model",
    )
    if isinstance(point, Tensor):
        point = point.detach().cpu().numpy()
    xy = check_points([point], height=source.height, width=source.width)
    query = sample_descriptors(source, torch.from_numpy(xy).to(source.data.device))[0]
    query = query.to(target.data.device)
    pixels = pixel_grid(height=target.height, width=target.width, device=target.data.device)
    rows = max(1, _BLOCK_FLOATS // (target.channels * target.width))
    blocks = [
        sample_descriptors(target, block.reshape(-1, 2)) @ query for block in pixels.split(rows)
    ]
    return torch.cat(blocks).reshape(target.height, target.width).clamp(-1, 1)
