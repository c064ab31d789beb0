"""Square views into stored images of various sizes, and the points in them.

Convention: a view maps its own pixels to stored-image pixels by a similarity (shift, rotation,
zoom, flip); both frames have pixel centres at integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import grid_to_pixel, normalise, pixel_grid
from warpkit.warp.known import photometric_jitter

__all__ = ["Views", "draw_views", "look", "sample_images"]


@dataclass(frozen=True, eq=False)
class Views:
    """B square views.

    Attributes:
        size: side of the view in its own pixels.
        centre: (B, 2), image pixels.
        side: (B,), side of the view in image pixels.
        angle: (B,), radians.
        flip: bool (B,), whether the view is mirrored left-right.
    """

    size: int
    centre: Tensor
    side: Tensor
    angle: Tensor
    flip: Tensor

    def to_image(self, xy: Tensor) -> Tensor:
        """View pixels (B, N, 2) to image pixels (B, N, 2)."""
        unit = (xy + 0.5) / self.size - 0.5
        x = torch.where(self.flip[:, None], -unit[..., 0], unit[..., 0])
        y = unit[..., 1]
        cos, sin = self.angle.cos()[:, None], self.angle.sin()[:, None]
        turned = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)
        return self.centre[:, None] + turned * self.side[:, None, None]

    def to_view(self, xy: Tensor) -> Tensor:
        """Image pixels (B, N, 2) to view pixels: the inverse of `to_image`."""
        x, y = ((xy - self.centre[:, None]) / self.side[:, None, None]).unbind(-1)
        cos, sin = self.angle.cos()[:, None], self.angle.sin()[:, None]
        u, v = cos * x + sin * y, -sin * x + cos * y
        u = torch.where(self.flip[:, None], -u, u)
        return grid_to_pixel(torch.stack([u, v], dim=-1), self.size)

    def contains(self, xy: Tensor) -> Tensor:
        """Whether view pixels (B, N, 2) lie inside the view: bool (B, N)."""
        return ((xy >= -0.5) & (xy <= self.size - 0.5)).all(-1)


def draw_views(
    sizes: Tensor,
    boxes: Tensor,
    *,
    size: int,
    zoom: tuple[float, float],
    rotation: float,
    flip: float,
    generator: torch.Generator,
) -> Views:
    """Random views that look at a box.

    Args:
        sizes: (B, 2), height and width of every image.
        boxes: (B, 4), `(x1, y1, x2, y2)` of what must stay in sight.
        size: side of the views in pixels.
        zoom: range of the view's side, share of the image's short side; a view is never smaller
            than its box.
        rotation: largest rotation in degrees.
        flip: probability of a mirrored view.
    """
    count, device = len(sizes), sizes.device

    def draw() -> Tensor:
        return torch.rand(count, generator=generator, device=device)

    height, width = sizes.float().unbind(1)
    x1, y1, x2, y2 = boxes.unbind(1)
    short = torch.minimum(height, width)
    smallest = torch.maximum(torch.maximum(x2 - x1, y2 - y1), zoom[0] * short)
    largest = torch.maximum(smallest, zoom[1] * short)
    side = torch.lerp(smallest, largest, draw())

    def place(low: Tensor, high: Tensor, length: Tensor) -> Tensor:
        """A centre that keeps [low, high] in sight, and the view on the image where it can."""
        first, last = high - side / 2, low + side / 2
        centre = torch.lerp(first, last, draw())
        inside = torch.minimum(torch.maximum(centre, side / 2), length - side / 2)
        return torch.where(side < length, inside, length / 2) - 0.5

    return Views(
        size,
        torch.stack([place(x1, x2, width), place(y1, y2, height)], dim=1),
        side,
        (draw() * 2 - 1) * math.radians(rotation),
        draw() < flip,
    )


def sample_images(pixels: Tensor, sizes: Tensor, xy: Tensor) -> Tensor:
    """Bilinear colours of stored images at points, the border repeated beyond each image.

    Args:
        pixels: uint8 (B, 3, H, W).
        sizes: (B, 2), the part of `pixels` each image occupies.
        xy: (B, h, w, 2), image pixels.

    Returns:
        float (B, 3, h, w) in [0, 1].
    """
    limit = (sizes.flip(1).float() - 1)[:, None, None]
    grid = torch.minimum(xy.clamp(min=0), limit)
    grid = normalise(grid, height=pixels.shape[2], width=pixels.shape[3])
    return F.grid_sample(pixels.float() / 255, grid, padding_mode="border", align_corners=False)


def look(pixels: Tensor, sizes: Tensor, views: Views, generator: torch.Generator) -> Tensor:
    """What the views show, with photometric jitter: float (B, 3, size, size) in [0, 1].

    Args:
        pixels, sizes: as in `sample_images`.
        generator: on their device.
    """
    size = views.size
    grid = pixel_grid(height=size, width=size, device=pixels.device).reshape(1, -1, 2)
    xy = views.to_image(grid.expand(len(pixels), -1, 2)).reshape(-1, size, size, 2)
    images = sample_images(pixels, sizes, xy)
    return photometric_jitter(images, strength=0.6, generator=generator)
