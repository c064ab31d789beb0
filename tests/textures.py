"""Smooth random pictures that flow and alignment can hold on to."""

from __future__ import annotations

import cv2
import numpy as np


def smooth_texture(seed: int, shape: tuple[int, ...], low: int = 0, high: int = 255) -> np.ndarray:
    """uint8 of a shape (H, W) or (H, W, 3), from `low` to `high`."""
    noise = np.random.default_rng(seed).uniform(0, 255, shape)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    spread = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.rint(low + (high - low) * spread).astype(np.uint8)
