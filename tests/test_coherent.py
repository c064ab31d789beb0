"""Coherent fields: exact fields recovered, poses, guides, degenerate input, figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from coherent_maps import bent, moved_map, random_map, turned
from torch import Tensor

from warpkit.checks import InputError
from warpkit.coherent import (
    CoherentConfig,
    FieldTask,
    Guides,
    coherent_field,
    coherent_fields,
    coherent_warp_of_labels,
    match_points_coherent,
)
from warpkit.coherent import field as field_module
from warpkit.coherent.affine import apply_affine, find_affines, fit_affine
from warpkit.coherent.coarse import solve_coarse
from warpkit.coherent.evidence import _LAYER_TEMPERATURE, _UNEXPLAINED
from warpkit.coherent.levels import COARSE
from warpkit.coherent.nodes import make_nodes, region_of
from warpkit.coherent.reference import solve_layer_slowly
from warpkit.coherent.smooth import folded, mend_folds, smooth_affine, smooth_residual
from warpkit.coords import pixel_grid
from warpkit.types import DescriptorMap

H, W = 240, 320
NEVER = CoherentConfig(mirror="never")


def _shift(xy: Tensor) -> Tensor:
    return xy + torch.tensor([30.0, -20.0])


@pytest.fixture(scope="module")
def source() -> DescriptorMap:
    return random_map(H, W)


@pytest.mark.parametrize(
    "place",
    [lambda xy: xy, _shift, turned(30), turned(-30), turned(0, 0.5), turned(0, 2.0), bent],
    ids=["identity", "shift", "30 degrees", "-30 degrees", "half", "double", "bend"],
)
def test_exact_fields_are_recovered(
    source: DescriptorMap, place: Callable[[Tensor], Tensor]
) -> None:
    target = moved_map(source, place, height=H, width=W)
    found = coherent_field(source, target, config=NEVER)
    grid = pixel_grid(height=H, width=W)
    truth = place(grid.reshape(-1, 2)).reshape(grid.shape)
    margin = torch.tensor([10.0, 10.0])
    there = ((truth >= margin) & (truth <= torch.tensor([W, H]) - 1 - margin)).all(dim=-1)
    error = (found.source_xy - truth).norm(dim=-1)[there]
    assert error.mean() < 0.6
    assert error.quantile(0.95) < 0.005 * W
    if bool(there.float().mean() > 0.9):
        assert found.quality.folds < 1
    assert not found.quality.mirrored
    assert found.valid[there].float().mean() > 0.95


def test_a_mirrored_source_is_found_and_its_places_are_of_the_image_as_it_is(
    source: DescriptorMap,
) -> None:
    mirrored = dataclasses.replace(source, data=source.data.flip(2))
    target = moved_map(mirrored, turned(10), height=H, width=W)
    found = coherent_field(source, target, mirrored=mirrored)
    assert found.quality.mirrored
    assert found.quality.score_mirrored is not None and found.quality.score_as_is is not None
    assert found.quality.score_mirrored > found.quality.score_as_is + 0.1
    grid = pixel_grid(height=H, width=W)
    truth = turned(10)(grid.reshape(-1, 2)).reshape(grid.shape)
    truth[..., 0] = W - 1 - truth[..., 0]
    inner = (slice(40, 200), slice(60, 260))
    assert (found.source_xy - truth).norm(dim=-1)[inner].mean() < 1
    points = torch.tensor([[160.0, 120.0], [100.5, 90.25]])
    expected = turned(10)(points)
    expected[:, 0] = W - 1 - expected[:, 0]
    assert torch.allclose(found.at(points)[0], expected, atol=1.5)
    # A map without a description of the mirrored image is mirrored itself.
    same = coherent_field(source, target)
    assert torch.allclose(same.source_xy, found.source_xy, atol=1e-3)
    never = coherent_field(source, target, config=NEVER)
    assert not never.quality.mirrored and never.quality.score_mirrored is None
    always = coherent_field(source, target, config=CoherentConfig(mirror="always"))
    assert always.quality.mirrored and always.quality.score_as_is is None


def test_neither_order_nor_company_changes_a_result(source: DescriptorMap) -> None:
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[60:180, 90:230] = True
    small = random_map(120, 400, seed=3)
    tasks = [
        FieldTask(source, moved_map(source, turned(15), height=H, width=W)),
        FieldTask(small, moved_map(small, lambda xy: xy + 4, height=120, width=360)),
        FieldTask(source, moved_map(source, bent, height=H, width=W), None, mask, mask),
    ]
    alone = [
        coherent_field(t.source, t.target, source_mask=t.source_mask, target_mask=t.target_mask)
        for t in tasks
    ]
    turned_round = coherent_fields(tasks[::-1])[::-1]
    for one, other in zip(alone, turned_round, strict=True):
        assert torch.equal(one.source_xy, other.source_xy)
        assert one.quality == other.quality
    # As a GPU takes them: padded to one size and solved together.
    together = field_module._solve(tasks[:2], CoherentConfig())
    for one, other in zip(alone[:2], together, strict=True):
        assert (one.source_xy - other.source_xy).norm(dim=-1).mean() < 0.05
        assert one.quality.mirrored == other.quality.mirrored


def test_the_coarse_level_agrees_with_plain_loops() -> None:
    source = random_map(70, 90, channels=12, seed=5)
    target = moved_map(source, lambda xy: xy * 0.9 + 3, height=60, width=80)
    config = CoherentConfig(layers=1, mirror="never", rim=0)
    nodes = [
        make_nodes([m], [region_of(None, height=m.height, width=m.width, outlined=False)], nodes=9)
        for m in (target, source)
    ]
    fast = solve_coarse(*nodes, config, None)
    xy = pixel_grid(height=nodes[0].size[0], width=nodes[0].size[1]).view(-1, 2)
    cosine = nodes[0].descriptors.flatten(2)[0].T @ nodes[1].descriptors.flatten(2)[0]
    hub = cosine.topk(10, dim=0).values.mean(dim=0)
    score = cosine - COARSE.hubs * hub
    keys = pixel_grid(height=nodes[1].size[0], width=nodes[1].size[1]).view(-1, 2)
    # The motion it begins with comes from the same search.
    best = score.argmax(dim=1)
    home = score.argmax(dim=0)
    cycle = (xy[home[best]] - xy).norm(dim=1) / max(nodes[0].size[0] - 1, nodes[0].size[1] - 1)
    top = score.max(dim=1).values
    evidence = torch.exp(-((cycle / 0.1) ** 2)) * torch.exp((top - top.max()) / 0.1) + 1e-6
    side = torch.tensor([float(max(nodes[1].size) - 1)])
    affine, _ = find_affines(
        xy, keys[best][None], evidence[None], side, columns=nodes[0].size[1], count=1
    )
    slow = solve_layer_slowly(
        nodes[0].descriptors[0].double().numpy(),
        nodes[1].descriptors[0].double().numpy(),
        affine[0, 0].double().numpy(),
        fast.reliability[0].double().numpy(),
        COARSE,
        unexplained=_UNEXPLAINED,
        layer_temperature=_LAYER_TEMPERATURE,
    )
    assert torch.allclose(fast.field[0, 0], torch.from_numpy(slow).float(), atol=2e-3)


def test_an_object_over_a_still_background_has_a_motion_of_its_own() -> None:
    source = random_map(H, W, seed=1)
    thing = random_map(H, W, seed=2)
    inside = torch.zeros(48, 64, dtype=torch.bool)
    inside[16:32, 8:28] = True
    first = dataclasses.replace(source, data=torch.where(inside, thing.data, source.data))
    moved = torch.where(inside.roll(20, 1), thing.data.roll(20, 2), source.data)
    second = dataclasses.replace(source, data=moved)
    found = coherent_field(first, second, config=NEVER)
    grid = pixel_grid(height=H, width=W)
    on = (slice(90, 150), slice(160, 220))
    still = (slice(10, 60), slice(20, 300))
    assert (found.source_xy - grid + torch.tensor([100.0, 0.0])).norm(dim=-1)[on].mean() < 2
    assert (found.source_xy - grid).norm(dim=-1)[still].mean() < 2
    one = coherent_field(first, second, config=CoherentConfig(mirror="never", layers=1))
    assert (one.source_xy - grid).norm(dim=-1)[still].mean() < 2


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_guides_are_met(source: DescriptorMap, count: int) -> None:
    place = turned(20)
    target = moved_map(source, place, height=H, width=W)
    generator = torch.Generator().manual_seed(count)
    target_xy = torch.rand(count, 2, generator=generator) * torch.tensor([200.0, 140.0]) + 50
    source_xy = place(target_xy) + 6 * torch.randn(count, 2, generator=generator)
    found = coherent_field(source, target, guides=Guides(source_xy, target_xy), config=NEVER)
    assert torch.allclose(found.at(target_xy)[0], source_xy, atol=0.5)
    assert found.quality.unmet == ()
    assert found.quality.guide_error is not None and found.quality.guide_error < 0.5


def test_guides_that_contradict_each_other_are_said(source: DescriptorMap) -> None:
    target = moved_map(source, turned(20), height=H, width=W)
    target_xy = torch.tensor([[100.0, 80.0], [100.5, 80.0], [220.0, 180.0]])
    source_xy = turned(20)(target_xy)
    source_xy[1, 0] += 60
    found = coherent_field(source, target, guides=Guides(source_xy, target_xy), config=NEVER)
    assert set(found.quality.unmet) == {0, 1}


def test_guides_decide_what_descriptors_leave_open() -> None:
    # Nothing to see anywhere: the guides alone say that the object is shifted.
    blank = DescriptorMap.covering(torch.ones(8, 24, 32), height=H, width=W)
    target_xy = torch.tensor([[100.0, 80.0], [220.0, 80.0], [160.0, 180.0], [60.0, 200.0]])
    guides = Guides(target_xy + torch.tensor([25.0, 10.0]), target_xy)
    found = coherent_field(blank, blank, guides=guides, config=NEVER)
    assert torch.allclose(
        found.at(torch.tensor([[150.0, 120.0]]))[0], torch.tensor([[175.0, 130.0]]), atol=12
    )


def _mask(box: tuple[int, int, int, int], height: int = H, width: int = W) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    x1, y1, x2, y2 = box
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize(
    ("source_mask", "target_mask"),
    [
        (_mask((50, 60, 51, 61)), _mask((20, 20, 21, 21))),
        (_mask((50, 60, 55, 64)), _mask((50, 60, 55, 64))),
        (_mask((0, 0, 100, 240)), _mask((220, 0, 320, 240))),
        (_mask((10, 60, 300, 61)), _mask((60, 5, 61, 230))),
        (None, _mask((20, 20, 21, 21))),
        (_mask((0, 0, 320, 240)), None),
    ],
    ids=["one pixel", "twenty pixels", "borders", "lines", "no source mask", "no target mask"],
)
def test_masks_of_every_kind_give_a_field_inside_them(
    source: DescriptorMap, source_mask: Tensor | None, target_mask: Tensor | None
) -> None:
    found = coherent_field(source, source, source_mask=source_mask, target_mask=target_mask)
    expected = torch.ones(H, W, dtype=torch.bool) if target_mask is None else target_mask
    assert torch.equal(found.inside, expected)
    assert not bool((found.valid & ~expected).any())
    places = found.source_xy[expected]
    assert bool(torch.isfinite(places).all())
    column, row = torch.floor(places + 0.5).long().unbind(-1)
    assert bool(((column >= 0) & (column < W) & (row >= 0) & (row < H)).all())
    if source_mask is not None:
        assert bool(source_mask[row, column].all())
    filled = found.warp(fill=True)
    assert torch.equal(filled.valid, expected)
    assert not bool(found.warp().source_xy[~found.valid].any())


def test_maps_without_content_and_unlike_sizes_give_a_result() -> None:
    constant = DescriptorMap.covering(torch.ones(8, 12, 16), height=48, width=64)
    tall, wide = random_map(320, 40), random_map(40, 640)
    one_cell = DescriptorMap.covering(torch.ones(8, 1, 1), height=5, width=7)
    for first, second in ((constant, constant), (tall, wide), (wide, tall), (one_cell, one_cell)):
        found = coherent_field(first, second)
        assert found.source_xy.shape == (second.height, second.width, 2)
        assert bool(torch.isfinite(found.source_xy).all())
    large = random_map(480, 640, cell=10)
    small = moved_map(large, lambda xy: xy * 4 + 1.5, height=120, width=160)
    found = coherent_field(large, small, config=NEVER)
    assert (
        found.source_xy[40:80, 60:100] - 4 * pixel_grid(height=120, width=160)[40:80, 60:100]
    ).norm(dim=-1).mean() < 6


def test_bad_input_is_said(source: DescriptorMap) -> None:
    with pytest.raises(InputError, match="source mask is empty"):
        coherent_field(source, source, source_mask=torch.zeros(H, W, dtype=torch.bool))
    with pytest.raises(InputError, match="target mask must be a bool tensor of 240 x 320"):
        coherent_field(source, source, target_mask=torch.ones(H, W))
    broken = dataclasses.replace(source, data=source.data * torch.nan)
    with pytest.raises(InputError, match="not finite"):
        coherent_field(broken, source)
    with pytest.raises(InputError, match="mirrored source must have the size"):
        coherent_field(source, source, mirrored=random_map(100, 100))
    with pytest.raises(InputError, match="guides"):
        Guides.of([[1, 2], [3, 4]], source=(H, W), target=(H, W))
    with pytest.raises(InputError, match="target guides"):
        Guides.of([[[1, 2], [1000, 4]]], source=(H, W), target=(H, W))
    with pytest.raises(InputError, match="mirror"):
        CoherentConfig(mirror="sometimes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tolerance"):
        CoherentConfig(tolerance=0)


def test_what_the_source_lacks_is_not_valid_and_is_filled_on_request(source: DescriptorMap) -> None:
    # The right half of the target shows something that the source does not have.
    other = random_map(H, W, seed=9)
    half = torch.arange(64) >= 32
    target = dataclasses.replace(source, data=torch.where(half, other.data, source.data))
    found = coherent_field(source, target, config=CoherentConfig(mirror="never", layers=1))
    assert found.valid[:, :140].float().mean() > 0.9
    assert found.valid[:, :140].float().mean() > found.valid[:, 180:].float().mean()
    assert bool(found.warp(fill=True).valid.all())


def test_points_follow_the_field_and_auto_prefers_pixels_where_coherence_costs(
    source: DescriptorMap,
) -> None:
    place = turned(15)
    target = moved_map(source, place, height=H, width=W)
    # The field over the target leads to the source: here the target plays the source's part.
    points = torch.tensor([[120.0, 100.0], [200.25, 140.5]])
    found = match_points_coherent(target, source, points, field="auto")
    assert found.chosen == "coherent"
    assert torch.allclose(found.matches.target_xy[:, 0], place(points), atol=1.5)
    shuffled = torch.randperm(48 * 64, generator=torch.Generator().manual_seed(0))
    mixed = dataclasses.replace(
        source, data=source.data.flatten(1)[:, shuffled].unflatten(1, (48, 64))
    )
    found = match_points_coherent(mixed, source, points, field="auto")
    assert found.chosen == "nearest"
    assert found.matches.similarity.min() > 0.4


def test_objects_of_one_id_are_matched_alone(source: DescriptorMap) -> None:
    labels = torch.zeros(H, W, dtype=torch.uint8)
    labels[40:120, 40:120], labels[120:200, 200:280] = 1, 2
    target = moved_map(source, lambda xy: xy, height=H, width=W)
    valid, filled, quality = coherent_warp_of_labels(FieldTask(source, target), labels, labels)
    assert set(quality) == {1, 2}
    assert torch.equal(filled.valid, labels > 0)
    for i in (1, 2):
        column, row = torch.floor(filled.source_xy[labels == i] + 0.5).long().unbind(-1)
        assert bool((labels[row, column] == i).all())
    assert valid.valid[labels > 0].float().mean() > 0.9
    with pytest.raises(InputError, match="no object is in both label maps"):
        coherent_warp_of_labels(FieldTask(source, target), labels, labels * 5)


def test_folds_are_counted_and_mended() -> None:
    grid = pixel_grid(height=20, width=24)[None]
    inside = torch.ones(1, 20, 24, dtype=torch.bool)
    assert not bool(folded(grid, inside)[0].any())
    # A mirrored field has no fold: all cells agree.
    mirrored = torch.stack([23 - grid[..., 0], grid[..., 1]], dim=-1)
    assert not bool(folded(mirrored, inside)[0].any())
    bad = grid.clone()
    bad[0, 10, 12, 0] += 3
    count = int(folded(bad, inside)[0].sum())
    assert 2 <= count <= 4
    mended = mend_folds(bad, inside)
    assert not bool(folded(mended, inside)[0].any())
    assert torch.equal(mended[0, 0], grid[0, 0])


def test_smoothing_keeps_what_is_affine_and_fits_are_exact() -> None:
    xy = pixel_grid(height=9, width=11).view(-1, 2)
    affine = torch.tensor([[1.1, 0.2], [-0.3, 0.9], [4.0, -2.0]])
    field = apply_affine(affine, xy)[None]
    weight = torch.rand(1, 99, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.allclose(fit_affine(xy[None], field, weight)[0], affine, atol=1e-3)
    assert torch.allclose(smooth_residual(field, field, weight, (9, 11), 2.0), field, atol=1e-4)
    # Affine fits also follow a slope that the base lacks, up to the border; means flatten it there.
    base = xy[None].float()
    straight = smooth_affine(field, base, torch.ones_like(weight), (9, 11), 1.5)
    flat = smooth_residual(field, base, torch.ones_like(weight), (9, 11), 1.5)
    assert (straight - field).abs().max() < 0.2
    assert (flat - field).abs().max() > 2 * (straight - field).abs().max()


def test_doubt_names_what_helps(source: DescriptorMap) -> None:
    target = moved_map(source, bent, height=H, width=W)
    good = coherent_field(source, target, config=NEVER).quality
    assert good.doubt(masked=False, guided=False) is None
    bad = dataclasses.replace(good, consistent=0.2)
    text = bad.doubt(masked=False, guided=False)
    assert text is not None and "20 %" in text and "masks of both objects" in text
    assert "masks" not in (bad.doubt(masked=True, guided=False) or "")
    uneven = dataclasses.replace(good, sd_log_j=1.3)
    loose = dataclasses.replace(
        good, consistent=0.75
    )  # enough for whole pictures, not inside masks
    assert loose.doubt(masked=False, guided=False) is None
    assert "75 %" in (loose.doubt(masked=True, guided=False) or "")
    assert "parts are stretched" in (uneven.doubt(masked=True, guided=False) or "")
    assert uneven.doubt(masked=False, guided=False) is None  # of whole pictures it says little
