"""Edits that follow their objects: where the motion is known, the edit must arrive there."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from edit_scores import edit_error, flicker, flow_edits
from textures import smooth_texture

from warpkit.checks import InputError
from warpkit.coords import pixel_grid
from warpkit.evaluate.baselines import RgbPatches
from warpkit.propagate import EditConfig, EditLayer, EditTracker, composite, object_fields
from warpkit.propagate.cell_matches import ObjectCells, match_cells
from warpkit.propagate.coherent_matches import coherent_matches
from warpkit.propagate.flow import flow_between
from warpkit.propagate.poses import turned_fields
from warpkit.propagate.smooth_fields import (
    affine_values,
    edge_weight,
    fit_weighted_affine,
    smooth_values,
)
from warpkit.render import CLIPS, render_frame, render_image, true_motion
from warpkit.types import DescriptorMap

H, W = 120, 160
DESCRIBER = RgbPatches(size=30, patch=3)


def texture(seed: int, height: int = H, width: int = W) -> np.ndarray:
    return smooth_texture(seed, (height, width, 3))


def scene(dx: float, dy: float, angle: float = 0.0, gain: float = 1.0, zoom: float = 1.0):
    """A textured disc of radius 28 moved over another texture: image, mask and its field."""
    centre = np.array([60.0, 60.0])
    c, s = np.cos(angle), np.sin(angle)
    places = (pixel_grid(height=H, width=W).numpy() - centre - (dx, dy)) / zoom
    source = (places @ np.array([[c, -s], [s, c]]) + centre).astype(np.float32)
    mask = np.linalg.norm(places, axis=-1) < 28
    disc = cv2.remap(texture(1), source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    lit = np.clip(disc * gain, 0, 255)
    return np.where(mask[..., None], lit, texture(2)).astype(np.uint8), mask, source


def describe(image: np.ndarray) -> DescriptorMap:
    return DESCRIBER.describe([image])[0]


PAINT = texture(3)  # what the edit paints on the disc


def tracker(**options) -> EditTracker:
    image, mask, _ = scene(0, 0)
    layer = np.dstack([PAINT, mask.astype(np.uint8) * 255])
    return EditTracker(
        image, mask.astype(np.uint8), describe(image), EditLayer.from_rgba(layer), **options
    )


def carried(run: EditTracker, *motion: float) -> tuple[float, np.ndarray, np.ndarray]:
    """One step: mean colour error inside the disc, the layer, the mask."""
    image, mask, source = scene(*motion)
    layer = run.step(image, mask.astype(np.uint8), describe(image))
    expected = cv2.remap(PAINT, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    error = np.abs(composite(image, layer)[mask].astype(float) - expected[mask]).mean()
    return error, layer.alpha, mask


MOTIONS = [
    pytest.param([(1.3, 0.6, 0.02), (2.7, 1.1, 0.05), (4.2, 1.4, 0.09)], id="slow"),
    pytest.param([(45, 0), (0, 2), (44, 1)], id="45 pixels a frame"),
    pytest.param([(6, 2, 0.2), (12, 4, 0.4), (18, 6, 0.6), (24, 8, 0.8)], id="turning"),
]


@pytest.mark.parametrize("motions", MOTIONS)
def test_the_edit_arrives_where_the_object_goes(motions):
    run = tracker()
    for motion in motions:
        error, alpha, mask = carried(run, *motion)
        assert error < 8  # of 255; a random place of the paint is 40 off
        assert alpha[mask].mean() > 0.95
        near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert not alpha[~near].any()


def test_parts_that_move_on_their_own_are_followed():
    """A disc with an arm that swings about its hinge: no one affine map moves both."""
    places = pixel_grid(height=H, width=W).numpy()

    def posed(swing: float, dx: float):
        on_disc = places - (dx, 0)
        arm = on_disc - (60, 60)
        c, s = np.cos(swing), np.sin(swing)
        turned = (arm @ np.array([[c, -s], [s, c]]) + (60, 60)).astype(np.float32)
        limb = (np.abs(turned[..., 1] - 60) < 9) & (turned[..., 0] > 60) & (turned[..., 0] < 125)
        disc = np.linalg.norm(arm, axis=-1) < 26
        source = np.where(disc[..., None], on_disc, turned).astype(np.float32)
        shown = cv2.remap(texture(1), source, None, cv2.INTER_LINEAR)
        mask = disc | limb
        return np.where(mask[..., None], shown, texture(2)).astype(np.uint8), mask, source, limb

    image, mask, *_ = posed(0, 0)
    layer = EditLayer.from_rgba(np.dstack([PAINT, mask.astype(np.uint8) * 255]))
    run = EditTracker(image, mask.astype(np.uint8), describe(image), layer)
    for t in range(1, 9):
        image, mask, source, limb = posed(0.07 * t, 2.0 * t)
        tracked_layer = run.step(image, mask.astype(np.uint8), describe(image))
    result = composite(image, tracked_layer)
    expected = cv2.remap(PAINT, source, None, cv2.INTER_LINEAR)
    far = limb & (np.linalg.norm(places - (76, 60), axis=-1) > 36)
    assert far.sum() > 300
    assert np.abs(result[far].astype(float) - expected[far]).mean() < 12


def test_speckle_of_the_mask_takes_no_edit():
    run = tracker()
    image, mask, _ = scene(2, 1)
    labels = mask.astype(np.uint8)
    labels[5:12, 145:152] = 1
    alpha = run.step(image, labels, describe(image)).alpha
    assert not alpha[:20, 130:].any()
    assert alpha[mask].mean() > 0.95


def test_an_object_that_is_gone_comes_back_from_its_descriptors():
    run = tracker()
    carried(run, 3, 1)
    image, mask, _ = scene(6, 2)
    nothing = run.step(image, np.zeros_like(mask, dtype=np.uint8), describe(image))
    assert not nothing.alpha.any()
    assert "edit.1" not in run.state()
    error, _, _ = carried(run, 30, 10)
    assert error < 8


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def describe_upright(image: np.ndarray) -> DescriptorMap:
    """Wide patches of grey: something else as soon as they are turned."""
    return RgbPatches(size=30, patch=7).describe([image])[0]


def begun_anew(*motion: float) -> tuple[EditTracker, float, float]:
    """The grey disc found again: its tracker, mean errors of the field (pixels) and the colours."""
    image, mask, _ = scene(0, 0)
    layer = EditLayer.from_rgba(np.dstack([PAINT, mask.astype(np.uint8) * 255]))
    run = EditTracker(grey(image), mask.astype(np.uint8), describe_upright(grey(image)), layer)
    run.step(grey(image), np.zeros_like(mask, dtype=np.uint8), describe_upright(grey(image)))
    image, mask, source = scene(*motion)
    image = grey(image)
    laid = run.step(image, mask.astype(np.uint8), describe_upright(image))
    expected = cv2.remap(PAINT, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    error = np.abs(composite(image, laid)[mask].astype(float) - expected[mask]).mean()
    away = np.linalg.norm(run.state()["edit.1"].numpy()[mask] - source[mask], axis=1).mean()
    return run, away, error


FOUND_AGAIN = [
    pytest.param(0.8, 1.0, id="turned by 46 degrees"),
    pytest.param(2.7, 1.0, id="turned by 155 degrees"),
    pytest.param(0.0, 1.6, id="larger"),
    pytest.param(0.0, 0.6, id="smaller"),
    pytest.param(-1.7, 0.7, id="turned and smaller"),
]


@pytest.mark.parametrize(("angle", "zoom"), FOUND_AGAIN)
def test_an_object_is_found_again_turned_and_resized(angle, zoom):
    _, away, error = begun_anew(30, -5, angle, 1.0, zoom)
    assert away < 0.2
    assert error < 2  # of 255; a random place of the paint is 40 off


def test_the_coherent_field_finds_what_single_cells_miss(monkeypatch):
    monkeypatch.setattr(object_fields, "turned_fields", lambda *_, **__: [])
    assert begun_anew(30, -5, 0.5)[1] < 0.25  # pixels; 0.43 without the coherent field


def test_a_coherent_field_that_is_wrong_is_not_taken(monkeypatch):
    def wrong(*maps, **masks):
        found = coherent_matches(*maps, **masks)
        return replace(found, source_xy=found.source_xy + np.float32([9, -14]))

    monkeypatch.setattr(object_fields, "coherent_matches", wrong)
    assert begun_anew(30, -5, 0.5)[1] < 0.2


def test_a_state_kept_after_finding_again_goes_on_to_the_same_bits():
    run, other = begun_anew(30, -5, 0.5)[0], begun_anew(0, 0)[0]
    other.restore(run.state(), grey(scene(30, -5, 0.5)[0]))
    image, mask, _ = scene(32, -4, 0.5)
    found = describe_upright(grey(image))
    layers = [r.step(grey(image), mask.astype(np.uint8), found) for r in (run, other)]
    assert np.array_equal(layers[0].premultiplied, layers[1].premultiplied)


def test_a_large_frame_is_found_again_at_the_size_it_is_tracked_at():
    run = tracker(config=EditConfig(short_side=64))
    run.begin(at_first=False)
    error, _, _ = carried(run, 30, 10, 1.2)
    assert error < 12


def test_frames_that_follow_one_another_know_nothing_of_finding_again(monkeypatch):
    """A clip without a loss takes the way that it always took, to the same bits."""

    def layers():
        run = tracker()
        for motion in ((2, 0), (45, 0, 0.3), (47, 1, 0.35)):
            image, mask, _ = scene(*motion)
            yield run.step(image, mask.astype(np.uint8), describe(image)).premultiplied

    expected = list(layers())

    def fail(*_, **__):
        raise AssertionError("found anew")

    for name in ("coherent_matches", "turned_fields", "_best_anew"):
        monkeypatch.setattr(object_fields, name, fail)
    for found, wanted in zip(layers(), expected, strict=True):
        assert np.array_equal(found, wanted)
    run = tracker()
    run.begin(at_first=False)
    with pytest.raises(AssertionError, match="found anew"):
        carried(run, 2, 0)


def test_a_kept_state_goes_on_to_the_same_bits():
    run, other = tracker(), tracker()
    for motion in ((2, 0), (4, 1, 0.1)):
        carried(run, *motion)
    other.restore({key: kept.clone() for key, kept in run.state().items()}, scene(4, 1, 0.1)[0])
    image, mask, _ = scene(7, 2, 0.15)
    layers = [r.step(image, mask.astype(np.uint8), describe(image)) for r in (run, other)]
    assert np.array_equal(layers[0].premultiplied, layers[1].premultiplied)


def test_beginning_again_forgets_what_was_seen():
    run, fresh = tracker(), tracker()
    carried(run, 9, 4)
    run.begin(at_first=True)
    image, mask, _ = scene(1, 0)
    layers = [r.step(image, mask.astype(np.uint8), describe(image)) for r in (run, fresh)]
    assert np.array_equal(layers[0].premultiplied, layers[1].premultiplied)
    run.begin(at_first=False)
    assert "edit.1" not in run.state()
    assert carried(run, 40, 0)[0] < 8


def test_the_light_of_the_frame_is_kept_on_request():
    levels = {}
    for lighting in (False, True):
        run = tracker(config=EditConfig(lighting=lighting))
        image, mask, _ = scene(2, 1, 0, 0.5)
        layer = run.step(image, mask.astype(np.uint8), describe(image))
        levels[lighting] = composite(image, layer)[mask].mean() / PAINT[scene(0, 0)[1]].mean()
    assert levels[False] == pytest.approx(1, abs=0.05)
    assert levels[True] == pytest.approx(0.5, abs=0.05)


def test_objects_keep_their_edits_apart():
    """Two discs of one texture, side by side, painted in two colours."""
    left, right = scene(-25, 0), scene(40, 0)
    image = np.where(right[1][..., None], right[0], left[0])
    labels = (left[1] * 1 + right[1] * 2).astype(np.uint8)
    rgba = np.zeros((H, W, 4), np.uint8)
    rgba[left[1]], rgba[right[1]] = (255, 0, 0, 255), (0, 0, 255, 255)
    run = EditTracker(image, labels, describe(image), EditLayer.from_rgba(rgba))
    layer = run.step(image, labels, describe(image)).premultiplied
    assert layer[left[1]][:, 2].max() == 0
    assert layer[right[1]][:, 0].max() == 0
    assert layer[left[1]][:, 0].mean() > 0.95


def test_without_an_outline_the_layers_own_opacity_counts():
    image, mask, _ = scene(0, 0)
    rgba = np.zeros((H, W, 4), np.uint8)
    rgba[50:70, 50:70] = (0, 255, 0, 128)
    region = (rgba[..., 3] > 0).astype(np.uint8)
    run = EditTracker(image, region, describe(image), EditLayer.from_rgba(rgba), outlined=False)
    alpha = run.step(image, region, describe(image)).alpha
    assert alpha[52:68, 52:68].mean() == pytest.approx(128 / 255, abs=0.01)
    assert alpha.max() <= 128 / 255 + 1e-6
    assert not alpha[~mask].any()


def test_large_frames_are_tracked_small_and_painted_full():
    error, alpha, _ = carried(tracker(config=EditConfig(short_side=64)), 5, 2)
    assert alpha.shape == (H, W)
    assert error < 12


def test_bad_options():
    for pattern, options in {
        "short_side must be at least 64": {"short_side": 20},
        "band must lie": {"band": 0.5},
        "blend": {"blend": "magic"},
    }.items():
        with pytest.raises(InputError, match=pattern):
            EditConfig(**options)
    image, mask, _ = scene(0, 0)
    layer = EditLayer(np.zeros((H, W - 1, 4), np.float32))
    with pytest.raises(InputError, match="edit layer is 120 x 159"):
        EditTracker(image, mask.astype(np.uint8), describe(image), layer)


# Smooth fields.


def test_an_affine_map_is_found_among_wrong_matches():
    generator = np.random.default_rng(0)
    truth = np.array([[0.9, 0.2, 11.0], [-0.3, 1.1, -4.0]])
    xy = generator.uniform(0, 90, (200, 2))
    values = affine_values(truth, xy)
    values[:50] += generator.uniform(-60, 60, (50, 2))
    found = fit_weighted_affine(xy, values.astype(np.float32), np.ones(200, np.float32))
    np.testing.assert_allclose(found, truth, atol=0.05)


def test_edges_know_only_the_motion_across_them():
    """Half of the points know x alone, half y alone; what they do not know is wrong."""
    xy = np.random.default_rng(1).uniform(0, 50, (100, 2)).astype(np.float32)
    values = xy + np.float32([3, -2])
    values[:50, 1] += 20
    values[50:, 0] -= 30
    weight = np.zeros((100, 3), np.float32)
    weight[:50, 0] = 1
    weight[50:, 2] = 1
    found = fit_weighted_affine(xy, values, weight)
    np.testing.assert_allclose(found, [[1, 0, 3], [0, 1, -2]], atol=1e-2)


def test_smoothing_keeps_what_is_sure_and_fills_the_rest():
    values = np.zeros((40, 60, 2), np.float32)
    values[..., 0] = 5
    weight = np.zeros((40, 60), np.float32)
    weight[10:30, 5:30] = 1
    values[weight == 0] = 99
    smooth = smooth_values(values, weight, (20.0, 3.0))
    np.testing.assert_allclose(smooth[15:25, 10:25, 0], 5, atol=0.2)
    assert 3 < smooth[20, 45, 0] < 5.1
    assert np.abs(smooth[..., 1]).max() < 1e-5


def test_edge_weights_point_across_edges():
    grey = np.zeros((30, 30), np.uint8)
    grey[:, 15:] = 200
    weight = edge_weight(grey, noise=2.0)
    assert weight[15, 15, 0] > 0.95
    assert abs(weight[15, 15, 2]) < 1e-3
    assert not weight[15, 3].any()


def test_flow_of_small_images():
    image = cv2.cvtColor(texture(4, 40, 50), cv2.COLOR_RGB2GRAY)
    moved = np.roll(image, (1, 2), axis=(0, 1))
    found = flow_between(image, moved)
    assert found.shape == (40, 50, 2)
    np.testing.assert_allclose(np.median(found[10:30, 10:40], axis=(0, 1)), [2, 1], atol=0.2)


def test_cells_are_matched_on_the_object_alone():
    here, there = scene(0, 0), scene(20, 8)
    cells = [ObjectCells.of(describe(image), image, mask) for image, mask, _ in (here, there)]
    found = match_cells(*cells)
    good = np.linalg.norm(found.xy - found.source_xy - (20, 8), axis=1) < 3
    assert good.mean() > 0.7
    assert found.weight[good].mean() > found.weight[~good].mean()
    none = ObjectCells.of(describe(here[0]), here[0], np.zeros((H, W), bool))
    assert match_cells(none, cells[1]) is None
    half = cells[0].scaled(0.5)
    torch.testing.assert_close(half.xy, (cells[0].xy + 0.5) / 2 - 0.5)


def test_pixels_are_matched_whole():
    """Every pixel of the mask, in the frame's pixels, also where maps cover a smaller frame."""
    (first, first_mask, _), (image, mask, source) = scene(0, 0), scene(20, 8, 0.3)
    maps = [describe(first), describe(image)]
    found = coherent_matches(*maps, first_mask=first_mask, mask=mask)
    assert len(found.xy) == mask.sum()
    x, y = found.xy.astype(int).T
    assert mask[y, x].all()
    assert np.linalg.norm(found.source_xy - source[y, x], axis=1).mean() < 1.5
    assert (found.weight > 0).all()
    assert found.cell == 10  # two and a half cells of 4 pixels
    assert float((found.weight * found.cell**2).max()) == pytest.approx(1)


def test_turned_fields_by_hand():
    first_mask, mask = np.zeros((7, 9), bool), np.zeros((7, 9), bool)
    first_mask[0:4, 1:5] = True  # 16 pixels about (2.5, 1.5)
    mask[3:5, 6:8] = True  # 4 pixels about (6.5, 3.5)
    places = np.float32([[[6.5, 3.5], [7.5, 3.5]]])
    fields = turned_fields(places, first_mask=first_mask, mask=mask)
    assert len(fields) == 24
    np.testing.assert_allclose(fields[0], [[[2.5, 1.5], [4.5, 1.5]]], atol=1e-5)
    np.testing.assert_allclose(fields[6], [[[2.5, 1.5], [2.5, 3.5]]], atol=1e-5)
    np.testing.assert_allclose(fields[12], [[[2.5, 1.5], [0.5, 1.5]]], atol=1e-5)


# Scores.


def test_scores_by_hand():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    mask = np.zeros((4, 4), bool)
    assert edit_error(black, grey, mask) is None
    assert flicker(black, grey, pixel_grid(height=4, width=4).numpy(), mask) is None
    mask[1, 1:3] = True
    assert edit_error(black, grey, mask) == pytest.approx(0.2)
    assert flicker(black, grey, pixel_grid(height=4, width=4).numpy(), mask) == pytest.approx(0.2)
    moved = np.roll(texture(5), 3, axis=1)
    back = pixel_grid(height=H, width=W).numpy() - np.float32([3, 0])
    inner = np.zeros((H, W), bool)
    inner[:, 10:] = True
    assert flicker(texture(5), moved, back, inner) == 0


def test_flow_edits_begin_with_the_edit_and_follow_small_motion():
    frames = [scene(t, 0) for t in range(3)]
    layer = np.dstack([PAINT, frames[0][1].astype(np.uint8) * 255])
    edited = list(flow_edits((image for image, _, _ in frames), EditLayer.from_rgba(layer)))
    assert len(edited) == 3
    assert np.array_equal(edited[0][frames[0][1]], PAINT[frames[0][1]])
    _, mask, source = frames[2]
    expected = cv2.remap(PAINT, source, None, cv2.INTER_LINEAR)
    assert edit_error(edited[2], expected, mask) < 0.08


def test_true_motion_leads_to_the_same_point():
    spec = replace(CLIPS["fish"], height=48, width=80)
    frame = render_frame(spec, 3)
    xy, seen = true_motion(spec, 3, 0)
    assert np.array_equal(xy, frame.source_xy)
    assert np.array_equal(seen, frame.visible)
    assert np.array_equal(render_image(spec, 3), frame.image)
    edited = render_frame(spec, 3, edited=True).image
    assert np.array_equal(render_image(spec, 3, edited=True), edited)
    with pytest.raises(InputError, match="has frames 0 to 47, got 48"):
        true_motion(spec, 0, 48)
