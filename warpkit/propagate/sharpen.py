"""Soft labels pulled to the edges of the image, so that masks end where objects do.

In: soft labels at every pixel and the frame they belong to. Out: soft labels at every pixel whose
borders follow the colours of the frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["sharpen_soft"]

# The filter's coefficients are smooth: they are computed on a grid of about this many cells per
# radius and interpolated (He and Sun 2015).
_CELLS_PER_RADIUS = 4


def sharpen_soft(
    soft: Tensor, image: npt.NDArray[np.uint8], *, radius: float, smoothing: float
) -> Tensor:
    """Soft labels filtered by a guided filter whose guide is the frame itself.

    Within a window of `radius` a soft label becomes an affine function of the pixel's colour, so
    its border moves to the nearest edge of the frame. A plane of zeros stays zero: no object
    appears where none was within two radii.

    Args:
        soft: float (K, H, W) in [0, 1], one plane per object.
        image: uint8 (H, W, 3), RGB, the frame.
        radius: half side of the filter's window, as a part of the frame's short side; under half a
            pixel nothing is changed.
        smoothing: colour variance (colours in [0, 1]) below which a window counts as flat; smaller
            values follow fainter edges.

    Returns:
        float (K, H, W) in [0, 1].

    Source: He, Sun and Tang, "Guided image filtering", TPAMI 2013; the fast form, arXiv 1505.00996.
    """
    reach = int(radius * min(soft.shape[-2:]) + 0.5)
    present = soft.flatten(1).amax(dim=1) > 0
    if reach < 1 or not bool(present.any()):
        return soft
    from kornia.filters import guided_blur

    # Windows reach no further than the frame.
    side = 2 * min(reach, (min(soft.shape[-2:]) - 1) // 2) + 1
    guide = torch.tensor(image, device=soft.device).permute(2, 0, 1)[None].float() / 255
    sharp = soft.clone()
    # One object at a time: several together would multiply the memory of a large frame.
    for plane in torch.nonzero(present)[:, 0].tolist():
        sharp[plane] = guided_blur(
            guide,
            soft[None, plane, None],
            side,
            smoothing,
            subsample=max(1, reach // _CELLS_PER_RADIUS),
        )[0, 0]
    return sharp.clamp_(0, 1)
