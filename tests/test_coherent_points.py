"""Points read from a coherent field: what the descriptors around its answer add."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from coherent_maps import moved_map, random_map, turned
from torch import Tensor

from warpkit.coherent import (
    CoherentField,
    Guides,
    coherent_field,
    match_points_coherent,
    points_config,
)
from warpkit.coherent import points as points_module
from warpkit.coherent.point_reading import _TEMPERATURE, read_points
from warpkit.coords import grid_to_pixel, sample_descriptors
from warpkit.types import DescriptorMap


def _slowly(
    query: Tensor,
    target: DescriptorMap,
    place: tuple[float, float],
    box: tuple[int, int, int, int],
    reach: float,
) -> tuple[float, float]:
    """One point, cell by cell; the mask is a box of pixels, ends included."""
    x1, y1, x2, y2 = box
    sigma = reach * max(x2 - x1 + 1, y2 - y1 + 1)
    total, across, down = 0.0, 0.0, 0.0
    for row in range(target.grid_size[0]):
        for column in range(target.grid_size[1]):
            x = float(grid_to_pixel(torch.tensor(float(column)), target.cell_width))
            y = float(grid_to_pixel(torch.tensor(float(row)), target.cell_height))
            if not (x1 - 0.5 <= x < x2 + 0.5 and y1 - 0.5 <= y < y2 + 0.5):
                continue
            cell = target.data[:, row, column].double()
            cosine = float(query.double() @ cell / cell.norm())
            away = (x - place[0]) ** 2 + (y - place[1]) ** 2
            weight = math.exp(cosine / _TEMPERATURE - away / (2 * sigma**2))
            total, across, down = total + weight, across + weight * x, down + weight * y
    return across / total, down / total


def test_points_are_means_of_cells_near_the_fields_answer() -> None:
    target = random_map(50, 80, channels=10, seed=3)
    source = random_map(50, 80, channels=10, seed=4)
    xy = torch.tensor([[10.0, 12.0], [60.5, 30.25], [3.0, 44.0]])
    places = torch.tensor([[20.0, 15.5], [50.0, 31.0], [70.0, 5.0]])
    query = sample_descriptors(source, xy)
    mask = torch.zeros(50, 80, dtype=torch.bool)
    mask[8:46, 11:73] = True
    for reach in (0.09, 0.3, 2.0):
        for given, box in ((None, (0, 0, 79, 49)), (mask, (11, 8, 72, 45))):
            found = read_points(query, target, places, given, reach)
            slow = [
                _slowly(q, target, (float(p[0]), float(p[1])), box, reach)
                for q, p in zip(query, places, strict=True)
            ]
            assert torch.allclose(found, torch.tensor(slow), atol=1e-3)


def test_where_no_cell_can_say_more_the_fields_answer_stays() -> None:
    target = random_map(50, 80, channels=10)
    mask = torch.zeros(50, 80, dtype=torch.bool)
    mask[10, 10] = True  # between the centres of cells
    places = torch.tensor([[10.0, 10.0]])
    query = sample_descriptors(target, places)
    assert torch.equal(read_points(query, target, places, mask, 9.0), places)
    assert torch.equal(read_points(query, target, places, None, 4.9 / 80), places)
    assert not torch.equal(read_points(query, target, places, None, 5.1 / 80), places)
    assert read_points(query[:0], target, places[:0], None, 0.1).shape == (0, 2)


def test_descriptors_take_back_what_the_field_is_off() -> None:
    target = random_map(240, 320, seed=2)
    xy = torch.tensor([[100.0, 80.0], [201.0, 150.0], [60.0, 199.0], [258.0, 43.0]])
    query = sample_descriptors(target, xy)
    off = xy + torch.tensor([[6.0, -5.0], [-7.0, 2.0], [4.0, 6.0], [-3.0, -7.0]])
    for reach, most in ((0.03, 3), (0.1, 2)):
        found = read_points(query, target, off, None, reach)
        assert float((found - xy).norm(dim=1).max()) < most


def _solved_at(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields cost so much from now on."""

    def solve(*given: Any, **named: Any) -> CoherentField:
        return dataclasses.replace(coherent_field(*given, **named), cost=cost)

    monkeypatch.setattr(points_module, "coherent_field", solve)


def test_points_of_a_mirrored_target_are_read_there(monkeypatch: pytest.MonkeyPatch) -> None:
    target = random_map(240, 320)
    mirrored = dataclasses.replace(target, data=target.data.flip(2))
    source = moved_map(mirrored, turned(10), height=240, width=320)
    points = torch.tensor([[160.0, 120.0], [100.5, 90.25]])
    expected = turned(10)(points)
    expected[:, 0] = 319 - expected[:, 0]
    _solved_at(0.1, monkeypatch)
    # What describes the mirrored image need not be the turned map: only the former is like.
    blind = dataclasses.replace(target, data=0 * target.data + target.data[:, :1, :1])
    for given in (target, blind):
        found = match_points_coherent(source, given, points, mirrored=mirrored, field="auto")
        assert found.field.quality.mirrored
        assert torch.allclose(found.matches.target_xy[:, 0], expected, atol=2)


def test_auto_leaves_more_to_the_descriptors_the_more_coherence_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = random_map(120, 160, seed=5)
    target = moved_map(source, turned(0), height=120, width=160)
    points = torch.tensor([[80.0, 60.0]])
    reaches: list[float] = []

    def seen(*given: Any) -> Tensor:
        reaches.append(given[-1])
        return read_points(*given)

    monkeypatch.setattr(points_module, "read_points", seen)
    config = points_config("never")
    for cost, name in ((0.0, "coherent"), (0.06, "coherent"), (0.12, "coherent"), (0.2, "nearest")):
        _solved_at(cost, monkeypatch)
        found = match_points_coherent(source, target, points, field="auto", config=config)
        assert found.chosen == name
        assert found.field.quality.folds == 0
    assert reaches == pytest.approx([0.0, 0.015, 0.1])
    # The field itself, and fields that guides have moved, are taken as they are.
    _solved_at(0.1, monkeypatch)
    guides = Guides(points, points + 5)
    plain = match_points_coherent(source, target, points, config=config)
    for found in (
        plain,
        match_points_coherent(source, target, points, field="auto", guides=guides, config=config),
    ):
        assert torch.equal(found.matches.target_xy[:, 0], found.field.at(points)[0])
    assert len(reaches) == 3
