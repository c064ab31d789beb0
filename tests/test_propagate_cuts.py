"""Scene cuts: found between scenes, not within one."""

from __future__ import annotations

import numpy as np
import pytest

from warpkit.propagate.cuts import CutFinder
from warpkit.render import CLIPS, render_frame
from warpkit.render.frames import RenderedFrame

THRESHOLD = 0.35


def cuts(images: list[np.ndarray]) -> list[int]:
    finder = CutFinder(threshold=THRESHOLD)
    return [t for t, image in enumerate(images) if finder.next(image)]


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    """One frame of each clip, all of one size."""
    from dataclasses import replace

    specs = [replace(s, height=96, width=160, supersampling=1) for s in CLIPS.values()]
    return [render_frame(spec, 3).image for spec in specs]


def test_between_scenes(scenes: list[np.ndarray]) -> None:
    twice = [image for image in scenes for _ in range(2)]
    assert cuts(twice) == list(range(2, len(twice), 2))


def test_not_within_a_clip(clip: list[RenderedFrame]) -> None:
    assert cuts([frame.image for frame in clip]) == []


def test_not_for_motion_light_or_shake(scenes: list[np.ndarray]) -> None:
    image = scenes[0]
    shifted = np.roll(image, (6, 9), axis=(0, 1))
    darker, brighter = image // 2, np.minimum(image.astype(int) * 3 // 2, 255).astype(np.uint8)
    noisy = np.random.default_rng(0).integers(-12, 13, image.shape) + image
    assert cuts([image, shifted, image, darker, image, brighter]) == []
    assert cuts([image, noisy.clip(0, 255).astype(np.uint8)]) == []


def test_tiny_and_flat_frames() -> None:
    black, white = np.zeros((2, 3, 3), np.uint8), np.full((2, 3, 3), 255, np.uint8)
    assert cuts([black, black, white, white]) == [2]
