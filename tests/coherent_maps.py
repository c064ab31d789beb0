"""Synthetic descriptor maps whose correspondence is known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import sample_descriptors
from warpkit.types import DescriptorMap


def random_map(
    height: int, width: int, *, cell: int = 5, channels: int = 48, seed: int = 0
) -> DescriptorMap:
    """A smooth random map: descriptors that change over a few cells and repeat nowhere."""
    generator = torch.Generator().manual_seed(seed)
    h, w = max(1, height // cell), max(1, width // cell)
    values = torch.randn(channels, 1, h, w, generator=generator)
    steps = torch.exp(-(torch.arange(-5, 6).float() ** 2) / (2 * 1.5**2))
    steps = steps / steps.sum()
    values = F.conv2d(F.pad(values, (5, 5, 5, 5), mode="replicate"), steps.view(1, 1, 1, -1))
    values = F.conv2d(values, steps.view(1, 1, -1, 1))[:, 0]
    return DescriptorMap.covering(values, height=height, width=width)


def moved_map(
    source: DescriptorMap,
    place: Callable[[Tensor], Tensor],
    *,
    height: int,
    width: int,
    cell: int = 5,
) -> DescriptorMap:
    """The map of a target whose pixel x shows the source's pixel `place(x)`, for x (N, 2)."""
    h, w = height // cell, width // cell
    y, x = (torch.arange(n) * cell + (cell - 1) / 2 for n in (h, w))
    centres = torch.stack([x.expand(h, w), y[:, None].expand(h, w)], dim=-1).reshape(-1, 2)
    values = sample_descriptors(source, place(centres)).T.reshape(-1, h, w)
    return DescriptorMap.covering(values, height=height, width=width)


def turned(degrees: float, scale: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Rotation and scale about the centre of an image of 240 x 320."""
    a = math.radians(degrees)
    matrix = scale * torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    centre = torch.tensor([159.5, 119.5])
    return lambda xy: (xy - centre) @ matrix.T + centre


def bent(xy: Tensor) -> Tensor:
    """A smooth bend."""
    return xy + torch.stack([12 * torch.sin(xy[:, 1] / 40), 10 * torch.cos(xy[:, 0] / 50)], dim=1)
