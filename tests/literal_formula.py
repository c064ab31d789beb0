"""The paper's formula, literally and in float32: it shares no code with the package.

A tap is what a residual block adds to its shortcut, computed from the block's input and output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def alpha_bars(train_steps: int = 1000) -> np.ndarray:
    """alpha-bar of every training step, float64."""
    betas = np.linspace(np.sqrt(0.00085), np.sqrt(0.012), train_steps) ** 2
    return np.cumprod(1.0 - betas)


def unet_and_taps(unet: Any, x: Tensor, t: int, text: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output of the network and what its decoder's residual blocks add, deepest block first."""
    taps: list[Tensor] = []

    def keep(block: Any, inputs: Any, output: Tensor) -> None:
        shortcut = inputs[0] if block.conv_shortcut is None else block.conv_shortcut(inputs[0])
        taps.append(output * block.output_scale_factor - shortcut)

    handles = [
        resnet.register_forward_hook(keep) for block in unet.up_blocks for resnet in block.resnets
    ]
    text = text.expand(len(x), -1, -1)
    predicted = unet(x, torch.tensor([t] * len(x)), encoder_hidden_states=text).sample
    for handle in handles:
        handle.remove()
    return predicted, taps


def bottleneck(state: dict[str, Tensor], layer: int, x: Tensor, groups: int) -> Tensor:
    """1x1, 3x3, 1x1, each with a group norm, beside a shortcut."""

    def conv_norm(name: str, x: Tensor, padding: int = 0) -> Tensor:
        key = f"bottleneck_layers.{layer}.0.{name}"
        y = F.conv2d(x, state[f"{key}.weight"], padding=padding)
        parts = y.reshape(len(y), groups, -1)
        parts = parts - parts.mean(-1, keepdim=True)
        parts = parts / torch.sqrt((parts**2).mean(-1, keepdim=True) + 1e-5)
        scale, shift = (state[f"{key}.norm.{name}"][:, None, None] for name in ("weight", "bias"))
        return parts.reshape(y.shape) * scale + shift

    y = conv_norm("conv1", x).clamp(min=0)
    y = conv_norm("conv3", conv_norm("conv2", y, 1).clamp(min=0))
    has_shortcut = f"bottleneck_layers.{layer}.0.shortcut.weight" in state
    return (y + (conv_norm("shortcut", x) if has_shortcut else x)).clamp(min=0)


class Descriptor:
    """The weighted sum over recorded steps and layers."""

    def __init__(self, state: dict[str, Tensor], groups: int, grid: tuple[int, int]) -> None:
        self.state, self.groups, self.grid = state, groups, grid
        exponentials = torch.exp(state["mixing_weights"].double())
        self.mixing = exponentials / exponentials.sum()
        self.total: Any = 0.0

    def add(self, entry: int, taps: list[Tensor]) -> None:
        for layer, tap in enumerate(taps):
            upsampled = F.interpolate(tap, size=self.grid, mode="bilinear", align_corners=False)
            weight = float(self.mixing[entry * len(taps) + layer])
            self.total += weight * bottleneck(self.state, layer, upsampled, self.groups)


@torch.no_grad()
def inversion(
    unet: Any,
    latent: Tensor,
    text: Tensor,
    total: Descriptor,
    *,
    num_steps: int,
    recorded: list[int],
) -> Tensor:
    """DDIM inversion at the noise level that each step departs from."""
    alpha, stride = alpha_bars(), 1000 // num_steps
    x = latent
    for i in range(num_steps):
        departs, arrives = -1 if i == 0 else stride * (i - 1), stride * i
        a, b = 1.0 if departs < 0 else alpha[departs], alpha[arrives]
        predicted, taps = unet_and_taps(unet, x, departs, text)
        if i in recorded:
            total.add(recorded.index(i), taps)
        if i == recorded[-1]:
            break
        clean = (x - np.sqrt(1 - a) * predicted) / np.sqrt(a)
        x = np.sqrt(b) * clean + np.sqrt(1 - b) * predicted
    return total.total


@torch.no_grad()
def generation(
    unet: Any,
    noise: Tensor,
    text: Tensor,
    empty: Tensor,
    total: Descriptor,
    *,
    num_steps: int,
    scale: float,
) -> Tensor:
    """Denoising with guidance; the conditional pass counts, at loop steps 0, 5, ... and last."""
    alpha, stride = alpha_bars(), 1000 // num_steps
    loop = sorted({*range(0, num_steps, 5), num_steps - 1})
    x = noise
    for i in range(num_steps):
        t = stride * (num_steps - 1 - i)
        conditional, taps = unet_and_taps(unet, x, t, text)
        base, _ = unet_and_taps(unet, x, t, empty)
        if i in loop:
            total.add(len(loop) - 1 - loop.index(i), taps)  # entry 0 is the cleanest
        predicted = base + scale * (conditional - base)
        a, b = alpha[t], alpha[t - stride] if t >= stride else 1.0
        clean = (x - np.sqrt(1 - a) * predicted) / np.sqrt(a)
        x = np.sqrt(b) * clean + np.sqrt(1 - b) * predicted
    return total.total
