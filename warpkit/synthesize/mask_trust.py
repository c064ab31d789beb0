"""How reliable a found mask is, and the half of it that is surest.

In: an image's descriptors and its mask. Out: `MaskTrust`. Nothing but the descriptors that found
the mask is asked, so it is a doubt, not a proof: docs/synthesize.md has what it was worth. A mask
of the foreground head brings its own doubts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from warpkit.arrays import Mask
from warpkit.synthesize.masks import cells_at_pixels
from warpkit.types import DescriptorMap

__all__ = ["DOUBTFUL", "TRUST_FACTS", "MaskTrust", "doubted", "trust_mask"]

DOUBTFUL = 0.9
"""A mask that clusters found is doubted if it has less trust."""

TRUST_FACTS = ("mask_trust", "mask_agreement", "mask_doubts")
"""What records say of masks that were found."""


def doubted(end: Mapping[str, Any]) -> bool:
    """Whether the mask of an image was found and is doubted, by its facts in a record."""
    return bool(end.get("mask_doubts")) or end.get("mask_trust", 1.0) < DOUBTFUL


@dataclass(frozen=True, eq=False)
class MaskTrust:
    """What is said of a mask that was found.

    Attributes:
        share: by clusters: of the cells, inside and outside in equal parts, that are more like the
            mean of their own side; 0 where a side has no cell. By the foreground head: how far
            zoomed and mirrored views agree (`warpkit.image.foreground.FoundObject.agreement`).
        sure: bool (H, W), the half of the mask that is more like its mean, against what is around.
        doubts: by the foreground head: what speaks against the mask; None by clusters.
    """

    share: float
    sure: Mask
    doubts: tuple[str, ...] | None = None

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        if self.doubts is None:
            return {"mask_trust": round(self.share, 3)}
        facts: dict[str, Any] = {"mask_agreement": round(self.share, 3)}
        return facts | ({"mask_doubts": list(self.doubts)} if self.doubts else {})


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
