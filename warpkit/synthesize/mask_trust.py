"""How reliable a found mask is, and the half of it that is surest.

In: an image's descriptors and its mask. Out: `MaskTrust`. Nothing but the descriptors that found
the mask is asked, so it is a doubt, not a proof: docs/synthesize.md has what it was worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from warpkit.arrays import Mask
from warpkit.synthesize.masks import cells_at_pixels
from warpkit.types import DescriptorMap

__all__ = ["DOUBTFUL", "MaskTrust", "trust_mask"]

DOUBTFUL = 0.9
"""A mask of less trust is doubted."""


@dataclass(frozen=True, eq=False)
class MaskTrust:
    """What descriptors say of a mask.

    Attributes:
        share: of the cells, inside and outside in equal parts, that are more like the mean of their
            own side; 0 where a side has no cell.
        sure: bool (H, W), the half of the mask that is more like its mean, against what is around.
    """

    share: float
    sure: Mask


def trust_mask(descriptors: DescriptorMap, mask: Mask) -> MaskTrust:
    """Compare every cell of a map with the means inside and outside a mask.

    Args:
        descriptors: of the image.
        mask: bool (H, W), not empty.
    """
    rows = F.normalize(descriptors.data.detach().float().cpu().flatten(1).T, dim=1, eps=1e-12)
    h, w = descriptors.data.shape[1:]
    soft = F.interpolate(torch.from_numpy(mask)[None, None].float(), (h, w), mode="area").flatten()
    inside = soft > 0.5
    if not bool(inside.any()) or bool(inside.all()):
        return MaskTrust(0.0, mask)
    own, around = (F.normalize(rows[side].mean(dim=0), dim=0) for side in (inside, ~inside))
    more = rows @ (own - around)
    share = ((more[inside] > 0).float().mean() + (more[~inside] < 0).float().mean()) / 2
    pixels = cells_at_pixels(more.reshape(h, w), descriptors)
    sure = mask & (pixels >= pixels[torch.from_numpy(mask)].median()).numpy()
    return MaskTrust(float(share), sure)
