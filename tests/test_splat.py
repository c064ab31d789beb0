"""Forward splatting."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from warpkit.checks import InputError
from warpkit.coords import pixel_grid
from warpkit.warp import Splat, fill_holes, forward_splat, softmax_weight


def loop_splat(
    values: Tensor, target_xy: Tensor, weight: Tensor, *, height: int, width: int
) -> tuple[Tensor, Tensor, float]:
    """The definition: sum_i w_i b(p - t_i) v_i / sum_i w_i b(p - t_i), b the bilinear hat."""
    sums = torch.zeros(len(values), height, width, dtype=torch.float64)
    total = torch.zeros(height, width, dtype=torch.float64)
    thrown = 0.0
    for row in range(values.shape[1]):
        for column in range(values.shape[2]):
            x, y = target_xy[row, column].tolist()
            w = float(weight[row, column])
            thrown += w
            for v in range(height):
                for u in range(width):
                    share = w * max(0.0, 1 - abs(x - u)) * max(0.0, 1 - abs(y - v))
                    sums[:, v, u] += share * values[:, row, column].double()
                    total[v, u] += share
    mean = torch.where(total > 0, sums / total.clamp(min=1e-300), 0)
    return mean, total, thrown - float(total.sum())


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def test_identity_field_gives_the_identity():
    values, weight = random(3, 7, 5), random(7, 5, seed=1) + 0.1
    splat = forward_splat(values, pixel_grid(height=7, width=5), weight, height=7, width=5)
    torch.testing.assert_close(splat.values, values)
    assert torch.equal(splat.weight, weight)
    assert not splat.hole.any()
    assert splat.lost == 0


def test_integer_translation_is_exact():
    values, weight = random(2, 4, 6), torch.ones(4, 6)
    xy = pixel_grid(height=4, width=6) + torch.tensor([2, -1])
    splat = forward_splat(values, xy, weight, height=4, width=6)
    assert torch.equal(splat.values[:, :3, 2:], values[:, 1:, :4])
    assert splat.hole[3].all()
    assert splat.hole[:, :2].all()
    assert not splat.hole[:3, 2:].any()
    assert splat.values[:, splat.hole].eq(0).all()
    assert splat.lost == 4 * 6 - 3 * 4


def test_half_pixel_translation_hand_computed():
    values = torch.tensor([[[8.0, 2.0, 4.0]]])
    weight = torch.tensor([[1.0, 3.0, 1.0]])
    xy = pixel_grid(height=1, width=3) + torch.tensor([0.5, 0])
    splat = forward_splat(values, xy, weight, height=1, width=3)
    # Pixel 1 takes half of 8 (weight 1) and half of 2 (weight 3), pixel 2 half of 2 and of 4.
    assert splat.values.tolist() == [[[8, 3.5, 2.5]]]
    assert splat.weight.tolist() == [[0.5, 2, 2]]
    assert splat.lost == 0.5


def test_splat_is_the_loop():
    values, weight = random(3, 5, 7, seed=2), random(5, 7, seed=3)
    weight[1, 2:5] = 0
    xy = random(5, 7, 2, seed=4) * torch.tensor([11, 8]) - 1.5
    xy[1, 3] = torch.nan  # weight 0: not read
    splat = forward_splat(values, xy, weight, height=6, width=9)
    mean, total, lost = loop_splat(values, xy.nan_to_num(), weight, height=6, width=9)
    torch.testing.assert_close(splat.values.double(), mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(splat.weight.double(), total, atol=1e-6, rtol=0)
    assert torch.equal(splat.hole, total == 0)
    assert splat.lost == pytest.approx(lost, abs=1e-5)
    assert splat.lost > 0


def test_weight_is_conserved():
    weight = random(9, 13, seed=5)
    xy = random(9, 13, 2, seed=6) * torch.tensor([15, 10])  # inside [0, 15] x [0, 10]
    splat = forward_splat(random(1, 9, 13), xy, weight, height=11, width=16)
    assert splat.lost == 0
    assert float(splat.weight.sum()) == pytest.approx(float(weight.sum()), rel=1e-5)
    far = forward_splat(random(1, 9, 13), xy + 1e12, weight, height=11, width=16)
    assert far.hole.all()
    assert far.lost == pytest.approx(float(weight.sum()), rel=1e-5)


def test_the_better_match_wins():
    values = torch.tensor([[[1.0, 5.0]]])
    xy = torch.zeros(1, 2, 2)
    weight = softmax_weight(torch.tensor([[0.9, 0.8]]), 0.05)
    splat = forward_splat(values, xy, weight, height=1, width=1)
    share = 1 / (1 + math.exp(-2))
    assert float(splat.values) == pytest.approx(share * 1 + (1 - share) * 5, abs=1e-5)


def test_softmax_weight_is_safe():
    weight = softmax_weight(
        torch.tensor([1e4, 1e4 - 1.0, -1e4, torch.nan]), 0.5, torch.arange(4) < 3
    )
    assert weight[0] == 1
    assert float(weight[1]) == pytest.approx(math.exp(-2))
    assert 0 < weight[2] < 1e-20  # small, but no hole
    assert weight[3] == 0
    assert softmax_weight(torch.ones(2), 0.1, torch.zeros(2, dtype=torch.bool)).tolist() == [0, 0]
    with pytest.raises(InputError, match="tau must be positive"):
        softmax_weight(torch.ones(2), 0.0)


def test_holes_are_filled_where_asked():
    # A magnified image has a hole between its pixels.
    values = torch.tensor([[[1.0, 3.0]]])
    xy = pixel_grid(height=1, width=2) * 2
    splat = forward_splat(values, xy, torch.ones(1, 2), height=1, width=4)
    assert splat.hole.tolist() == [[False, True, False, True]]
    filled = fill_holes(splat, torch.full((1, 1, 4), 2.0), torch.arange(4)[None] < 2)
    assert filled.values.tolist() == [[[1, 2, 3, 0]]]
    assert filled.hole.tolist() == [[False, False, False, True]]
    with pytest.raises(InputError, match="give values and valid of its size"):
        fill_holes(splat, torch.zeros(1, 1, 3), torch.ones(1, 3, dtype=torch.bool))


def test_bad_input_is_named():
    values, xy, weight = random(1, 2, 3), pixel_grid(height=2, width=3), torch.ones(2, 3)
    with pytest.raises(InputError, match=r"forward_splat takes float values \(C, H, W\)"):
        forward_splat(values, xy[:1], weight, height=2, width=3)
    with pytest.raises(InputError, match="weights must not be negative"):
        forward_splat(values, xy, -weight, height=2, width=3)
    with pytest.raises(InputError, match="target_xy must be finite"):
        forward_splat(values, xy * torch.nan, weight, height=2, width=3)
    with pytest.raises(InputError, match="the target needs a positive size, got 0 x 3"):
        forward_splat(values, xy, weight, height=0, width=3)
    with pytest.raises(ValueError, match="Splat must hold"):
        Splat(values, weight, weight, 0.0)
