"""One image bent by a known warp: the pixels, and exactly where each came from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image, Mask
from warpkit.warp.known import (
    KnownWarpConfig,
    photometric_jitter,
    random_fields,
    warp_with_fields,
)

__all__ = ["to_uint8", "warped_copy"]


def warped_copy(
    image: Image, config: KnownWarpConfig, *, seed: int, jitter: float
) -> tuple[Image, torch.Tensor, Mask]:
    """An image under a random known warp, its colours changed.

    Args:
        image: uint8 RGB (H, W, 3).
        config: how strong the warp is.
        seed: of the warp and the colours.
        jitter: strength of the change of colours, 0 to 1.

    Returns:
        The bent image, the field float32 (H, W, 2) of the pixels of `image` that it shows, and
        where these lie inside.
    """
    height, width = image.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    field = random_fields(1, height=height, width=width, config=config, generator=generator)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    bent, inside = warp_with_fields(pixels, field)
    bent = photometric_jitter(bent.clamp(0, 1), strength=jitter, generator=generator)
    return to_uint8(bent)[0], field[0], inside[0].numpy()


def to_uint8(images: torch.Tensor) -> list[Image]:
    """Float (B, 3, H, W) in [0, 1] as B arrays uint8 (H, W, 3)."""
    arrays: npt.NDArray[np.uint8] = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(array) for array in arrays]
