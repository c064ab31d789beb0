"""Filters on hand-made matches."""

from __future__ import annotations

import math

import pytest
import torch

from warpkit.checks import InputError
from warpkit.match.filters import (
    above_similarity,
    chosen_keys,
    cycle_distance,
    inside_mask,
    ratio_test,
    refine_subpixel,
    round_trip,
)
from warpkit.match.matcher import Neighbours
from warpkit.types import DescriptorMap, Matches, Sites


def neighbours(index: list[list[int]]) -> Neighbours:
    table = torch.tensor(index)
    return Neighbours(table, torch.ones(table.shape) * (table >= 0))


def matches(target_xy: list[list[list[float]]], similarity: list[list[float]]) -> Matches:
    scores = torch.tensor(similarity)
    return Matches(
        torch.zeros(len(scores), 2),
        torch.tensor(target_xy),
        scores,
        torch.ones(scores.shape, dtype=torch.bool),
    )


def test_round_trip():
    forward = neighbours([[4, 1], [1, -1], [-1, -1]])
    backward = neighbours([[2], [0], [2], [0], [0]])
    assert round_trip(forward, backward).tolist() == [[0, 0], [0, -1], [-1, -1]]
    # A key that found nothing leads nowhere.
    assert round_trip(neighbours([[0]]), neighbours([[-1]])).tolist() == [[-1]]


def test_chosen_keys_are_renumbered():
    keys = Sites(torch.arange(12.0).view(6, 2), (2, 4), torch.tensor([0, 1, 3, 4, 6, 7]))
    forward = neighbours([[4, 2], [2, -1]])
    chosen, sites = chosen_keys(forward, keys)
    assert sites.index is not None
    for rank in range(2):
        at = forward.index[0, rank]
        assert sites.xy[chosen.index[0, rank]].tolist() == keys.xy[at].tolist()
        assert sites.index[chosen.index[0, rank]] == keys.index[at]
    assert chosen.index[1, 1] == -1
    assert sites.lattice == (2, 4)
    nothing, some = chosen_keys(neighbours([[-1]]), keys)
    assert nothing.index.tolist() == [[-1]]
    assert len(some) == 1


def test_cycle_distance_in_pixels():
    start = torch.tensor([[1.0, 1.0], [5.0, 5.0]])
    sites = torch.tensor([[1.0, 1.0], [4.0, 5.0]])
    distance = cycle_distance(start, sites, torch.tensor([[1, 0], [1, -1]]))
    assert distance.tolist() == [[5, 0], [1, math.inf]]


def test_above_similarity_includes_the_threshold():
    kept = above_similarity(matches([[[0, 0]], [[0, 0]]], [[0.5], [0.25]]), 0.5)
    assert kept.valid.tolist() == [[True], [False]]


def test_ratio_test_ignores_neighbours_of_the_best_match():
    # d = 0.1 at the best; its neighbour 0.11; the competitor 5 pixels away 0.4 or 0.12.
    near_far = [[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]]
    points = matches([near_far, near_far], [[0.9, 0.89, 0.6], [0.9, 0.89, 0.88]])
    kept = ratio_test(points, ratio=0.64, exclusion_radius=2.0)
    assert kept.valid.tolist() == [[True] * 3, [False] * 3]
    assert not ratio_test(points, ratio=0.64, exclusion_radius=0.5).valid.any()
    # Nothing reaches beyond the radius: no competitor.
    assert ratio_test(points, ratio=0.64, exclusion_radius=9.0).valid.all()


def test_ratio_test_needs_a_second_match():
    with pytest.raises(InputError, match="search with k of 2 or more"):
        ratio_test(matches([[[0, 0]]], [[0.5]]), ratio=0.8, exclusion_radius=1.0)
    with pytest.raises(InputError, match=r"ratio must be in \(0, 1\], got 1.5"):
        ratio_test(matches([[[0, 0]] * 2], [[0.5] * 2]), ratio=1.5, exclusion_radius=1.0)


def angle_map(degrees: torch.Tensor) -> DescriptorMap:
    """Unit vectors of the plane, one per pixel, at the given angles (H, W)."""
    angle = torch.deg2rad(degrees)
    height, width = degrees.shape
    return DescriptorMap.covering(
        torch.stack([angle.cos(), angle.sin()]), height=height, width=width
    )


def found_at(x: float, y: float) -> Matches:
    return Matches(
        torch.zeros(1, 2),
        torch.tensor([[[float(x), float(y)]]]),
        torch.ones(1, 1),
        torch.ones(1, 1, dtype=torch.bool),
    )


def test_refine_subpixel_is_the_window_softmax():
    source = angle_map(torch.zeros(1, 1))
    target = angle_map(torch.tensor([[90.0, 60.0, 0.0, 30.0, 90.0]]))
    refined = refine_subpixel(found_at(2, 0), source, target, radius=1, temperature=0.1)
    weight = [math.exp(score / 0.1) for score in (0.5, 1.0, math.sqrt(0.75))]
    expected = 2 + (weight[2] - weight[0]) / sum(weight)
    assert float(refined.target_xy[0, 0, 0]) == pytest.approx(expected, abs=1e-5)
    assert float(refined.target_xy[0, 0, 1]) == 0
    assert float(refined.similarity[0, 0]) < 1  # read again between the pixels


def test_refine_subpixel_gives_masked_pixels_no_weight():
    source, target = angle_map(torch.zeros(1, 1)), angle_map(torch.tensor([[0.0, 30.0, 5.0]]))
    only_right = torch.tensor([[False, True, True]])
    refined = refine_subpixel(
        found_at(1, 0), source, target, target_mask=only_right, radius=1, temperature=0.5
    )
    weight = [math.exp(math.cos(math.radians(a)) / 0.5) for a in (30, 5)]
    assert float(refined.target_xy[0, 0, 0]) == pytest.approx(1 + weight[1] / sum(weight), abs=1e-5)


def test_refine_subpixel_never_leaves_the_mask():
    source, target = angle_map(torch.zeros(1, 1)), angle_map(torch.zeros(1, 5))
    ends = torch.tensor([[True, False, False, False, True]])
    refined = refine_subpixel(found_at(4, 0), source, target, target_mask=ends, radius=4)
    assert refined.target_xy[0, 0].tolist() == [4, 0]  # the mean of both ends is outside
    assert float(refined.similarity[0, 0]) == pytest.approx(1)


def test_refine_subpixel_leaves_rejected_matches_alone():
    rejected = Matches(
        torch.zeros(1, 2),
        torch.zeros(1, 1, 2),
        torch.zeros(1, 1),
        torch.zeros(1, 1, dtype=torch.bool),
    )
    source, target = angle_map(torch.zeros(1, 1)), angle_map(torch.zeros(3, 3))
    assert refine_subpixel(rejected, source, target).target_xy.eq(0).all()
    with pytest.raises(InputError, match="temperature must be positive"):
        refine_subpixel(rejected, source, target, temperature=0)
    with pytest.raises(InputError, match="radius must be at least 1"):
        refine_subpixel(rejected, source, target, radius=0)


def test_inside_mask_rounds_halves_up():
    mask = torch.tensor([[True, False, True]])
    xy = torch.tensor([[0.49, 0], [0.5, 0], [1.5, 0], [2.5, 0], [-0.5, 0], [-0.6, 0], [0, 0.5]])
    expected = [True, False, True, False, True, False, False]
    assert inside_mask(mask, xy).tolist() == expected
    assert not inside_mask(mask, torch.tensor([[math.nan, 0]])).any()
