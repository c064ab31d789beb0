"""Hints drawn from masks: a box around the object, or points on it and off it.

Planes as `warpkit.features.foreground.HINTS` names them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import pixel_grid
from warpkit.features.foreground import HINTS, POINT_RADIUS

__all__ = ["box_hints", "draw_hints"]

_BOXES = 0.6  # share of boxes among hints; the others are points
_JITTER = 0.04  # standard deviation of a box's edges, share of its sides
_INNER, _OUTER = 4, 7  # pixels that points keep from the object's edge, where there is room
_POINTS = 2  # at most, on the object and off it


def box_hints(masks: Tensor, jitter: Tensor | None = None) -> Tensor:
    """Hints that are the box around each object; all 0 where a mask is empty.

    Args:
        masks: float (B, 1, H, W) in [0, 1]; the object is above 0.5.
        jitter: (B, 4), moves the edges `(x1, y1, x2, y2)` by shares of the box's sides.

    Returns:
        float (B, 4, H, W).
    """
    count, _, height, width = masks.shape
    inside = masks[:, 0] > 0.5
    edges = []
    for lines in (inside.any(1), inside.any(2)):  # columns, rows
        length = lines.shape[1]
        place = torch.arange(length, device=masks.device)
        first = place.where(lines, place.new_tensor(length)).amin(1)
        last = place.where(lines, place.new_tensor(-1)).amax(1)
        edges.append((first - 0.5, last + 0.5))
    (x1, x2), (y1, y2) = edges
    box = torch.stack([x1, y1, x2, y2], dim=1)
    if jitter is not None:
        box = box + jitter * torch.stack([x2 - x1, y2 - y1], dim=1).repeat(1, 2)
    xy = pixel_grid(height=height, width=width, device=masks.device)
    low, high = box[:, None, None, :2], box[:, None, None, 2:]
    within = ((xy >= low) & (xy <= high)).all(-1).float() * 2 - 1
    there = inside.flatten(1).any(1).float()[:, None, None]
    planes = masks.new_zeros(count, len(HINTS), height, width)
    planes[:, HINTS.index("box")] = within * there
    planes[:, HINTS.index("given")] = there
    return planes


def draw_hints(
    masks: Tensor, *, share: float, required: Tensor, generator: torch.Generator
) -> Tensor:
    """Hints for some of the objects.

    Args:
        masks: float (B, 1, H, W) in [0, 1]; the object is above 0.5. An empty mask gets no hint.
        share: of the objects, which get one.
        required: bool (B,), which get one in any case.
        generator: on the masks' device.

    Returns:
        float (B, 4, H, W).
    """
    count, device = len(masks), masks.device

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device)

    given = (draw() < share) | required
    boxed = draw() < _BOXES
    jitter = _JITTER * torch.randn(count, 4, generator=generator, device=device)
    boxes = box_hints(masks, jitter)
    points = _point_hints(masks, draw(_POINTS) < 0.5, draw(_POINTS) < 0.5, generator)
    hints = torch.where(boxed[:, None, None, None], boxes, points)
    return hints * given[:, None, None, None]


def _point_hints(
    masks: Tensor, on_object: Tensor, off_object: Tensor, generator: torch.Generator
) -> Tensor:
    """Discs around points: the first one on the object always, others where (B, 2) says so."""
    count, _, height, width = masks.shape
    inside = masks > 0.5
    there = inside.flatten(1).any(1)
    xy = pixel_grid(height=height, width=width, device=masks.device)
    first = torch.tensor([True] + [False] * (_POINTS - 1), device=masks.device)
    planes = masks.new_zeros(count, len(HINTS), height, width)
    for name, wanted, region in (
        ("object", on_object | first, _within(inside, _INNER)),
        ("background", off_object, _within(~inside, _OUTER)),
    ):
        plane = planes[:, HINTS.index(name)]
        possible = region.flatten(1)
        for number in range(_POINTS):
            lot = torch.rand(possible.shape, generator=generator, device=masks.device)
            place = (lot * possible).argmax(1)
            point = torch.stack([place % width, place // width], dim=1)[:, None, None]
            disc = (xy - point).square().sum(-1) <= (POINT_RADIUS * max(height, width)) ** 2
            shown = wanted[:, number] & there & possible.any(1)
            plane.copy_(torch.maximum(plane, (disc & shown[:, None, None]).float()))
    planes[:, HINTS.index("given")] = there.float()[:, None, None]
    return planes


def _within(region: Tensor, margin: int) -> Tensor:
    """Pixels of a region (B, 1, H, W) that far from its edge, or all where that leaves none."""
    outside = (~region).float()
    inner = F.max_pool2d(outside, 2 * margin + 1, stride=1, padding=margin) < 0.5
    return torch.where(inner.flatten(1).any(1)[:, None, None, None], inner, region)
