"""Noise that follows from seeds, on any device and whatever lies in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["NoiseDraws"]


class NoiseDraws:
    """Noise of a batch, draw after draw, one CPU generator per image."""

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], device: torch.device | str
    ) -> None:
        """Nothing is drawn yet.

        Args:
            seeds: B of them.
            shape: of one image's noise.
            device: where draws go.
        """
        self._shape, self._device = tuple(shape), torch.device(device)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(self) -> Tensor:
        """Standard normal, float32 (B, *shape)."""
        drawn = [torch.randn(self._shape, generator=generator) for generator in self._generators]
        noise = torch.stack(drawn)
        if self._device.type == "cuda":
            noise = noise.pin_memory()  # or the copy would wait for all that is queued
        return noise.to(self._device, non_blocking=True)
