"""Warp, splat and dense matching agree with the renderer's exact correspondences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from warpkit.coords import pixel_grid
from warpkit.render import CLIPS, RenderedFrame, render_frame
from warpkit.render.clips import Light
from warpkit.types import DescriptorMap, Warp
from warpkit.warp.backward import backward_warp
from warpkit.warp.field import dense_warp
from warpkit.warp.splat import forward_splat

HEIGHT, WIDTH = 145, 243


@pytest.fixture(scope="module", params=["fish", "butterfly"])
def frames(request: pytest.FixtureRequest) -> tuple[RenderedFrame, RenderedFrame]:
    """Frame 0 and a later one; under even light, so that colours move with their points."""
    spec = replace(CLIPS[request.param], height=HEIGHT, width=WIDTH, light=Light())
    return render_frame(spec, 0), render_frame(spec, 12)


def image_of(frame: RenderedFrame) -> Tensor:
    return torch.from_numpy(frame.image).permute(2, 0, 1).float()


def inner(frame: RenderedFrame, seen: np.ndarray) -> np.ndarray:
    """Object pixels whose points both frames show, away from the object's anti-aliased edge."""
    mask = (frame.labels > 0) & seen
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            mask = mask & (np.roll(frame.labels, shift, axis) > 0)
    assert mask.sum() > 100
    return mask


def difference(shown: Tensor, later: RenderedFrame, kept: np.ndarray) -> float:
    """Mean absolute colour difference to the later frame."""
    image = shown.permute(1, 2, 0).numpy()
    return float(np.abs(image - later.image.astype(np.float32))[kept].mean())


def test_backward_warp_by_the_true_field_shows_the_later_frame(frames) -> None:
    """The true field must be clearly better than the same field one pixel off."""
    first, later = frames
    kept = inner(later, later.visible)

    def error(shift: float) -> float:
        xy = torch.from_numpy(later.source_xy) + torch.tensor([shift, 0.0])
        ones, valid = torch.ones(HEIGHT, WIDTH), torch.from_numpy(later.visible)
        shown = backward_warp(image_of(first), Warp(xy, ones, valid, HEIGHT, WIDTH))
        return difference(shown, later, kept)

    assert error(0) < 10
    assert error(0) < 0.4 * min(error(-1), error(1))


def test_splat_by_the_true_field_shows_the_later_frame(frames) -> None:
    first, later = frames
    # What the later frame hides must not be thrown onto what hides it.
    weight = torch.from_numpy(later.target_visible).float()
    kept = inner(later, later.visible)

    def error(shift: float) -> float:
        xy = torch.from_numpy(later.target_xy) + torch.tensor([shift, 0.0])
        splat = forward_splat(image_of(first), xy, weight, height=HEIGHT, width=WIDTH)
        return difference(splat.values, later, kept & ~splat.hole.numpy())

    assert error(0) < 10
    assert error(0) < 0.4 * min(error(-1), error(1))


def place_codes(xy: Tensor) -> Tensor:
    """Descriptors whose cosine falls with the distance of two points: (C, h, w)."""
    waves = [2.0, 3.1, 5.3, 8.7, 14.9]
    angles = [xy / max(HEIGHT, WIDTH) * 2 * math.pi * wave / 2 for wave in waves]
    parts = [f(a) for a in angles for f in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=-1).permute(2, 0, 1)


def test_dense_matching_of_perfect_descriptors_finds_the_true_field(frames) -> None:
    """The later frame describes each pixel by where its point is in frame 0."""
    _, later = frames
    source = DescriptorMap.covering(
        place_codes(pixel_grid(height=HEIGHT, width=WIDTH)), height=HEIGHT, width=WIDTH
    )
    target = DescriptorMap.covering(
        place_codes(torch.from_numpy(later.source_xy)), height=HEIGHT, width=WIDTH
    )
    kept = inner(later, later.visible)
    field = dense_warp(source, target, target_mask=torch.from_numpy(kept))
    away = np.linalg.norm(field.source_xy.numpy() - later.source_xy, axis=-1)[kept]
    # The true point lies between pixels; the nearest pixel is at most half a diagonal away.
    assert away.max() <= math.sqrt(0.5) + 1e-3
