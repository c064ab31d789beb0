"""Where an object's pixels were in the first frame, found whole: for frames without one before.

In: descriptor maps and object masks of both frames. Out: pixels of the one and their places in the
other. Cells matched one by one (`cell_matches`) are wrong here and there; a coherent field
(`warpkit.coherent`) is solved whole.
"""

from __future__ import annotations

import numpy as np
import torch

from warpkit.arrays import Mask
from warpkit.coherent import CoherentConfig, coherent_field
from warpkit.propagate.cell_matches import PointMatches
from warpkit.types import DescriptorMap

__all__ = ["coherent_matches"]


# An object of a clip is not its own mirror image.
_CONFIG = CoherentConfig(mirror="never")
_DOUBT = 0.1  # weight of pixels whose way back leads elsewhere
_ERROR = 2.5  # cells of the descriptors: finer than that its bends are not to be believed


def coherent_matches(
    first: DescriptorMap, frame: DescriptorMap, *, first_mask: Mask, mask: Mask
) -> PointMatches:
    """Every pixel of an object with its place in the first frame.

    Args:
        first: descriptors of the first frame.
        frame: those of the frame, on the same device.
        first_mask: bool (H, W), the object in the first frame, not empty.
        mask: bool (H, W), the object in the frame, not empty.
    """
    device = frame.data.device
    planes = [torch.from_numpy(plane).to(device) for plane in (first_mask, mask)]
    found = coherent_field(
        first, frame, source_mask=planes[0], target_mask=planes[1], config=_CONFIG
    )
    # The smooth field, not `source_xy`: pixels pulled in to the outline say nothing of motion.
    xy = torch.nonzero(planes[1]).flip(1)
    source_xy, _ = found.at(xy)
    cell = max(1.0, _ERROR * max(frame.cell_height, frame.cell_width))
    # Every pixel is there: each stands for itself alone, not for a cell.
    weight = torch.where(found.valid[planes[1]], 1.0, _DOUBT) / cell**2
    return PointMatches(
        xy.cpu().numpy().astype(np.float32),
        source_xy.cpu().numpy().astype(np.float32),
        weight.cpu().numpy().astype(np.float32),
        cell,
    )
