"""Edits moved as one flat part: where a plane goes is known, and so is where a sticker belongs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sticker_clips import BoxFrame, coded_sticker, render_box, sticker_error
from textures import smooth_texture

from warpkit.coords import pixel_grid
from warpkit.evaluate.baselines import RgbPatches
from warpkit.propagate import EDIT_MODELS, EditConfig, EditLayer, EditTracker, edit_tracking
from warpkit.propagate.edit_models import EditModels, LaidEdit
from warpkit.propagate.plane_alignment import (
    FramePyramid,
    PlanePart,
    first_places,
    mapped,
    nearest_map,
)
from warpkit.propagate.plane_tracking import PointPairs, flat_part, part_motion
from warpkit.video.report import concerns, edit_models

H, W = 120, 160
DESCRIBER = RgbPatches(size=30, patch=3)


def texture(seed: int) -> np.ndarray:
    return smooth_texture(seed, (H, W), 40, 210)


def box_mask(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def moved(image: np.ndarray, homography: np.ndarray) -> np.ndarray:
    return cv2.warpPerspective(image, homography, (W, H), borderMode=cv2.BORDER_REFLECT)


PART = box_mask(50, 35, 110, 85)
CORNERS = np.array([[50.0, 35], [109, 35], [109, 84], [50, 84]])
RIGID = np.array([[1.05, -0.08, 6], [0.08, 1.05, -5], [0, 0, 1]])
AFFINE = np.array([[0.95, 0.1, 3], [-0.02, 1.08, -3], [0, 0, 1]])
PLANAR = np.array([[0.98, 0.05, 2.5], [-0.04, 1.02, 1], [4e-4, -3e-4, 1]])
MAPS = [
    pytest.param("rigid", RIGID, id="rigid"),
    pytest.param("affine", AFFINE, id="affine"),
    pytest.param("planar", PLANAR, id="planar"),
]


@pytest.mark.parametrize(("model", "truth"), MAPS)
def test_a_part_is_aligned_in_another_light_and_behind_something(model, truth):
    first = texture(1)
    frame = np.clip(0.7 * moved(first, truth) + 30, 0, 255).astype(np.uint8)
    frame[45:70, 85:95] = 240  # a pole in front, which no mask tells of
    part, _ = flat_part(first, PART, None)
    found = part.aligned(FramePyramid(frame, None), np.eye(3), None, model)
    assert np.linalg.norm(mapped(found, CORNERS) - mapped(truth, CORNERS), axis=1).max() < 0.25
    agreement, seen = part.agreement(FramePyramid(frame, None), found)
    assert agreement > 0.75
    assert seen == pytest.approx(1, abs=0.01)


def test_a_simple_model_stays_simple():
    part, _ = flat_part(texture(1), PART, None)
    frame = FramePyramid(moved(texture(1), PLANAR), None)
    found = part.aligned(frame, np.eye(3), None, "rigid")
    assert found[0, 0] == pytest.approx(found[1, 1])
    assert found[0, 1] == pytest.approx(-found[1, 0])
    assert np.array_equal(found[2], [0, 0, 1])


def test_something_else_is_hopeless():
    part, _ = flat_part(texture(1), PART, None)
    assert part.aligned(FramePyramid(texture(2), None), np.eye(3), None, "affine") is None


def test_nearest_maps_by_hand():
    square = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    sheared = np.array([[1, 0.5, 3], [0, 1, 4], [0, 0, 1]])
    np.testing.assert_allclose(nearest_map(sheared, square, "affine"), sheared, atol=1e-12)
    rigid = nearest_map(sheared, square, "rigid")
    np.testing.assert_allclose(rigid, [[1, 0.25, 3], [-0.25, 1, 4], [0, 0, 1]], atol=1e-12)
    assert nearest_map(PLANAR, square, "planar") is PLANAR


def test_the_part_around_an_edit_grows_until_there_is_something_to_see():
    plain = np.full((H, W), 120, np.uint8)
    plain[:, 130:] = texture(3)[:, 130:]
    small = box_mask(60, 50, 80, 64)
    _, near = flat_part(texture(3), small, np.ones((H, W), bool))
    _, far = flat_part(plain, small, np.ones((H, W), bool))
    assert near[57, 70] == far[57, 70] == 1
    assert near[57, 140] == 0
    assert far[57, 140] > 0
    _, inside = flat_part(texture(3), small, box_mask(60, 50, 90, 64))
    assert not inside[:, 90:].any()


def test_a_larger_frame_is_read_without_aliasing():
    stripes = np.tile(np.array([0, 0, 200, 200], np.uint8), (H, W // 4))
    grey, mask = FramePyramid(stripes, box_mask(0, 0, W // 2, H)).read(
        np.diag([4.0, 4, 1]), (W // 4, H // 4)
    )
    assert grey[5:-5, 5:-5].std() < 20  # every fourth pixel alone would be all 0 or all 200
    assert mask[10, 5] == 1
    assert mask[10, 35] == 0


def test_motion_between_frames_is_that_of_most_points():
    xy = np.argwhere(PART)[::40, ::-1].astype(float)
    before, after = texture(1), moved(texture(1), RIGID)
    found = part_motion(xy, before, after, 1.0)
    assert np.linalg.norm(mapped(found, CORNERS) - mapped(RIGID, CORNERS), axis=1).max() < 0.5
    assert part_motion(xy[:3], before, after, 1.0) is None
    assert part_motion(xy, before, np.full_like(after, 9), 1.0) is None
    assert PointPairs(xy[:2], xy[:2], 1.0).map() is None


def describe(image: np.ndarray):
    return DESCRIBER.describe([image])[0]


@pytest.fixture(scope="module")
def clip() -> list[BoxFrame]:
    return list(render_box("roundabout", 49, height=216))[::3]


def followed(clip: list[BoxFrame], *models: str) -> tuple[EditTracker, list[float]]:
    """A coded sticker through the clip, and the errors of its corners, of its size."""
    first = clip[0]
    run = EditTracker(
        first.image,
        first.mask.astype(np.uint8),
        describe(first.image),
        coded_sticker(first),
        models=models or EDIT_MODELS,
        config=EditConfig(short_side=144),
    )
    errors = []
    for frame in clip[1:]:
        layer = run.step(frame.image, frame.mask.astype(np.uint8), describe(frame.image))
        error, seen = sticker_error(layer, frame)
        assert seen == 1
        errors.append(error)
    return run, errors


def test_a_sticker_on_a_box_in_perspective_stays_to_a_hundredth_of_its_size(clip):
    run, errors = followed(clip, "planar")
    assert np.mean(errors) < 0.002
    assert max(errors) < 0.005
    assert run.fits[1].model == "planar"
    assert not run.fits[1].lost
    assert run.fits[1].agreement > 0.9


def test_what_explains_the_frames_is_taken(clip):
    run, errors = followed(clip[:9])
    assert run.fits[1].model == "planar"
    assert max(errors) < 0.015
    still = list(render_box("still", 4, height=144, samples=1))
    assert followed(still)[0].fits[1].model == "rigid"


def test_a_part_that_is_lost_fades_says_so_and_is_found_again(clip):
    first, strange = clip[0], cv2.cvtColor(texture(7), cv2.COLOR_GRAY2RGB)
    strange = cv2.resize(strange, first.image.shape[1::-1])
    run = followed(clip[:3], "affine")[0]
    labels = clip[2].mask.astype(np.uint8)
    opacities = []
    for _ in range(4):
        opacities.append(run.step(strange, labels, describe(strange)).alpha.max())
        assert run.fits[1].lost
    assert opacities[0] < 0.75
    assert opacities[-1] == 0
    layer = run.step(clip[3].image, clip[3].mask.astype(np.uint8), describe(clip[3].image))
    assert not run.fits[1].lost
    assert layer.alpha.max() > 0.4
    error, seen = sticker_error(
        EditLayer(
            np.where(layer.alpha[..., None] > 0.3, layer.premultiplied / layer.alpha.max(), 0)
        ),
        clip[3],
    )
    assert (error < 0.03, seen) == (True, 1)


def test_what_hides_the_object_hides_the_sticker(clip):
    first = clip[0]
    run = followed(clip[:2], "planar")[0]
    labels = clip[2].mask.astype(np.uint8)
    x, y = np.rint(clip[2].corners.mean(axis=0)).astype(int)
    labels[:, x - 6 : x + 6] = 0
    alpha = run.step(clip[2].image, labels, describe(clip[2].image)).alpha
    assert alpha[y, x - 3 : x + 3].max() == 0
    assert alpha[y, x - 12] == alpha[y, x + 12] == 1
    gone = run.step(first.image, 0 * labels, describe(first.image))
    assert not gone.alpha.any()
    assert run.fits == {}


@pytest.mark.parametrize("models", [("rigid",), EDIT_MODELS], ids=["rigid", "track"])
def test_a_kept_state_goes_on_to_the_same_bits(clip, models):
    run = followed(clip[:3], *models)[0]
    other = followed(clip[:1], *models)[0]
    other.restore({key: kept.clone() for key, kept in run.state().items()}, clip[2].image)
    layers = [
        r.step(clip[3].image, clip[3].mask.astype(np.uint8), describe(clip[3].image))
        for r in (run, other)
    ]
    assert np.array_equal(layers[0].premultiplied, layers[1].premultiplied)
    assert run.fits == other.fits


def test_a_stretch_begins_at_its_own_frame(clip):
    run, fresh = followed(clip[:4], "planar")[0], followed(clip[:1], "planar")[0]
    layers = []
    for one in (run, fresh):
        one.begin(at_first=False)
        frame = clip[4]
        layers.append(one.step(frame.image, frame.mask.astype(np.uint8), describe(frame.image)))
    assert np.array_equal(layers[0].premultiplied, layers[1].premultiplied)


def test_one_flat_model_needs_no_field(clip, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a field")

    monkeypatch.setattr(edit_tracking, "ObjectTracker", fail)
    monkeypatch.setattr(edit_tracking, "flow_between", fail)
    followed(clip[:2], "affine")


def test_places_while_one_model_takes_over_from_another():
    grid = pixel_grid(height=2, width=3).numpy()
    shift = np.array([[1.0, 0, 2], [0, 1, 0], [0, 0, 1]])
    laid = LaidEdit({"rigid": 0.25, "free": 0.75}, {"rigid": shift}, np.zeros((1, 2)), 1.0)
    assert laid.flat == 0.25
    np.testing.assert_allclose(laid.places(grid, grid), grid - (0.5, 0))
    assert laid.corners()[0].tolist() == [[2, 0]]


def test_what_lies_behind_the_horizon_is_nowhere():
    tilted = np.array([[1, 0, 0], [0, 1, 0], [0, 0.02, 1]])  # y goes to 50 for far away
    inside = np.array([[0.0, 0], [10, 10]])
    grid = np.float32([[[3, 20], [3, 49], [3, 60]]])
    places = first_places(tilted, grid, inside)
    np.testing.assert_allclose(places[0, 0], [5, 33.3333], atol=1e-3)
    np.testing.assert_allclose(places[0, 1], [150, 2450], rtol=1e-4)
    assert places[0, 2].max() < -1000
    np.testing.assert_allclose(mapped(tilted, places[:, :2]), grid[:, :2], rtol=1e-4)


def test_an_edit_without_any_texture_is_laid_all_the_same():
    plain = np.full((H, W), 120, np.uint8)
    models = EditModels(plain, plain, PART, np.ones((H, W), bool), ("affine",))
    fit, laid = models.step(plain, np.ones((H, W), bool), plain, plain, lambda: iter([]), None)
    assert fit.lost
    assert laid.opacity < 1
    assert PlanePart(plain, PART.astype(np.float32)).texture() < 1e-3


def test_the_report_names_models_and_losses():
    def row(n: int, model: str, *, lost: bool = False) -> dict:
        fit = {"model": model} | ({"lost": True} if lost else {})
        return {"frame": n, "name": f"{n:05d}", "edit": {"1": fit}}

    rows = [{"frame": 0, "name": "00000"}, row(1, "rigid"), row(2, "planar")]
    rows += [row(3, "planar", lost=True), row(4, "planar", lost=True), row(5, "planar")]
    assert edit_models(rows) == {"1": {"frames": {"rigid": 1, "planar": 4}, "lost": [[3, 4]]}}
    (worst,) = concerns(rows)
    assert worst.frame == 3
    assert worst.reasons == ("the edit of object 1 is lost",)
