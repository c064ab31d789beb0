"""Aggregators in the layout of the published files."""

from __future__ import annotations

import torch
from torch import Tensor

SD15_CHANNELS = (1280,) * 6 + (640,) * 3 + (320,) * 3
SD15_CONFIG = {
    "model_id": "runwayml/stable-diffusion-v1-5",
    "save_timestep": [49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0],
    "num_timesteps": 50,
    "projection_dim": 384,
    "prompt": "",
    "guidance_scale": -1,
    "diffusion_mode": "inversion",
}


def published_state(
    channels: tuple[int, ...] = SD15_CHANNELS, steps: int = 11
) -> dict[str, Tensor]:
    """A random state dict under the names of the published files."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    state = {"mixing_weights": draw(steps * len(channels)) * 20}
    for layer, inputs in enumerate(channels):
        shapes = {
            "conv1": (96, inputs, 1, 1),
            "conv2": (96, 96, 3, 3),
            "conv3": (384, 96, 1, 1),
            "shortcut": (384, inputs, 1, 1),
        }
        for name, shape in shapes.items():
            root = f"bottleneck_layers.{layer}.0.{name}"
            state[f"{root}.weight"] = draw(*shape)
            state[f"{root}.norm.weight"] = draw(shape[0]) + 1
            state[f"{root}.norm.bias"] = draw(shape[0])
    return state
