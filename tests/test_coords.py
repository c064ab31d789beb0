"""One rule for coordinates: half-pixel centres, bilinear, clamped; every resize has its inverse."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from warpkit.checks import InputError
from warpkit.coords import (
    grid_to_pixel,
    lattice_sites,
    normalise,
    pixel_grid,
    pixel_to_grid,
    plan_fit,
    point_sites,
    sample_bilinear,
    sample_descriptors,
    sample_nearest,
    scale_points,
)
from warpkit.types import DescriptorMap

SIDES = st.integers(1, 700)


def test_half_pixel_rule():
    # Two cells over four pixels: their centres lie between pixels 0 and 1, and 2 and 3.
    assert grid_to_pixel(torch.arange(2.0), 2.0).tolist() == [0.5, 2.5]
    assert pixel_to_grid(torch.tensor([0.5, 2.5, -0.5, 3.5]), 2.0).tolist() == [0, 1, -0.5, 1.5]
    # One cell a pixel: the identity.
    assert grid_to_pixel(torch.arange(3.0), 1.0).tolist() == [0, 1, 2]


def test_scaled_points_keep_the_image_s_edges():
    points = torch.tensor([[-0.5, -0.5], [3.5, 1.5], [1.5, 0.5], [0.0, 0.0]])
    scaled = scale_points(points, from_height=2, from_width=4, to_height=6, to_width=2)
    assert scaled.tolist() == [[-0.5, -0.5], [1.5, 5.5], [0.5, 2.5], [-0.25, 1.0]]


def test_normalised_coordinates_are_those_of_grid_sample():
    values = torch.arange(6.0).reshape(1, 1, 2, 3)
    grid = normalise(pixel_grid(height=2, width=3), height=2, width=3)
    sampled = F.grid_sample(values, grid[None], align_corners=False)
    torch.testing.assert_close(sampled, values)
    edges = normalise(torch.tensor([[-0.5, -0.5], [2.5, 1.5]]), height=2, width=3)
    assert edges.tolist() == [[-1, -1], [1, 1]]


def test_the_pixel_grid_is_x_then_y():
    grid = pixel_grid(height=2, width=3)
    assert grid.tolist() == [[[0, 0], [1, 0], [2, 0]], [[0, 1], [1, 1], [2, 1]]]


def test_hand_computed_bilinear_samples():
    values = torch.tensor([[[0.0, 10.0], [20.0, 40.0]]])
    xy = torch.tensor([[0.5, 0.0], [0.25, 0.5], [-3.0, 0.5], [9.0, 9.0], [0.0, 0.0]])
    sampled = sample_bilinear(values, xy)
    # (0.25, 0.5): 0.75 * (0 + 20) / 2 + 0.25 * (10 + 40) / 2 = 13.75; outside: the border.
    torch.testing.assert_close(sampled, torch.tensor([[5.0], [13.75], [10.0], [40.0], [0.0]]))


def test_nearest_samples_round_halves_up_and_clamp():
    values = torch.arange(12.0).reshape(2, 2, 3)
    xy = torch.tensor([[0.5, 0.5], [0.49, 0.49], [-7.0, 9.0], [2.5, -0.5]])
    assert sample_nearest(values, xy).tolist() == [[4, 0, 3, 2], [10, 6, 9, 8]]
    mask = torch.tensor([[True, False, False]])
    assert sample_nearest(mask, torch.tensor([[0.0, 0.0], [1.0, 0.0]])).tolist() == [True, False]


@settings(deadline=None, max_examples=50)
@given(
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
)
def test_descriptors_at_cell_centres_are_the_cells(h, w, height, width):
    data = torch.randn(3, h, w, generator=torch.Generator().manual_seed(h * 10 + w))
    descriptors = DescriptorMap.covering(data, height=height, width=width)
    sites = lattice_sites(height=height, width=width, rows=h, columns=w)
    expected = F.normalize(data.flatten(1).T, dim=1)
    torch.testing.assert_close(
        sample_descriptors(descriptors, sites.xy), expected, rtol=1e-4, atol=1e-4
    )


def test_descriptors_are_interpolated_before_they_are_normalised():
    data = torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]])  # (2, 1, 2)
    descriptors = DescriptorMap.covering(data, height=1, width=2)
    sampled = sample_descriptors(descriptors, torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(sampled, F.normalize(torch.tensor([[1.5, 0.5]])))


def test_a_zero_descriptor_stays_zero():
    descriptors = DescriptorMap.covering(torch.zeros(2, 2, 2), height=4, width=4)
    assert sample_descriptors(descriptors, torch.tensor([[1.0, 1.0]])).tolist() == [[0, 0]]


def test_half_precision_maps_are_sampled_in_full():
    data = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)).half()
    half = DescriptorMap.covering(data, height=600, width=900)
    xy = torch.tensor([[711.3, 402.7], [0.2, 599.0]])
    assert torch.equal(sample_descriptors(half, xy), sample_descriptors(half.float(), xy))


def test_a_lattice_without_arguments_is_every_pixel():
    sites = lattice_sites(height=2, width=3)
    assert torch.equal(sites.xy, pixel_grid(height=2, width=3).reshape(-1, 2))
    assert sites.lattice == (2, 3)
    assert sites.index.tolist() == list(range(6))
    assert point_sites(torch.tensor([[1, 2]])).lattice is None


def test_a_coarse_lattice_lies_at_the_centres_of_its_blocks():
    sites = lattice_sites(height=4, width=6, rows=2, columns=2)
    assert sites.xy.tolist() == [[1, 0.5], [4, 0.5], [1, 2.5], [4, 2.5]]


def test_a_mask_leaves_sites_out_and_keeps_their_index():
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[1, 1] = mask[3, 4] = True
    sites = lattice_sites(height=4, width=6, rows=2, columns=2, mask=mask)
    # (1, 0.5) is halfway between rows 0 and 1 and belongs to row 1; (4, 2.5) to row 3.
    assert sites.index.tolist() == [0, 3]
    assert sites.xy.tolist() == [[1, 0.5], [4, 2.5]]
    assert sites.lattice == (2, 2)


def test_a_lattice_too_coarse_for_the_mask_falls_back_to_its_pixels():
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[0, 0] = mask[2, 3] = True
    sites = lattice_sites(height=4, width=6, rows=2, columns=2, mask=mask)
    assert sites.xy.tolist() == [[0, 0], [3, 2]]
    assert sites.lattice == (4, 6)
    assert sites.index.tolist() == [0, 15]


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="the mask is empty: no candidate is left"):
        lattice_sites(height=2, width=2, mask=torch.zeros(2, 2, dtype=torch.bool))


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 40), width=st.integers(1, 40), factor=st.integers(1, 9))
def test_every_masked_site_rounds_to_a_set_pixel(height, width, factor):
    """The lattice is made in float64 and kept in float32: both must round to the same pixel."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    mask = torch.rand(height, width, generator=generator) < 0.3
    mask[height // 2, width // 2] = True
    rows, columns = -(-height // factor), -(-width // factor)
    sites = lattice_sites(height=height, width=width, rows=rows, columns=columns, mask=mask)
    assert bool(sample_nearest(mask, sites.xy).all())
    assert sites.xy.dtype == torch.float32
    assert bool((sites.index.diff() > 0).all())


def test_padding_keeps_the_aspect_ratio():
    fit = plan_fit(height=480, width=854, size=128, multiple=16)
    assert (fit.content_height, fit.content_width) == (128, 228)
    assert (fit.input_height, fit.input_width) == (128, 240)
    long = plan_fit(height=480, width=854, size=512, multiple=64, side="long")
    assert (long.content_height, long.content_width) == (288, 512)
    assert (long.input_height, long.input_width) == (320, 512)


def test_stretch_makes_a_square():
    fit = plan_fit(height=480, width=854, size=512, multiple=64, mode="stretch")
    assert (fit.content_height, fit.content_width) == (512, 512)
    assert (fit.input_height, fit.input_width) == (512, 512)
    found = fit.descriptor_map(torch.zeros(1, 64, 64))
    assert (found.cell_height, found.cell_width) == (480 / 64, 854 / 64)


def test_a_panorama_is_limited():
    fit = plan_fit(height=100, width=2000, size=128, multiple=16)
    assert (fit.content_height, fit.content_width) == (26, 512)
    assert (fit.input_height, fit.input_width) == (32, 512)
    wide = plan_fit(height=100, width=2000, size=128, multiple=16, max_aspect=20)
    assert (wide.content_height, wide.content_width) == (128, 2560)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 0}, "an image needs a positive size, got 0 x 4"),
        ({"size": 0}, "size and multiple must be positive: 0, 8"),
        ({"multiple": -1}, "size and multiple must be positive: 16, -1"),
    ],
)
def test_bad_plans_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        plan_fit(**{"height": 4, "width": 4, "size": 16, "multiple": 8} | values)


def test_an_image_of_another_size_is_refused():
    fit = plan_fit(height=4, width=6, size=8, multiple=8)
    with pytest.raises(InputError, match=r"this fit is for images of 4 x 6, got \(6, 4\)"):
        fit.apply(torch.zeros(1, 3, 6, 4))


def test_a_fit_of_the_right_size_changes_nothing():
    image = torch.rand(2, 3, 8, 16)
    fit = plan_fit(height=8, width=16, size=8, multiple=8)
    assert fit.apply(image) is image


def test_padding_repeats_the_border():
    image = torch.rand(1, 3, 6, 10)
    fit = plan_fit(height=6, width=10, size=6, multiple=8)
    inputs = fit.apply(image)
    assert inputs.shape == (1, 3, 8, 16)
    assert torch.equal(inputs[..., :6, :10], image)
    assert torch.equal(inputs[..., 6:, :10], image[..., 5:, :].expand(-1, -1, 2, -1))
    assert torch.equal(inputs[..., :6, 10:], image[..., 9:].expand(-1, -1, -1, 6))


@settings(deadline=None, max_examples=100)
@given(
    height=SIDES,
    width=SIDES,
    size=st.integers(8, 300),
    multiple=st.sampled_from([1, 8, 14, 64]),
    mode=st.sampled_from(["pad", "stretch"]),
    side=st.sampled_from(["short", "long"]),
)
def test_a_fit_has_an_exact_inverse(height, width, size, multiple, mode, side):
    fit = plan_fit(height=height, width=width, size=size, multiple=multiple, mode=mode, side=side)
    assert fit.input_height % multiple == 0
    assert fit.input_width % multiple == 0
    assert 0 <= fit.input_height - fit.content_height < multiple
    assert 0 <= fit.input_width - fit.content_width < multiple
    corners = torch.tensor(
        [[-0.5, -0.5], [width - 0.5, height - 0.5], [width / 3, height / 7]], dtype=torch.float64
    )
    inputs = fit.to_input(corners)
    torch.testing.assert_close(fit.to_image(inputs), corners)
    expected = [fit.content_width - 0.5, fit.content_height - 0.5]
    torch.testing.assert_close(inputs[1], torch.tensor(expected, dtype=torch.float64))
    assert fit.to_input(corners.float()).dtype == torch.float32


@settings(deadline=None, max_examples=100)
@given(
    height=SIDES,
    width=SIDES,
    size=st.integers(8, 200),
    stride=st.sampled_from([1, 2, 8, 16]),
    mode=st.sampled_from(["pad", "stretch"]),
)
def test_a_descriptor_map_holds_the_cells_whose_centres_lie_on_the_image(
    height, width, size, stride, mode
):
    fit = plan_fit(height=height, width=width, size=size, multiple=16, mode=mode)
    h, w = fit.input_height // stride, fit.input_width // stride
    # The map names the input coordinate of every cell centre.
    v, u = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    input_map = torch.stack([grid_to_pixel(u, stride), grid_to_pixel(v, stride)])
    found = fit.descriptor_map(input_map)
    assert (found.height, found.width) == (height, width)
    rows, columns = found.grid_size
    assert rows == max(1, sum((r + 0.5) * stride < fit.content_height for r in range(h)))
    assert columns == max(1, sum((c + 0.5) * stride < fit.content_width for c in range(w)))
    # Cell centres by the map's own rule are those points brought back to the image.
    x = grid_to_pixel(torch.arange(columns, dtype=torch.float64), found.cell_width)
    y = grid_to_pixel(torch.arange(rows, dtype=torch.float64), found.cell_height)
    there = fit.to_image(found.data.permute(1, 2, 0).double())
    torch.testing.assert_close(there[0, :, 0], x)
    torch.testing.assert_close(there[:, 0, 1], y)
    if rows > 1 and columns > 1:
        assert float(x[-1]) < width - 0.5
        assert float(y[-1]) < height - 0.5


def test_a_resized_ramp_is_read_at_its_own_place():
    """Image, input and descriptors agree: the value of a ramp is its coordinate."""
    height, width = 60, 84
    grid = pixel_grid(height=height, width=width).permute(2, 0, 1)
    ramp = torch.cat([grid, grid[:1]])[None]
    fit = plan_fit(height=height, width=width, size=40, multiple=16)
    inputs = fit.apply(ramp)
    assert inputs.shape[-2:] == (48, 64)
    pooled = F.avg_pool2d(inputs, 4)[0]
    found = fit.descriptor_map(pooled)
    assert found.grid_size == (10, 14)
    inner = torch.tensor([[20.0, 30.0], [41.5, 17.25]])
    cell = torch.tensor([found.cell_width, found.cell_height])
    read = sample_bilinear(found.data, pixel_to_grid(inner, cell))
    torch.testing.assert_close(read[:, :2], inner, rtol=0, atol=0.02)


def test_sites_halfway_between_pixels_round_the_same_in_both_precisions():
    """(2k + 1) / 2 is exact in both; other lattices may not land on a half at all."""
    for length in range(2, 200, 2):
        sites = lattice_sites(height=length, width=1, rows=length // 2, columns=1)
        expected = torch.arange(1, length, 2)
        rounded = torch.floor(sites.xy[:, 1] + 0.5).long()
        assert torch.equal(rounded, expected)
        assert math.isclose(float(sites.xy[-1, 1]), length - 1.5)


@pytest.mark.parametrize("size", [(301, 517), (97, 33), (40, 900)])
@pytest.mark.parametrize("mode", ["pad", "stretch"])
def test_a_large_image_is_resized_by_bands_to_the_same_values(size, mode, monkeypatch):
    height, width = size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8, generator=generator)
    images = pixels.permute(0, 3, 1, 2)
    fit = plan_fit(height=height, width=width, size=64, multiple=8, mode=mode)
    whole = fit.apply(images.float() / 255)
    assert torch.equal(fit.apply(images), whole)
    for rows in (1, 7, 64):
        monkeypatch.setattr("warpkit.coords._BAND", 2 * width * rows)
        assert torch.equal(fit.apply(images), whole)
