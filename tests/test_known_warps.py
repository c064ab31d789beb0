"""Known warps: the field is the label, and it says exactly what the warped image shows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from warpkit.coords import pixel_grid
from warpkit.warp.known import (
    KnownWarpConfig,
    photometric_jitter,
    random_fields,
    warp_with_fields,
)

STILL = {"rotation": 0.0, "scale": (1.0, 1.0), "translation": 0.0, "perspective": 0.0, "bend": 0.0}


def fields(count: int = 3, *, height: int = 17, width: int = 24, seed: int = 0, **values) -> Tensor:
    return random_fields(
        count,
        height=height,
        width=width,
        config=KnownWarpConfig(**STILL | values),
        generator=torch.Generator().manual_seed(seed),
    )


def offsets(field: Tensor) -> Tensor:
    """Field minus the identity."""
    return field - pixel_grid(height=field.shape[1], width=field.shape[2])


def centred(field: Tensor, *, height: int = 17, width: int = 24) -> Tensor:
    return field - torch.tensor([(width - 1) / 2, (height - 1) / 2])


def test_without_strength_the_field_is_the_identity():
    field = fields()
    assert field.shape == (3, 17, 24, 2)
    assert float(offsets(field).abs().max()) < 1e-3


def test_a_rotation_is_rigid_about_the_centre_and_within_its_range():
    field = centred(fields(20, rotation=30.0))
    identity = centred(pixel_grid(height=17, width=24))
    torch.testing.assert_close(
        field.norm(dim=-1), identity.norm(dim=-1).expand(20, -1, -1), rtol=0, atol=1e-2
    )
    # The angle from where a pixel is to where it takes its value from, at the right edge.
    right = field[:, 8, -1]
    angles = torch.atan2(right[:, 1], right[:, 0]).rad2deg()
    assert float(angles.abs().max()) <= 30.01
    assert float(angles.min()) < -10
    assert float(angles.max()) > 10
    # All pixels turn by the same angle, in the same sense.
    below = field[:, -1].mean(1)
    turned = torch.atan2(below[:, 1], below[:, 0]).rad2deg() - 90
    torch.testing.assert_close(turned, angles, rtol=0, atol=0.05)


def test_a_zoom_scales_about_the_centre_within_its_range():
    field = centred(fields(50, scale=(0.5, 2.0)))
    identity = centred(pixel_grid(height=17, width=24))
    factor = field[:, 0, 0, 0] / identity[0, 0, 0]
    torch.testing.assert_close(field, identity * factor[:, None, None, None], rtol=0, atol=1e-2)
    assert 0.499 < float(factor.min()) < 0.6
    assert 1.6 < float(factor.max()) < 2.001
    # Uniform in the logarithm: zooming in and out are alike.
    assert abs(float(factor.log().mean())) < 0.2


def test_a_translation_is_a_share_of_the_side():
    shift = offsets(fields(50, translation=0.25))
    first = shift[:, :1, :1]
    torch.testing.assert_close(shift, first.expand_as(shift), rtol=0, atol=1e-2)
    assert 4.5 < float(first[..., 0].abs().max()) <= 6.001
    assert 3.2 < float(first[..., 1].abs().max()) <= 4.251


def test_a_homography_keeps_lines_straight_and_moves_corners_within_its_range():
    field = fields(20, perspective=0.1)
    corners = offsets(field)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert float(corners[..., 0].abs().max()) <= 2.401
    assert float(corners[..., 1].abs().max()) <= 1.701
    assert float(corners.abs().max()) > 1.0
    # Points of a row stay on a line: cross products with the row's direction vanish.
    row = field[:, 5]
    direction = row[:, -1] - row[:, 0]
    along = row - row[:, :1]
    cross = direction[:, None, 0] * along[..., 1] - direction[:, None, 1] * along[..., 0]
    assert float(cross.abs().max() / direction.norm(dim=-1).max()) < 1e-2
    # ... but not at even distances: it is no affine map.
    assert float(row.diff(n=2, dim=1).abs().max()) > 1e-2


def test_a_bend_curves_lines():
    field = fields(20, bend=0.05)
    spread = offsets(field).std()
    # Control points move by a standard deviation of 5 % of about 20 pixels.
    assert 0.3 < float(spread) < 3.0
    row = field[:, 5]
    direction = row[:, -1] - row[:, 0]
    along = row - row[:, :1]
    cross = direction[:, None, 0] * along[..., 1] - direction[:, None, 1] * along[..., 0]
    assert float(cross.abs().max() / direction.norm(dim=-1).max()) > 0.1


def test_a_bend_passes_through_its_control_points():
    # 4 x 4 control points over 16 x 22 pixels: at every fifth row and seventh column.
    field = fields(1, height=16, width=22, bend=0.05, seed=3)
    generator = torch.Generator().manual_seed(3)
    for shape in ((1,), (1, 2), (1,), (1, 4, 2)):  # zoom, shift, angle and corners
        torch.rand(shape, generator=generator)
    moved = torch.randn(1, 16, 2, generator=generator)[0] * 0.05 * torch.tensor([21.0, 15.0])
    found = offsets(field)[0, ::5, ::7].transpose(0, 1).reshape(16, 2)
    torch.testing.assert_close(found, moved, rtol=0, atol=1e-2)


def test_a_flip_mirrors_left_and_right():
    field = fields(flip=1.0)
    x = torch.arange(23.0, -1, -1)
    torch.testing.assert_close(field[..., 0], x.expand(3, 17, -1), rtol=0, atol=1e-3)
    assert float(offsets(field)[..., 1].abs().max()) < 1e-3
    mixed = fields(60, flip=0.5)[:, 8, 0, 0] > 12
    assert 15 < int(mixed.sum()) < 45


def test_the_generator_alone_decides():
    strong = KnownWarpConfig(flip=0.5)
    config = {"height": 9, "width": 7, "config": strong}
    first = random_fields(2, **config, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    again = random_fields(2, **config, generator=torch.Generator().manual_seed(1))
    other = random_fields(2, **config, generator=torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert bool(first.isfinite().all())


def test_warped_images_show_the_source_at_the_field():
    height, width = 12, 15
    ramp = pixel_grid(height=height, width=width).permute(2, 0, 1).expand(2, -1, -1, -1)
    field = random_fields(
        2,
        height=8,
        width=10,
        config=KnownWarpConfig(),
        generator=torch.Generator().manual_seed(4),
    )
    warped, inside = warp_with_fields(ramp, field)
    assert warped.shape == (2, 2, 8, 10)
    # Between the outermost pixel centres a ramp is its own coordinate.
    x, y = field.unbind(-1)
    exact = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    assert 40 < int(exact.sum()) < 160
    torch.testing.assert_close(warped.permute(0, 2, 3, 1)[exact], field[exact], rtol=0, atol=1e-4)
    assert bool(inside[exact].all())


def test_inside_reaches_to_the_edge_of_the_outermost_pixels():
    field = torch.tensor([[-0.5, 0.0], [2.5, 1.5], [-0.6, 0.0], [0.0, 1.6]]).reshape(1, 1, 4, 2)
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    warped, inside = warp_with_fields(image, field)
    assert inside[0, 0].tolist() == [True, True, False, False]
    # Beyond the edge the image is mirrored about the edge of its outermost pixels.
    torch.testing.assert_close(warped[0, 0, 0, 2:], torch.tensor([1.0, 4.0]))


def test_the_identity_field_gives_the_image():
    image = torch.rand(1, 3, 5, 8)
    warped, inside = warp_with_fields(image, pixel_grid(height=5, width=8)[None])
    torch.testing.assert_close(warped, image)
    assert bool(inside.all())


def test_a_small_rotation_turns_the_picture_against_the_field():
    """A dot right of the centre moves up where the field looks down, and the other way round."""
    field = fields(8, height=21, width=21, rotation=20.0)
    image = torch.zeros(8, 1, 21, 21)
    image[:, :, 10, 17] = 1.0
    warped, _ = warp_with_fields(image, field)
    y = torch.arange(21.0)[:, None]
    height = (warped[:, 0] * y).sum((1, 2)) / warped[:, 0].sum((1, 2)) - 10
    looks = field[:, 10, 17, 1] - 10
    angle = torch.asin(looks / 7)
    torch.testing.assert_close(height, -7 * angle.sin(), rtol=0, atol=0.15)
    assert float(angle.abs().max()) > math.radians(5)


def test_jitter_of_no_strength_changes_nothing():
    images = torch.rand(3, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    same = photometric_jitter(images, strength=0, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(same, images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_jitter_stays_within_the_range_of_colours(strength):
    images = torch.rand(16, 3, 9, 11, generator=torch.Generator().manual_seed(0))

    def jitter(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return photometric_jitter(images, strength=strength, generator=generator)

    changed = jitter(1)
    assert changed.shape == images.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    # One draw per image: every image changes, none like another.
    assert bool(((changed - images).abs().mean((1, 2, 3)) > 0.01).all())
    assert torch.equal(changed, jitter(1))
    assert not torch.equal(changed, jitter(2))
