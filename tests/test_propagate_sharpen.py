"""Masks that end at the edges of the image, and invent nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from warpkit.propagate.sharpen import sharpen_soft


def blurred(mask: np.ndarray, sigma: float) -> torch.Tensor:
    import cv2

    return torch.from_numpy(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma))[None]


def scene(height: int = 91, width: int = 133) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture of a bright disc, and its mask."""
    y, x = np.mgrid[:height, :width]
    mask = (x - 61) ** 2 + (y - 40) ** 2 < 25**2
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    colours = np.where(mask[..., None], (200, 150, 60), (70, 80, 110))
    return np.clip(colours + noise, 0, 255).astype(np.uint8), mask


def overlap(soft: torch.Tensor, mask: np.ndarray) -> float:
    found = (soft[0] > 0.5).numpy()
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize("shift", [0, 4])
def test_borders_move_to_the_edges(shift: int) -> None:
    image, mask = scene()
    soft = blurred(np.roll(mask, shift, axis=1), 4)
    sharp = sharpen_soft(soft, image, radius=0.1, smoothing=1e-4)
    assert overlap(sharp, mask) > 0.97
    assert overlap(soft, mask) < (0.97 if shift == 0 else 0.9) + (shift == 0)
    assert overlap(sharp, mask) >= overlap(soft, mask) - 0.02
    assert sharp.min() >= 0
    assert sharp.max() <= 1


def test_an_absent_object_stays_absent_and_far_pixels_stay_empty() -> None:
    image, mask = scene()
    soft = torch.cat([blurred(mask, 2), torch.zeros(1, *mask.shape)])
    sharp = sharpen_soft(soft, image, radius=0.05, smoothing=1e-4)
    assert not sharp[1].any()
    assert sharp[0, :, 110:].abs().max() < 1e-4


def test_nothing_is_done_without_a_radius_or_an_object() -> None:
    image, mask = scene()
    soft = blurred(mask, 2)
    assert sharpen_soft(soft, image, radius=0, smoothing=1e-4) is soft
    nothing = torch.zeros_like(soft)
    assert sharpen_soft(nothing, image, radius=0.1, smoothing=1e-4) is nothing


@pytest.mark.parametrize("size", [(2, 9), (5, 3), (17, 40)])
def test_small_frames(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    soft = torch.ones(1, *size)
    sharp = sharpen_soft(soft, image, radius=0.5, smoothing=1e-4)
    torch.testing.assert_close(sharp, soft)


def test_the_fast_form_agrees_with_the_full_one() -> None:
    """At a large radius coefficients are computed on a coarser grid."""
    from kornia.filters import guided_blur

    image, mask = scene(364, 532)
    mask = np.kron(scene()[1], np.ones((4, 4), bool))
    image = np.kron(scene()[0], np.ones((4, 4, 1), np.uint8))
    soft = blurred(mask, 8)
    sharp = sharpen_soft(soft, image, radius=0.05, smoothing=1e-3)
    guide = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    full = guided_blur(guide, soft[None], 2 * 18 + 1, 1e-3)[0]
    assert (sharp - full).abs().mean() < 0.01
    assert abs(overlap(sharp, mask) - overlap(full, mask)) < 0.01
