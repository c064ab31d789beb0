"""Affine motions of a pair: a robust search for several, and weighted fits.

All in node coordinates, batched over B problems. An affine is (3, 2): `[x, y, 1] @ A`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["apply_affine", "find_affines", "fit_affine", "same_side"]

_TRIPLES = 600
_STRETCH = 4.0  # largest factor of a length
_ANISOTROPY = 3.0  # largest quotient of the two principal stretches
_TOLERANCE = 0.12  # of a supporting match, share of the object's longer side
_REFITS = 6
_RIDGE = 1e-4  # squares of nodes that keep scale 1 where nothing is known


def apply_affine(affine: Tensor, xy: Tensor) -> Tensor:
    """Points (..., N, 2) through affines (..., 3, 2)."""
    across, down, shift = affine[..., None, :, :].unbind(dim=-2)
    return xy[..., :1] * across + xy[..., 1:] * down + shift


def fit_affine(xy: Tensor, to: Tensor, weight: Tensor) -> Tensor:
    """Weighted least squares: points (..., N, 2), their images, weights (..., N): (..., 3, 2).

    Where the weights leave a direction free, it keeps scale 1.
    """
    total = weight.sum(dim=-1, keepdim=True).clamp(min=1e-9)
    share = (weight / total)[..., None]
    centre = (xy * share).sum(dim=-2, keepdim=True)
    image = (to * share).sum(dim=-2, keepdim=True)
    a, b = xy - centre, to - image
    # Sums of outer products and the inverse written out: linear algebra this small is slow.
    both = torch.cat([a, b], dim=-1)[..., None, :]
    sums = ((a * share)[..., None] * both).sum(dim=-3)
    sums = sums + _RIDGE * torch.eye(2, device=xy.device, dtype=xy.dtype).repeat(1, 2)
    normal, right = sums[..., :2], sums[..., 2:]
    p, q, r, s = normal.flatten(-2).unbind(-1)
    turned = torch.stack([s, -q, -r, p], dim=-1).unflatten(-1, (2, 2))
    linear = turned @ right / (p * s - q * r)[..., None, None]
    return torch.cat([linear, image - centre @ linear], dim=-2)


def same_side(affine: Tensor, before: Tensor) -> Tensor:
    """bool (...): affines (..., 3, 2) that mirror exactly where those before did."""
    return _area(affine) * _area(before) > 0


def _area(affine: Tensor) -> Tensor:
    """Determinants of the linear parts."""
    return affine[..., 0, 0] * affine[..., 1, 1] - affine[..., 0, 1] * affine[..., 1, 0]


def find_affines(
    xy: Tensor,
    to: Tensor,
    weight: Tensor,
    size: Tensor,
    *,
    columns: int,
    count: int,
    guides: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Several affine motions by sequential RANSAC: what one explains counts no more for the next.

    Triples of nodes are drawn from fixed random numbers, half of them all over the object, half
    close together, where a small object has a motion of its own. Maps that stretch by more than 4
    or by more than 3 times as much one way as the other are not considered.

    Args:
        xy: (N, 2), nodes in row-major order.
        to: (B, N, 2), the match of each.
        weight: (B, N), how much a match counts.
        size: (B,), longer side of the object that `to` lies on.
        columns: of the grid of nodes.
        count: how many.
        guides: places (B, G, 2), where they lead (B, G, 2), and which are there, bool (B, G).

    Returns:
        Affines (B, count, 3, 2) and the share of the weight that supports each, (B, count).

    Source: Fischler and Bolles 1981.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(_TRIPLES, 3, generator=generator).to(xy.device)
    near = torch.randint(-5, 6, (_TRIPLES, 3, 2), generator=generator).to(xy.device)
    batch, nodes = weight.shape
    sums = weight.double().cumsum(dim=1)
    first = torch.searchsorted(sums, (drawn.double().flatten() * sums[:, -1:]).contiguous()).clamp(
        max=nodes - 1
    )
    first = first.view(batch, _TRIPLES, 3)
    home = first[..., :1]
    u, v = home % columns + near[..., 0], home // columns + near[..., 1]
    beside = v.clamp(0, nodes // columns - 1) * columns + u.clamp(0, columns - 1)
    half = (torch.arange(_TRIPLES, device=xy.device) % 2 == 0)[:, None]
    rows = torch.where(half, first, torch.cat([home, beside[..., 1:]], dim=-1))
    corner = xy[rows]  # (B, T, 3, 2)
    image = torch.gather(to, 1, rows.flatten(1)[..., None].expand(-1, -1, 2)).view(corner.shape)
    a, b = corner[:, :, 1:] - corner[:, :, :1], image[:, :, 1:] - image[:, :, :1]
    det = a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]
    usable = (det.abs() >= 1) & (torch.gather(weight, 1, rows.flatten(1)).view(rows.shape) > 0).all(
        -1
    )
    inverse = (
        torch.stack([a[..., 1, 1], -a[..., 0, 1], -a[..., 1, 0], a[..., 0, 0]], dim=-1).unflatten(
            -1, (2, 2)
        )
        / torch.where(usable, det, torch.ones_like(det))[..., None, None]
    )
    linear = inverse @ b
    p, q, r, s = linear.flatten(-2).unbind(-1)
    area, half_sum = p * s - q * r, (p * p + q * q + r * r + s * s) / 2
    root = (half_sum**2 - area**2).clamp(min=0).sqrt()
    large, small = (half_sum + root).sqrt(), (half_sum - root).clamp(min=0).sqrt()
    # Turned over: that is the mirrored source's to explain.
    usable &= (
        (area > 0) & (large < _STRETCH) & (small > 1 / _STRETCH) & (large < _ANISOTROPY * small)
    )
    affine = torch.cat([linear, image[:, :, :1] - corner[:, :, :1] @ linear], dim=-2)
    scale = (_TOLERANCE * size)[:, None, None]
    away = apply_affine(affine, xy) - to[:, None]
    agree = torch.exp(-(away**2).sum(dim=-1) / scale**2)  # (B, T, N)
    bonus = torch.zeros_like(agree[..., 0])
    total = weight.sum(dim=1).clamp(min=1e-9)
    if guides is not None:
        places, leads, given = guides
        error = ((apply_affine(affine, places[:, None]) - leads[:, None]) ** 2).sum(dim=-1)
        bonus = (torch.exp(-error / scale**2) * given[:, None]).sum(dim=-1) * 0.3 * total[:, None]
    left, found, support = weight, [], []
    for k in range(count):
        score = (agree @ left[..., None])[..., 0] + (bonus if k == 0 else 0)
        best = score.masked_fill(~usable, -1).argmax(dim=1)
        one = affine[torch.arange(batch, device=xy.device), best]
        # Without any usable triple (a mask of a few nodes): a shift.
        shift = fit_affine(xy.expand(batch, -1, -1), to, torch.zeros_like(weight))
        mean = ((to - xy) * (left / left.sum(1, keepdim=True).clamp(min=1e-9))[..., None]).sum(1)
        shift = torch.cat([shift[:, :2], mean[:, None]], dim=1)
        one = torch.where(usable.any(dim=1)[:, None, None], one, shift)
        for _ in range(_REFITS if nodes > 3 else 0):
            near_by = torch.exp(-((apply_affine(one, xy) - to) ** 2).sum(-1) / scale[:, 0] ** 2)
            refit = fit_affine(xy.expand(batch, -1, -1), to, left * near_by)
            kept = ((left * near_by).sum(1) > 1e-6) & same_side(refit, one)
            one = torch.where(kept[:, None, None], refit, one)
        near_by = torch.exp(-((apply_affine(one, xy) - to) ** 2).sum(-1) / scale[:, 0] ** 2)
        found.append(one)
        support.append((left * near_by).sum(1) / total)
        left = left * (1 - near_by)
    return torch.stack(found, dim=1), torch.stack(support, dim=1)
