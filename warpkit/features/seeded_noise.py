"""Noise that follows from seeds, on any device and whatever lies in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["NoiseDraws"]


class NoiseDraws:
    """Noise of a batch, draw after draw, one CPU generator per image."""

    def __init__(self, seeds: Sequence[int], like: Tensor) -> None:
        """Nothing is drawn yet.

        Args:
            seeds: B of them.
            like: (B, ...), the draws' shape, type and device.
        """
        self._like = like
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def next(self) -> Tensor:
        """Standard normal, drawn in float32."""
        shape = self._like.shape[1:]
        drawn = [torch.randn(shape, generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(self._like)
