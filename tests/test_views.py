"""Square views into stored images: the points they carry, the pixels they show."""

from __future__ import annotations

import math

import pytest
import torch

from warpkit.train.views import Views, draw_views, sample_images

# Views


def views_of(size: int, **values) -> Views:
    defaults = {
        "centre": torch.tensor([[10.0, 20.0], [33.0, 7.5]]),
        "side": torch.tensor([16.0, 40.0]),
        "angle": torch.tensor([0.0, 0.0]),
        "flip": torch.tensor([False, False]),
    }
    return Views(size, **defaults | values)


def test_hand_computed_views():
    corner, middle = [-0.5, -0.5], [3.5, 3.5]
    xy = torch.tensor([corner, middle]).expand(2, -1, -1)
    # A view of 8 pixels over 16 image pixels around (10, 20) begins at (2, 12).
    assert views_of(8).to_image(xy).tolist() == [[[2, 12], [10, 20]], [[13, -12.5], [33, 7.5]]]
    flipped = views_of(8, flip=torch.tensor([True, True])).to_image(xy)
    assert flipped[0].tolist() == [[18, 12], [10, 20]]
    # A quarter turn takes the view's right to the image's down.
    turned = views_of(8, angle=torch.tensor([math.pi / 2, 0]))
    right = torch.tensor([[[7.5, 3.5]]]).expand(2, 1, 2)
    torch.testing.assert_close(turned.to_image(right)[0], torch.tensor([[10.0, 28.0]]))


@pytest.mark.parametrize("flip", [[False, True], [True, False]])
def test_views_round_trip(flip):
    views = views_of(9, angle=torch.tensor([0.7, -2.0]), flip=torch.tensor(flip))
    xy = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0)) * 9 - 0.5
    torch.testing.assert_close(views.to_view(views.to_image(xy)), xy, rtol=0, atol=1e-4)
    torch.testing.assert_close(views.to_image(views.to_view(xy)), xy, rtol=0, atol=1e-4)
    edge = torch.tensor([[[-0.5, -0.5], [8.5, 8.5], [8.6, 0], [0, -0.6]]])
    assert views.contains(edge).tolist() == [[True, True, False, False]]


def test_drawn_views_keep_their_box_in_sight():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([[60, 90], [90, 60]]).repeat(40, 1)
    boxes = torch.tensor([[10.0, 12.0, 40.0, 50.0], [0.0, 30.0, 55.0, 80.0]]).repeat(40, 1)
    views = draw_views(
        sizes, boxes, size=32, zoom=(0.5, 1.0), rotation=0, flip=0.5, generator=generator
    )
    corners = boxes.reshape(-1, 2, 2)
    # A box edge may fall half a pixel out, where its end is a pixel's centre and not its border.
    margin = 32 / views.side[:, None, None]
    seen = views.to_view(corners)
    assert bool(((seen >= -0.5 - margin) & (seen <= 31.5 + margin)).all())
    assert 20 < int(views.flip.sum()) < 60
    assert float(views.side.min()) >= 38
    again = draw_views(
        sizes,
        boxes,
        size=32,
        zoom=(0.5, 1.0),
        rotation=0,
        flip=0.5,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(again.centre, views.centre)


def test_stored_images_are_read_within_their_own_size():
    pixels = torch.full((1, 3, 4, 6), 255, dtype=torch.uint8)
    pixels[:, :, :2, :3] = torch.tensor([0, 51, 102]).to(torch.uint8)
    sizes = torch.tensor([[2, 3]])
    xy = torch.tensor([[[[0.5, 0.0], [2.0, 1.0], [5.0, 3.0], [-4.0, 0.0]]]])
    read = sample_images(pixels, sizes, xy)
    torch.testing.assert_close(read[0, 0, 0], torch.tensor([25.5, 102, 102, 0]) / 255)
