"""What a network that knows objects in general says of an object's labels in a frame.

In: soft labels of a frame, and the frame. Out: evidence per cell and between cells, from a look at
the box of every object. Label propagation sees that a part looks like the object's of an earlier
frame; the network sees that it belongs to the thing in the box, though it never looked so before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from warpkit.arrays import Image
from warpkit.propagate.coverage import cell_coverage, soft_at_pixels
from warpkit.types import DescriptorMap

__all__ = ["BoxLook", "ObjectEvidence", "object_evidence"]

# Evidence counts no more than this, and outside what was looked at it speaks against the object.
_LIMIT = 3.0
# The network may see another object in the box, or more than the user's one: it counts from this
# intersection over union with the labels, and fully at the second.
_AGREES = (0.3, 0.7)
# An object's box leaves out this share of its labels at every side, and is grown by a part of its
# longer side.
_STRAY, _GROWN = 0.01, 0.05


class BoxLook(Protocol):
    """One look at the object in a box, such as `ForegroundModel.at_box`."""

    def __call__(
        self, image: Image, box: tuple[float, float, float, float]
    ) -> tuple[tuple[slice, slice], Tensor]:
        """Logits of the object at the pixels of the box and a margin, and where these are.

        Args:
            image: uint8 RGB (H, W, 3).
            box: `(x1, y1, x2, y2)`, pixels whose centres are at integers, both corners inside.

        Returns:
            Rows and columns, and float (rows, columns).
        """


@dataclass(frozen=True, eq=False)
class ObjectEvidence:
    """Log odds of objects, 0 for those that were not looked at.

    Attributes:
        cells: float (K, h, w), means over the cells of the grid.
        finer: float (K, H, W), at pixels: what the means do not say of the borders between cells.
    """

    cells: Tensor
    finer: Tensor


def object_evidence(
    soft: Tensor, descriptors: DescriptorMap, image: Image, look: BoxLook
) -> ObjectEvidence:
    """What a look at each object's box adds to the log odds of its soft labels.

    Args:
        soft: float (K, h, w) in [0, 1], on the grid of `descriptors`.
        descriptors: of the frame.
        image: uint8 RGB (H, W, 3), the frame.
    """
    evidence, finer = torch.zeros_like(soft), soft.new_zeros((len(soft), *image.shape[:2]))
    for plane, between, labels in zip(evidence, finer, soft, strict=True):
        box = _labels_box(labels, descriptors)
        if box is None:
            continue
        region, logits = look(image, box)
        seen = torch.full_like(between, -_LIMIT)
        seen[region] = logits.to(soft).clamp(-_LIMIT, _LIMIT)
        cells = cell_coverage(seen[None], descriptors)
        thing, labelled = cells[0] > 0, labels > 0.5
        overlap = (thing & labelled).sum() / (thing | labelled).sum().clamp(min=1)
        low, high = _AGREES
        agreement = ((overlap - low) / (high - low)).clamp(0, 1)
        plane.copy_(agreement * cells[0])
        between.copy_(agreement * (seen - soft_at_pixels(cells, descriptors)[0]))
    return ObjectEvidence(evidence, finer)


def _labels_box(
    labels: Tensor, descriptors: DescriptorMap
) -> tuple[float, float, float, float] | None:
    """The box in pixels of the labels (h, w) above a half; None if they fill no two rows."""
    mass = labels * (labels > 0.5)
    ends = []
    for along, cell in ((0, descriptors.cell_width), (1, descriptors.cell_height)):
        share = mass.sum(dim=along).double().cumsum(0)
        if (share.diff(prepend=share.new_zeros(1)) > 0).sum() < 2:
            return None
        first, last = (share <= part * share[-1] for part in (_STRAY, 1 - _STRAY))
        ends.append((float(first.sum()) * cell, float(last.sum() + 1) * cell - 1))
    (left, right), (top, bottom) = ends
    grown = _GROWN * max(right - left, bottom - top)
    return (
        max(0.0, left - grown),
        max(0.0, top - grown),
        min(descriptors.width - 1.0, right + grown),
        min(descriptors.height - 1.0, bottom + grown),
    )
