"""A check of inversion: images to noise and back."""

from __future__ import annotations

import torch
from torch import Tensor

from warpkit.features.diffusion import DiffusionBackbone

__all__ = ["inversion_round_trip"]


@torch.no_grad()
def inversion_round_trip(backbone: DiffusionBackbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """Invert images to noise and generate them again, all DDIM steps, without guidance.

    Args:
        images: float (B, 3, H, W) in [0, 1], sides multiples of the backbone's.

    Returns:
        The images that come back, (B, 3, H, W) in [0, 1], and the PSNR of each in dB, (B,):
        10 log10 of 1 over the mean squared error; infinite where nothing changed.
    """
    images = images.to(backbone.device)
    noise = backbone.invert_to_noise(backbone.codec.encode(images).float())
    prompts = [backbone.settings.prompt] * len(images)
    back = backbone.generate(prompts, noise, guidance_scale=1, clip=False)
    return back, -10 * torch.log10((back - images).square().mean((1, 2, 3)))
