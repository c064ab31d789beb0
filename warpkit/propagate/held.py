"""How much of an object the grid can hold: what no propagation gets over.

In: the labels of an annotated frame. Out: their overlap with what is left of them after a way to
the cells and back. Lines, spokes and whatever is thinner than a cell are lost on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from warpkit.arrays import Image, Labels
from warpkit.propagate.coverage import cell_coverage, finer_grid, one_hot
from warpkit.propagate.label_config import LabelConfig
from warpkit.propagate.label_decision import decide_labels
from warpkit.types import DescriptorMap

__all__ = ["held_by_grid"]


def held_by_grid(
    labels: Labels,
    descriptors: DescriptorMap,
    image: Image,
    object_ids: Sequence[int],
    config: LabelConfig,
) -> Tensor:
    """Intersection over union of every object with what the grid holds of it: float32 (K,).

    Args:
        labels: uint8 (H, W), object ids.
        descriptors: of the frame, or of another of the clip: its grid alone counts.
        image: uint8 RGB (H, W, 3), the frame.

    Returns:
        1 for an object that the frame does not show.
    """
    planes = one_hot(labels, object_ids, descriptors.data.device)
    soft = cell_coverage(planes, finer_grid(descriptors, config.refine))
    left = decide_labels(soft, descriptors, image, object_ids, config).labels
    held = []
    for i in object_ids:
        ours, theirs = left == i, labels == i
        union = np.count_nonzero(ours | theirs)
        held.append(np.count_nonzero(ours & theirs) / union if union else 1.0)
    return torch.tensor(held)
