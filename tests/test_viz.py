"""Pictures for people: sizes, the pixels that must change, the pixels that must not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from warpkit import viz
from warpkit.checks import InputError
from warpkit.coords import pixel_grid
from warpkit.types import DescriptorMap, Warp
from warpkit.viz.palette import lab_to_rgb


def grey_image(height: int = 21, width: int = 34, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIELAB L, computed the other way round than the package does."""
    linear = np.where(rgb <= 10.3, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126729, 0.7151522, 0.0721750])
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


# --- palette ---------------------------------------------------------------------------------


def test_lab_to_rgb_known_colours() -> None:
    lab = np.array([[0, 0, 0], [100, 0, 0], [53.2408, 80.0925, 67.2032]])
    assert lab_to_rgb(lab).tolist() == [[0, 0, 0], [255, 255, 255], [255, 0, 0]]


def test_scale_lightness_rises_evenly() -> None:
    steps = lightness(viz.scale_colors(np.linspace(0, 1, 256)))
    np.testing.assert_allclose(steps, np.linspace(12, 92, 256), atol=0.6)
    assert viz.scale_colors(np.array([-3.0, 9.0])).tolist() == [
        viz.scale_colors(np.array(0.0)).tolist(),
        viz.scale_colors(np.array(1.0)).tolist(),
    ]


def test_object_colors_repeat_after_seven_and_leave_background_black() -> None:
    colors = viz.object_colors(np.array([0, 1, 8, 255], np.uint8))
    assert colors[0].tolist() == [0, 0, 0]
    assert colors[1].tolist() == colors[2].tolist() == viz.OBJECT_COLORS[0].tolist()
    assert colors[3].tolist() == viz.OBJECT_COLORS[254 % 7].tolist()


def test_position_colors_tell_left_from_right_and_top_from_bottom() -> None:
    corners = np.array([[2.0, 2.0], [97.0, 2.0], [2.0, 57.0], [97.0, 57.0]])
    colors = viz.position_colors(corners, height=60, width=100).astype(int)
    blueness = colors[:, 2] - colors[:, 0]
    assert (blueness[[0, 2]] > 60).all()
    assert (blueness[[1, 3]] < -60).all()
    assert (lightness(colors[:2]) > lightness(colors[2:]) + 25).all()


# --- masks -----------------------------------------------------------------------------------


def test_overlay_labels_tints_outlines_and_leaves_the_rest() -> None:
    image = grey_image()
    labels = np.zeros((21, 34), np.uint8)
    labels[5:15, 6:20] = 2
    out = viz.overlay_labels(image, labels, alpha=0.5)
    color = viz.OBJECT_COLORS[1]
    assert out[10, 12].tolist() == np.rint(0.5 * 100 + 0.5 * color).astype(int).tolist()
    assert out[5, 10].tolist() == color.tolist()  # rim, inside
    assert out[4, 10].tolist() == [255, 255, 255]  # halo, outside
    assert out[3, 10].tolist() == [100, 100, 100]
    assert (image == 100).all()


def test_overlay_labels_draws_the_edge_between_objects_and_any_ids() -> None:
    labels = np.ones((20, 30), np.int64)
    labels[:, 15:] = 4000
    out = viz.overlay_labels(grey_image(20, 30), labels, alpha=0)
    assert out[10, 14].tolist() == viz.OBJECT_COLORS[0].tolist()
    assert out[10, 15].tolist() == viz.OBJECT_COLORS[3999 % 7].tolist()
    assert out[10, 12].tolist() == [100, 100, 100]


def test_overlay_of_nothing_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    assert (viz.overlay_labels(image, np.zeros((9, 14), bool)) == image).all()


def test_overlay_labels_refuses_another_size() -> None:
    with pytest.raises(InputError, match=r"labels is 3 x 4 .* the image is 21 x 34"):
        viz.overlay_labels(grey_image(), np.zeros((3, 4), np.uint8))


def test_over_checkerboard_mixes_by_alpha() -> None:
    rgba = np.zeros((9, 10, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 4:, 3] = 255
    out = viz.over_checkerboard(rgba, square=2)
    assert out[0, 0].tolist() == [250, 250, 250]
    assert out[0, 2].tolist() == [204, 204, 204]
    assert out[2, 0].tolist() == [204, 204, 204]
    assert out[5, 7].tolist() == [200, 0, 0]
    with pytest.raises(InputError, match="RGBA"):
        viz.over_checkerboard(grey_image())


# --- matches ---------------------------------------------------------------------------------


def test_draw_matches_puts_points_where_they_are() -> None:
    source, target = grey_image(60, 80), grey_image(30, 50)
    xy, to = np.array([[20.0, 30.0]]), np.array([[25.0, 10.0]])
    out = viz.draw_matches(source, target, xy, to, height=240)
    # Source: scale 4, 320 wide; gap 240 / 40 = 6; target: scale 8, 400 wide.
    assert out.shape == (240, 320 + 6 + 400, 3)
    vermilion = viz.OBJECT_COLORS[0]
    for x, y in ((20.5 * 4, 30.5 * 4), (326 + 25.5 * 8, 10.5 * 8)):
        window = out[int(y) - 5 : int(y) + 6, int(x) - 5 : int(x) + 6].reshape(-1, 3)
        assert (window == vermilion).all(axis=1).sum() > 20
    assert out[2, 322].tolist() == [255, 255, 255]
    assert out[230, 10].tolist() == [100, 100, 100]


def test_draw_matches_leaves_rejected_matches_out_of_the_target() -> None:
    image = grey_image(60, 80)
    xy = np.array([[20.0, 30.0]])
    nowhere = np.array([[np.nan, np.nan]])
    out = viz.draw_matches(image, image, xy, nowhere, np.array([False]), height=120)
    assert (out[:, 163:] == 100).all()
    assert not (out[:, :160] == 100).all()


def test_draw_matches_of_many_and_of_no_points() -> None:
    image = grey_image(31, 47)
    many = np.random.default_rng(1).random((100, 2)) * 30
    assert viz.draw_matches(image, image, many, many, height=101).shape[0] == 101
    none = np.zeros((0, 2))
    assert (viz.draw_matches(image, image, none, none, height=62)[:, :94] == 100).all()


def test_draw_matches_refuses_unequal_lists() -> None:
    with pytest.raises(InputError, match=r"must both be \(N, 2\)"):
        viz.draw_matches(grey_image(), grey_image(), np.zeros((2, 2)), np.zeros((3, 2)))


# --- fields ----------------------------------------------------------------------------------


def identity_warp(height: int, width: int) -> Warp:
    valid = torch.ones(height, width, dtype=torch.bool)
    valid[0] = False
    similarity = valid.float()
    xy = pixel_grid(height=height, width=width)
    return Warp(xy, similarity, valid, height, width)


def test_field_and_source_share_one_code() -> None:
    warp = identity_warp(17, 23)
    xy = warp.source_xy.clone()
    xy[0] = torch.nan  # not valid, not read
    field = viz.field_colors(Warp(xy, warp.similarity, warp.valid, 17, 23))
    code = viz.source_colors(grey_image(17, 23), alpha=1.0)
    assert (field[1:] == code[1:]).all()
    assert (field[0] == 230).all()


def test_field_colors_fades_the_target_where_invalid() -> None:
    field = viz.field_colors(identity_warp(17, 23), grey_image(17, 23, 50))
    assert (field[0] == 200).all()
    with pytest.raises(InputError, match="17 x 23"):
        viz.field_colors(identity_warp(17, 23), grey_image(5, 6))


def test_source_colors_paints_inside_the_mask() -> None:
    mask = np.zeros((17, 23), bool)
    mask[4:9, 4:9] = True
    out = viz.source_colors(grey_image(17, 23), mask, alpha=1.0)
    assert (out[mask] == viz.source_colors(grey_image(17, 23), alpha=1.0)[mask]).all()
    assert (out[~mask] == 210).all()


def test_heat_spans_its_range_over_valid_values() -> None:
    values = np.array([[0.0, 0.5, 1.0], [np.nan, 7.0, 0.25]])
    valid = np.array([[True, True, True], [True, False, True]])
    out = viz.heat(torch.from_numpy(values), torch.from_numpy(valid))
    expected = viz.scale_colors(np.array([0.0, 0.5, 1.0]))
    assert (out[0] == expected).all()
    assert out[1, 0].tolist() == out[1, 1].tolist() == [230, 230, 230]
    fixed = viz.heat(values, valid, low=-1.0, high=1.0)
    assert fixed[0, 0].tolist() == viz.scale_colors(np.array(0.5)).tolist()


def test_heat_of_a_constant_and_of_nothing() -> None:
    assert (viz.heat(np.ones((2, 3))) == viz.scale_colors(np.array(0.0))).all()
    assert (viz.heat(np.ones((2, 3)), np.zeros((2, 3), bool)) == 230).all()


def test_pca_colors_share_a_basis_and_keep_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(7, 5, 8, generator=generator)
    first = DescriptorMap.covering(data, height=20, width=31)
    second = DescriptorMap.covering(data.flip(2), height=20, width=31)
    a, b = viz.pca_colors([first, second])
    assert a.shape == b.shape == (20, 31, 3)
    assert np.abs(a[:, ::-1].astype(int) - b).max() <= 1
    assert (viz.pca_colors([first, second])[0] == a).all()


def test_pca_colors_main_direction_is_lightness_with_a_fixed_sign() -> None:
    # Unit vectors (1, 0) on the left half, (0, 1) on the right: the direction is (1, -1) or
    # (-1, 1); the first of its equal entries is made positive, so the left is light.
    data = torch.zeros(2, 4, 6)
    data[0, :, :3], data[1, :, 3:] = 3.0, 5.0
    (out,) = viz.pca_colors(DescriptorMap.covering(data, height=8, width=12))
    light = lightness(out)
    assert light[4, 1] > light[4, 10] + 60
    assert (out[:, 0] == out[0, 0]).all()


def test_pca_colors_refuses_maps_of_different_models() -> None:
    maps = [DescriptorMap.covering(torch.ones(c, 2, 2), height=4, width=4) for c in (3, 5)]
    with pytest.raises(InputError, match=r"\[3, 5\] channels"):
        viz.pca_colors(maps)


# --- panel -----------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [64, 180, 256, 360])
def test_words_of_a_title_stand_apart(height: int) -> None:
    blank = np.full((height, 3 * height, 3), 255, np.uint8)
    ink = np.flatnonzero((viz.panel([("s, w", blank)], height=height) < 200).any(axis=(0, 2)))
    gaps = np.diff(ink)
    assert gaps.max() >= 5 and (gaps >= 5).sum() == 1


def test_panel_lays_out_equal_heights_in_columns() -> None:
    wide, tall = grey_image(50, 100, 10), grey_image(100, 50, 60)
    rgba = np.zeros((50, 50, 4), np.uint8)
    out = viz.panel([("wide", wide), ("tall", tall), ("clear", rgba)], columns=2, height=64)
    # Text 11 px: gap 6, title strip 19. Columns 128 and 32 wide, two rows.
    assert out.shape == (2 * (19 + 64 + 6) + 6, 128 + 32 + 3 * 6, 3)
    assert (out[25 : 25 + 64, 6 : 6 + 128] == 10).all()
    assert (out[25 : 25 + 64, 140 : 140 + 32] == 60).all()
    third = out[114 : 114 + 64, 38 : 38 + 64]
    assert np.unique(third).tolist() == [204, 250]
    assert (out[:25, :134] < 128).any()  # the title


def test_panel_is_one_row_by_default_and_cuts_long_words() -> None:
    images = [("averylongwordthatcannotfit" * 3, grey_image(20, 30)), ("", grey_image())]
    out = viz.panel(images, height=40)
    assert out.shape == (6 + 19 + 40 + 6, 60 + 65 + 18, 3)
    assert (out[:, :6] == 255).all()


def test_panel_breaks_titles_of_narrow_pictures_into_lines() -> None:
    tiles = [("one two three", grey_image(40, 40)), ("four", grey_image(40, 40))]
    out = viz.panel([*tiles, ("five", grey_image(40, 40))], columns=2, height=40)
    # 11 px letters, 40 px columns: "one", "two", "three"; a further line is 13 px high.
    strip = 19 + 2 * 13
    assert out.shape == (6 + strip + 40 + 6 + 19 + 40 + 6, 2 * 40 + 3 * 6, 3)
    dark = (out < 128).all(axis=2)
    first = dark[6 : 6 + strip, 6:46].any(axis=1)
    assert np.count_nonzero(np.diff(first.astype(int)) == 1) == 3  # three lines of text
    assert not dark[6 : 6 + 26, 52:92].any()  # a short title stands right above its picture
    assert dark[6 + 26 : 6 + strip, 52:92].any()
    # No letter reaches into the gap beside its column.
    assert not dark[:, 46:52].any()


def test_panel_refuses_nothing_and_other_arrays() -> None:
    with pytest.raises(InputError, match="at least one image"):
        viz.panel([])
    with pytest.raises(InputError, match="panel image 'mask'"):
        viz.panel([("mask", np.zeros((5, 5), np.uint8))])


def test_add_scale_appends_a_strip() -> None:
    out = viz.add_scale(grey_image(40, 120), low=-1, high=0.25, label="cosine")
    assert out.shape == (40 + 2 + 6 + 15, 120, 3)
    assert (out[:40] == 100).all()
    assert out[43, 0].tolist() == viz.scale_colors(np.array(0.0)).tolist()
    assert out[43, -1].tolist() == viz.scale_colors(np.array(1.0)).tolist()
