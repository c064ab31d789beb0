"""Rendered clips: exact fields, exact labels, and nothing but the seed decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.render import (
    CLIPS,
    HARD_CLIPS,
    ClipSpec,
    Light,
    SceneLayer,
    frames,
    render_frame,
    render_image,
    render_pair,
    true_motion,
)
from warpkit.render.drawing import Style
from warpkit.render.frames import _at, _front
from warpkit.render.motion import Array, Camera, Curve, Flap, Pose, Squeeze, Step, Wave
from warpkit.render.scene import DRAWINGS
from warpkit.render.scenery import SCENERIES
from warpkit.render.shapes import capsule, circle, ellipse, polygon, star, union
from warpkit.render.textures import PATTERNS, grain, pattern_cover

STYLE = Style("d04030", "f0e0a0", "e0a030")
EDITED = Style("3050d0", "40e0a0", "f0f0f0", pattern="spots")


def _small(name: str) -> ClipSpec:
    spec = CLIPS[name]
    return replace(spec, height=48, width=round(48 * spec.width / spec.height), supersampling=1)


def _medium(name: str) -> ClipSpec:
    spec = CLIPS[name]
    return replace(spec, height=96, width=round(96 * spec.width / spec.height))


def _rigid(pose: Pose, **changes: object) -> ClipSpec:
    spec = ClipSpec(
        name="rigid",
        height=40,
        width=57,
        frames=6,
        frame_rate=10,
        seed=1,
        scenery="tiles",
        objects=(SceneLayer("beetle", 1, (pose,), STYLE, EDITED),),
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def _grid(height: int, width: int) -> np.ndarray:
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([x, y], axis=-1).astype(np.float32)


def _sample(values: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Bilinear values (H, W, C) at points (N, 2), clamped; written out as the check's own."""
    height, width = values.shape[:2]
    x = np.clip(xy[:, 0].astype(np.float64), 0, width - 1)
    y = np.clip(xy[:, 1].astype(np.float64), 0, height - 1)
    i = np.minimum(np.floor(y).astype(int), height - 2)
    j = np.minimum(np.floor(x).astype(int), width - 2)
    a, b = (x - j)[:, None], (y - i)[:, None]
    top = values[i, j] * (1 - a) + values[i, j + 1] * a
    low = values[i + 1, j] * (1 - a) + values[i + 1, j + 1] * a
    return top * (1 - b) + low * b


def _away_from_edges(labels: np.ndarray) -> np.ndarray:
    """Pixels whose 5 x 5 neighbourhood has one label."""
    padded = np.pad(labels, 2, mode="edge")
    height, width = labels.shape
    same = np.ones(labels.shape, dtype=bool)
    for dy in range(5):
        for dx in range(5):
            same &= padded[dy : dy + height, dx : dx + width] == labels
    return same


# Motion: every inverse is exact.

STEPS: list[Step] = [
    Pose(Curve(0.3, rate=0.2), Curve(-0.1), Curve(0.7, swing=0.3), Curve(0.6, rate=0.1)),
    Pose(angle=Curve(-2.0), scale=Curve(1.5), mirror=True),
    Wave(0.2, anchor=0.3, reach=0.8, length=0.9, period=1.1, phase=0.2),
    Squeeze(0.3, length=0.8, period=1.3),
    Flap(Curve(0.5, swing=0.2), body=0.05),
    Camera(Curve(0.2, rate=0.1), Curve(-0.1), Curve(0.1, rate=0.3), Curve(1.2, rate=0.5)),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_steps_are_inverted_exactly(step: Step) -> None:
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 500))
    for seconds in (0.0, 0.37, 2.0):
        back = step.inverse(*step.forward(x, y, seconds), seconds)
        np.testing.assert_allclose(back, (x, y), atol=1e-12)
        there = step.forward(*step.inverse(x, y, seconds), seconds)
        np.testing.assert_allclose(there, (x, y), atol=1e-12)


def test_curve_by_hand() -> None:
    curve = Curve(1.0, rate=2.0, swing=3.0, period=4.0, phase=0.25)
    assert curve.at(0.0) == pytest.approx(1.0 + 3.0)
    assert curve.at(1.0) == pytest.approx(1.0 + 2.0 + 0.0)
    assert curve.at(2.0) == pytest.approx(1.0 + 4.0 - 3.0)


def test_pose_turns_x_towards_y() -> None:
    pose = Pose(Curve(5.0), Curve(1.0), Curve(np.pi / 2), Curve(2.0))
    x, y = pose.forward(np.array([1.0]), np.array([0.0]), 0.0)
    np.testing.assert_allclose((x[0], y[0]), (5.0, 3.0), atol=1e-12)


def test_wave_and_squeeze_by_hand() -> None:
    x, y = np.array([-0.5, 0.5]), np.array([0.1, 0.1])
    wave = Wave(0.2, anchor=0.0, reach=1.0, length=1.0, period=1.0, phase=0.75)
    # At x = -0.5 the amplitude is 0.2 * 0.25 and the phase a quarter: -0.5 + 0.75.
    np.testing.assert_allclose(wave.forward(x, y, 0.0)[1], [0.15, 0.1], atol=1e-12)
    squeeze = Squeeze(0.5, length=2.0, period=1.0)
    np.testing.assert_allclose(squeeze.forward(x, y, 0.0)[1], [0.05, 0.15], atol=1e-12)


# Shapes and patterns.


def test_shape_distances_by_hand() -> None:
    x, y = np.array([0.0, 3.0, 0.0]), np.array([0.0, 4.0, 2.0])
    np.testing.assert_allclose(circle(x, y, 0, 0, 1), [-1, 4, 1])
    np.testing.assert_allclose(ellipse(x, y, 0, 0, 2, 2), [-2, 3, 0], atol=1e-12)
    np.testing.assert_allclose(capsule(x, y, (0, 0), (0, 4), 0.5), [-0.5, 2.5, -0.5])
    square = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
    np.testing.assert_allclose(polygon(x, y, square), [-1, np.hypot(2, 3), 1])
    np.testing.assert_allclose(union(circle(x, y, 3, 4, 1), circle(x, y, 0, 0, 1)), [-1, -1, 1])
    tips = star(np.array([0.9, -0.9]), np.zeros(2), 0, 0, 1)
    assert tips[0] < 0 < tips[1]


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_coverages(name: str) -> None:
    x, y = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 2000))
    weight = pattern_cover(name, x, y)
    assert weight.shape == x.shape
    assert weight.min() >= 0 and weight.max() <= 1
    assert (weight.max() > 0.9) == (name != "plain")


def test_grain_is_smooth_and_seeded() -> None:
    x, y = np.random.default_rng(2).uniform(-3, 3, (2, 1000))
    first = grain(4).noise(x, y, 0.5)
    assert first.min() >= 0 and first.max() <= 1
    np.testing.assert_array_equal(first, grain(4).noise(x, y, 0.5))
    assert np.abs(grain(4).noise(x + 1e-6, y, 0.5) - first).max() < 1e-4
    assert np.abs(grain(5).noise(x, y, 0.5) - first).max() > 0.1


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_stay_within_their_bounds(name: str) -> None:
    drawing = DRAWINGS[name]
    x0, y0, x1, y1 = drawing.bounds
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-2, 2, 201), np.linspace(-1, 1, 201)))
    outside = (x <= x0) | (x >= x1) | (y <= y0) | (y >= y1)
    inside = drawing.distance(x, y) < 0
    assert inside.any() and not (inside & outside).any()
    for style in (STYLE, EDITED):
        colours = drawing.paint(x[inside], y[inside], style)
        assert colours.shape == (inside.sum(), 3)
        assert colours.min() >= 0 and colours.max() <= 1


@pytest.mark.parametrize("name", SCENERIES)
def test_sceneries_are_colours(name: str) -> None:
    x, y = np.random.default_rng(3).uniform(-2, 2, (2, 1000))
    colours: Array = SCENERIES[name](x, y, grain(0))
    assert colours.shape == (1000, 3)
    assert colours.min() >= 0 and colours.max() <= 1.1
    assert colours.std(axis=0).max() > 0.03  # not flat


# Fields.


def test_translation_by_hand() -> None:
    # 0.5 and -0.25 frame heights a second at 10 frames a second and 40 pixels a frame height:
    # 2 and -1 pixels a frame.
    spec = _rigid(
        Pose(Curve(-0.2, rate=0.5), Curve(0.1, rate=-0.25), scale=Curve(0.5)), supersampling=2
    )
    frame = render_frame(spec, 3)
    on = frame.labels == 1
    np.testing.assert_allclose(frame.source_xy[on], _grid(40, 57)[on] + [-6, 3], atol=1e-4)
    np.testing.assert_array_equal(frame.source_xy[~on], _grid(40, 57)[~on])
    first = render_frame(spec, 0)
    on = first.labels == 1
    np.testing.assert_allclose(frame.target_xy[on], _grid(40, 57)[on] + [6, -3], atol=1e-4)
    # A whole-pixel shift repeats labels and colours exactly.
    moved = np.roll(first.labels, (-3, 6), axis=(0, 1))
    np.testing.assert_array_equal(frame.labels, moved)
    image = np.roll(first.image, (-3, 6), axis=(0, 1))
    core = _away_from_edges(frame.labels) & (frame.labels == 1)
    assert core.sum() > 50
    difference = frame.image[core].astype(int) - image[core].astype(int)
    assert np.abs(difference).max() <= 1


def test_rotation_by_hand() -> None:
    # A quarter turn about the frame's centre in one frame: (u, v) comes from (v, -u).
    spec = _rigid(Pose(angle=Curve(rate=5 * np.pi), scale=Curve(0.6)), height=41, width=57)
    frame = render_frame(spec, 1)
    on = frame.labels == 1
    u, v = (_grid(41, 57) - [28, 20])[on].T
    np.testing.assert_allclose(frame.source_xy[on], np.stack([28 + v, 20 - u], -1), atol=1e-4)


def test_camera_zoom_by_hand() -> None:
    spec = _rigid(Pose(), objects=(), camera=Camera(zoom=Curve(1.0, rate=10.0)))
    frame = render_frame(spec, 1)  # zoom 2: seen half as far from the centre at frame 0
    centre = np.array([28.0, 19.5])
    expected = (_grid(40, 57) - centre) / 2 + centre
    np.testing.assert_allclose(frame.source_xy, expected, atol=1e-4)
    assert frame.visible.all()
    np.testing.assert_allclose(frame.target_xy, (_grid(40, 57) - centre) * 2 + centre, atol=1e-4)
    inside = (np.abs(frame.target_xy - centre) <= [28.5, 20.0]).all(axis=-1)
    np.testing.assert_array_equal(frame.target_visible, inside)


@pytest.mark.parametrize("name", CLIPS)
def test_first_frame_is_the_identity(name: str) -> None:
    spec = _small(name)
    frame = render_frame(spec, 0)
    grid = _grid(spec.height, spec.width)
    np.testing.assert_allclose(frame.source_xy, grid, atol=1e-4)
    np.testing.assert_allclose(frame.target_xy, grid, atol=1e-4)
    assert frame.visible.all() and frame.target_visible.all()


@pytest.mark.parametrize("name", CLIPS)
def test_fields_agree_with_labels_and_colours(name: str) -> None:
    # Plain light: shadows and brightness are looks, not correspondences. Half the clip's size, so
    # that no gap between two wings is thinner than the pixels that stand for its surroundings.
    spec = replace(_medium(name), light=Light(), supersampling=2)
    first, frame = render_frame(spec, 0), render_frame(spec, 2 * spec.frames // 3)
    clear = _away_from_edges(first.labels)
    there = np.rint(frame.source_xy).astype(int)
    there = np.clip(there, 0, [spec.width - 1, spec.height - 1])
    column, row = there[..., 0], there[..., 1]
    use = frame.visible & clear[row, column] & _away_from_edges(frame.labels)
    assert (use & (frame.labels > 0)).sum() > 30
    np.testing.assert_array_equal(first.labels[row, column][use], frame.labels[use])
    warped = _sample(first.image, frame.source_xy[use])
    difference = np.abs(warped - frame.image[use]).mean(axis=-1)
    # Fine texture at this size is blurred by the sampling itself: it bounds the typical error.
    assert np.median(difference) < 8
    unwarped = np.abs(first.image[use].astype(float) - frame.image[use]).mean(axis=-1)
    on = frame.labels[use] > 0
    assert difference[on].mean() < 0.6 * unwarped[on].mean()


def test_material_colours_are_the_same_point_for_point() -> None:
    # A smooth texture and a big object: warping frame 0 gives frame t to a few grey levels.
    body = Wave(0.1, anchor=0.4, reach=0.9, length=1.2, period=1.0)
    pose = Pose(Curve(-0.1, rate=0.3), angle=Curve(0.0, rate=0.4), scale=Curve(1.0))
    spec = _rigid(pose, height=96, width=145, objects=(SceneLayer("fish", 1, (body, pose), STYLE),))
    first, frame = render_frame(spec, 0), render_frame(spec, 4)
    use = frame.visible & _away_from_edges(frame.labels) & (frame.labels == 1)
    difference = np.abs(_sample(first.image, frame.source_xy[use]) - frame.image[use])
    assert use.sum() > 1000
    assert np.median(difference) < 4 and difference.mean() < 8


@pytest.mark.parametrize("name", CLIPS)
def test_forward_and_backward_fields_are_inverse(name: str) -> None:
    spec = _medium(name)
    t = spec.frames // 2
    first, frame = render_frame(spec, 0), render_frame(spec, t)
    start, seen = _grid(spec.height, spec.width), frame.target_visible
    # Pixels of frame 0 followed to frame t; what is seen there, followed back.
    x, y = frame.target_xy.reshape(-1, 2).T.astype(np.float64)
    flat, _ = _at(spec, _front(spec, x, y, t / spec.frame_rate), 0.0)
    back = flat.reshape(start.shape)
    error = np.linalg.norm(back - start, axis=-1)
    assert seen[first.labels > 0].sum() > 300
    assert error[seen].max() < 1e-3
    # The same through the stored field, read between pixels well inside one object: limited by
    # the reading (creases, seams between parts), not by the field.
    there = np.rint(frame.target_xy).astype(int)
    there = np.clip(there, 0, [spec.width - 1, spec.height - 1])
    inner = _away_from_edges(frame.labels) & (frame.labels > 0)
    clear = inner[there[..., 1], there[..., 0]]
    use = seen & clear & (first.labels > 0)
    error = np.linalg.norm(_sample(frame.source_xy, frame.target_xy[use]) - start[use], axis=-1)
    assert len(error) > 150
    assert np.quantile(error, 0.75) < 0.05


def test_occlusion_hides_and_reveals() -> None:
    spec = _small("turtle")
    frame = render_frame(spec, spec.frames // 2)
    hidden = ~frame.visible & (frame.labels == 0)
    assert hidden.sum() > 20  # sand that the turtle covered in frame 0
    covered = ~frame.target_visible & (render_frame(spec, 0).labels == 1)
    assert covered.sum() > 20  # turtle behind the kelp
    areas = [(render_frame(spec, t).labels == 1).sum() for t in (0, spec.frames // 2)]
    assert areas[1] < 0.9 * areas[0]


def test_visibility_by_hand() -> None:
    # One beetle passes in front of another that stands still.
    still = SceneLayer("beetle", 1, (Pose(scale=Curve(0.5)),), STYLE)
    passing = SceneLayer("beetle", 2, (Pose(Curve(-2.0, rate=20.0), scale=Curve(0.5)),), EDITED)
    spec = _rigid(Pose(), objects=(still, passing))
    frame = render_frame(spec, 1)  # exactly in front
    assert not (frame.labels == 1).any()
    first = render_frame(spec, 0)
    assert not frame.target_visible[first.labels == 1].any()
    assert frame.target_visible[first.labels == 0].all()
    assert not frame.visible[frame.labels == 2].any()  # it was outside frame 0
    assert frame.visible[frame.labels == 0].all()


# Clips.


@pytest.mark.parametrize("name", CLIPS)
def test_clips_show_every_object_all_the_time(name: str) -> None:
    spec = _small(name)
    assert spec.name == name and spec.summary and 40 <= spec.frames <= 60
    ids = sorted({layer.label for layer in spec.objects} - {0})
    assert ids == list(range(1, len(ids) + 1))
    for t in (0, spec.frames // 2, spec.frames - 1):
        frame = render_frame(spec, t)
        assert frame.image.shape == (spec.height, spec.width, 3) and frame.image.dtype == np.uint8
        assert frame.labels.shape == frame.visible.shape == frame.image.shape[:2]
        assert frame.source_xy.dtype == frame.target_xy.dtype == np.float32
        for label in ids:
            assert (frame.labels == label).mean() > 0.01


@pytest.mark.parametrize("name", CLIPS)
def test_edits_change_the_object_and_nothing_else(name: str) -> None:
    spec = _small(name)
    plain, edited = render_frame(spec, 7), render_frame(spec, 7, edited=True)
    np.testing.assert_array_equal(plain.labels, edited.labels)
    np.testing.assert_array_equal(plain.source_xy, edited.source_xy)
    changed = (plain.image != edited.image).any(axis=-1)
    assert not (changed & (plain.labels == 0)).any()  # one sample a pixel: no mixed edge pixels
    assert changed[plain.labels > 0].mean() > 0.4


def test_antialiased_edits_reach_one_pixel_beyond_the_object_at_most() -> None:
    spec = replace(_small("fish"), supersampling=3)
    plain, edited = render_frame(spec, 0), render_frame(spec, 0, edited=True)
    changed = (plain.image != edited.image).any(axis=-1)
    padded = np.pad(plain.labels > 0, 1)
    near = np.zeros(plain.labels.shape, dtype=bool)
    for dy in range(3):
        for dx in range(3):
            near |= padded[dy : dy + spec.height, dx : dx + spec.width]
    assert not (changed & ~near).any()


def test_the_same_specification_gives_the_same_bytes() -> None:
    spec = replace(_small("beetle"), frames=3)
    frames = [render_frame(spec, t) for t in range(spec.frames)]
    assert len(frames) == 3
    grain.cache_clear()
    for t, frame in enumerate(frames):
        again = render_frame(spec, t)
        for field in ("image", "labels", "source_xy", "visible", "target_xy", "target_visible"):
            assert getattr(frame, field).tobytes() == getattr(again, field).tobytes()
    other = render_frame(replace(spec, seed=spec.seed + 1), 0)
    assert (other.image != frames[0].image).any()
    np.testing.assert_array_equal(other.labels, frames[0].labels)


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_bands_and_kept_scenery_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(_small(name), supersampling=2)
    frames._scenery.cache_clear()
    monkeypatch.setattr(frames, "_BAND_SAMPLES", 10**9)
    whole = [render_image(spec, t) for t in (0, 9)]
    monkeypatch.setattr(frames, "_BAND_SAMPLES", 1)  # a row at a time
    for t, expected in ((0, whole[0]), (9, whole[1]), (0, whole[0])):
        np.testing.assert_array_equal(render_image(spec, t), expected)


def test_light_changes_colour_alone() -> None:
    spec = _rigid(Pose(scale=Curve(0.5)))
    dark = render_frame(replace(spec, light=Light(gain=Curve(0.5))), 1)
    plain = render_frame(spec, 1)
    np.testing.assert_array_equal(dark.labels, plain.labels)
    assert np.abs(dark.image.astype(float) - plain.image / 2).max() <= 1
    shadowed = render_frame(replace(spec, light=Light(shadow=0.5)), 1).image
    darker = (shadowed < plain.image).any(axis=-1)
    assert darker[plain.labels == 0].any() and not darker[_away_from_edges(plain.labels)].all()
    assert (shadowed <= plain.image).all()


def test_pair_follows_from_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLIPS, "fish", _small("fish"))
    source, target = render_pair(2)
    again = render_pair(2)
    np.testing.assert_array_equal(target.image, again[1].image)
    assert source.visible.all() and not target.visible.all()
    restyled, same = render_pair(2, restyled=True)
    np.testing.assert_array_equal(same.image, target.image)
    np.testing.assert_array_equal(restyled.labels, source.labels)
    assert (restyled.image != source.image).any()


# Bad input.


def test_bad_input_says_what_is_wrong() -> None:
    spec = _rigid(Pose())
    with pytest.raises(InputError, match=r"clip 'rigid' has frames 0 to 5, got 6"):
        render_frame(spec, 6)
    with pytest.raises(InputError, match=r"unknown scenery 'reeff'.*Did you mean 'reef'"):
        replace(spec, scenery="reeff")
    with pytest.raises(InputError, match=r"unknown drawing 'fsh'.*Did you mean 'fish'"):
        SceneLayer("fsh", 1, (), STYLE)
    with pytest.raises(InputError, match=r"unknown pattern 'spot'.*Did you mean 'spots'"):
        replace(STYLE, pattern="spot")
    with pytest.raises(InputError, match="label must be 0 to 255, got 256"):
        SceneLayer("fish", 256, (), STYLE)
    with pytest.raises(InputError, match="is scenery"):
        SceneLayer("kelp", 0, (), STYLE, EDITED)
    with pytest.raises(InputError, match="at least 2 x 2 pixels, got 1 x 57"):
        replace(spec, height=1)
    with pytest.raises(InputError, match="at least one frame"):
        replace(spec, frames=0)
    with pytest.raises(InputError, match="seed must not be negative"):
        replace(spec, seed=-1)
    with pytest.raises(InputError, match="unknown clip 'cat'"):
        render_pair(name="cat")


# Clips that are hard to follow.


@pytest.mark.parametrize("name", ["dart", "shake", "zigzag"])
def test_fast_clips_move_more_than_40_pixels_a_frame(name: str) -> None:
    spec = HARD_CLIPS[name]
    small = replace(spec, height=48, width=80, supersampling=1)
    steps = []
    for t in range(1, 12):
        on = render_frame(small, t).labels > 0
        assert on.sum() > 40  # it stays in sight
        xy, _ = true_motion(small, t, t - 1)
        steps.append(np.linalg.norm(xy[on] - _grid(48, 80)[on], axis=1).mean())
    assert max(steps) * spec.height / 48 > 40


def test_the_thicket_hides_the_fish() -> None:
    spec = replace(HARD_CLIPS["thicket"], height=48, width=80, supersampling=1)
    object_pixels = render_frame(spec, 0).labels > 0
    hidden = [1 - render_frame(spec, t).target_visible[object_pixels].mean() for t in (8, 24, 30)]
    assert max(hidden) > 0.1


def test_the_fish_of_return_leaves_and_comes_back() -> None:
    spec = replace(HARD_CLIPS["return"], height=48, width=80, supersampling=1)
    areas = [int((render_frame(spec, t).labels > 0).sum()) for t in (0, 17, 23, 40)]
    assert areas[1] == areas[2] == 0 < min(areas[0], areas[3])


def test_hard_clips_have_names_of_their_own() -> None:
    assert not set(HARD_CLIPS) & set(CLIPS)
    assert all(name == spec.name for name, spec in HARD_CLIPS.items())
