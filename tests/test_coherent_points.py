"""Points read from a coherent field: what the descriptors around its answer add."""

from __future__ import annotations

import dataclasses
import math

import torch
from coherent_maps import moved_map, random_map, turned

from warpkit.coherent import coherent_field, match_points_coherent, points_config
from warpkit.coherent import points as points_module
from warpkit.coherent.point_reading import CLOSELY, LOOSELY, Reading, read_points
from warpkit.coords import grid_to_pixel, sample_descriptors
from warpkit.types import DescriptorMap


def _slowly(
    query: list[float],
    target: DescriptorMap,
    place: tuple[float, float],
    box: tuple[int, int, int, int],
    reading: Reading,
) -> tuple[float, float]:
    """One point, cell by cell; the mask is a box of pixels, ends included."""
    x1, y1, x2, y2 = box
    sigma = max(
        reading.reach * max(x2 - x1 + 1, y2 - y1 + 1), target.cell_width, target.cell_height
    )
    total, across, down = 0.0, 0.0, 0.0
    for row in range(target.grid_size[0]):
        for column in range(target.grid_size[1]):
            x = float(grid_to_pixel(torch.tensor(float(column)), target.cell_width))
            y = float(grid_to_pixel(torch.tensor(float(row)), target.cell_height))
            if not (x1 - 0.5 <= x < x2 + 0.5 and y1 - 0.5 <= y < y2 + 0.5):
                continue
            cell = target.data[:, row, column].double()
            cosine = float(torch.tensor(query).double() @ cell / cell.norm())
            away = (x - place[0]) ** 2 + (y - place[1]) ** 2
            weight = math.exp(cosine / reading.temperature - away / (2 * sigma**2))
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
    for reading in (CLOSELY, LOOSELY, Reading(reach=0.3, temperature=0.5)):
        for given, box in ((None, (0, 0, 79, 49)), (mask, (11, 8, 72, 45))):
            found = read_points(query, target, places, given, reading)
            slow = [
                _slowly(q.tolist(), target, (float(p[0]), float(p[1])), box, reading)
                for q, p in zip(query, places, strict=True)
            ]
            assert torch.allclose(found, torch.tensor(slow), atol=1e-3)


def test_a_mask_without_a_cell_leaves_the_fields_answer() -> None:
    target = random_map(50, 80, channels=10)
    mask = torch.zeros(50, 80, dtype=torch.bool)
    mask[10, 10] = True  # between the centres of cells
    places = torch.tensor([[10.0, 10.0]])
    query = sample_descriptors(target, places)
    assert torch.equal(read_points(query, target, places, mask, CLOSELY), places)
    assert read_points(query[:0], target, places[:0], None, CLOSELY).shape == (0, 2)


def test_what_moves_on_its_own_is_found_near_the_field() -> None:
    """Noise of the field is taken back: the descriptors know better within the reach."""
    target = random_map(240, 320, seed=2)
    xy = torch.tensor([[100.0, 80.0], [201.0, 150.0], [60.0, 199.0], [258.0, 43.0]])
    query = sample_descriptors(target, xy)
    off = xy + torch.tensor([[6.0, -5.0], [-7.0, 2.0], [4.0, 6.0], [-3.0, -7.0]])
    found = read_points(query, target, off, None, CLOSELY)
    assert float((found - xy).norm(dim=1).max()) < 3
    assert float((read_points(query, target, off, None, LOOSELY) - xy).norm(dim=1).max()) < 2


def test_points_of_a_mirrored_target_are_read_there() -> None:
    target = random_map(240, 320)
    mirrored = dataclasses.replace(target, data=target.data.flip(2))
    source = moved_map(mirrored, turned(10), height=240, width=320)
    points = torch.tensor([[160.0, 120.0], [100.5, 90.25]])
    expected = turned(10)(points)
    expected[:, 0] = 319 - expected[:, 0]
    # What describes the mirrored image need not be the turned map: only the former is like.
    other = random_map(240, 320, seed=7)
    blind = dataclasses.replace(other, data=0 * other.data + other.data[:, :1, :1])
    for given in (target, blind):
        found = match_points_coherent(source, given, points, mirrored=mirrored)
        assert found.field.quality.mirrored
        assert torch.allclose(found.matches.target_xy[:, 0], expected, atol=2)


def test_auto_reads_loosely_where_coherence_costs(monkeypatch) -> None:
    source = random_map(120, 160, seed=5)
    target = moved_map(source, turned(0), height=120, width=160)
    points = torch.tensor([[80.0, 60.0]])
    used: list[Reading] = []

    def seen(query, target, places, mask, reading):
        used.append(reading)
        return read_points(query, target, places, mask, reading)

    monkeypatch.setattr(points_module, "read_points", seen)
    config = points_config("never")
    for cost, name in ((0.0, "coherent"), (0.1, "coherent"), (0.2, "nearest")):
        solved = dataclasses.replace(points_module.coherent_field(target, source), cost=cost)
        monkeypatch.setattr(points_module, "coherent_field", lambda *_, made=solved, **__: made)
        found = match_points_coherent(source, target, points, field="auto", config=config)
        assert found.chosen == name
        monkeypatch.setattr(points_module, "coherent_field", coherent_field)
    assert used == [CLOSELY, LOOSELY]
    monkeypatch.setattr(points_module, "coherent_field", lambda *_, **__: solved)
    match_points_coherent(source, target, points, field="coherent", config=config)
    assert used[2:] == [CLOSELY]
