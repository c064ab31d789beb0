"""Smoothing of fields on grids of nodes, and the mending of folds."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "blur",
    "folded",
    "jacobian",
    "mend_folds",
    "sample_nodes",
    "smooth_affine",
    "smooth_residual",
]

_SLOPE = 0.02  # ridge of the slopes of an affine fit
_NOTHING = 1e-3  # weight of the base itself: what nothing is known of follows it


def blur(values: Tensor, sigma: float) -> Tensor:
    """Gaussian convolution of (..., h, w), zero beyond the border; sigma in nodes."""
    down, across = (_gaussian(n, sigma, values) for n in values.shape[-2:])
    return down @ values @ across


def _gaussian(length: int, sigma: float, like: Tensor) -> Tensor:
    """The convolution of a line with a Gaussian that ends at 3 sigma, as a matrix."""
    apart = torch.arange(length, device=like.device, dtype=like.dtype)
    apart = (apart[:, None] - apart).abs()
    radius = max(1, int(3 * sigma + 0.5))
    total = sum(math.exp(-(k * k) / (2 * sigma * sigma)) for k in range(-radius, radius + 1))
    return torch.exp(-(apart**2) / (2 * sigma * sigma)) * (apart <= radius) / total


def smooth_residual(
    field: Tensor, base: Tensor, weight: Tensor, size: tuple[int, int], sigma: float
) -> Tensor:
    """The base plus what the field adds to it, smoothed by a normalised convolution.

    Args:
        field, base: (..., N, 2).
        weight: (..., N), how far each node counts.
        size: rows and columns of the nodes.
        sigma: of the Gaussian in nodes.

    Source: normalised convolution, Knutsson and Westin, CVPR 1993.
    """
    added = ((field - base) * weight[..., None]).transpose(-1, -2)
    planes = torch.cat([added, weight[..., None, :]], dim=-2).unflatten(-1, size)
    near = blur(planes, sigma).flatten(-2)
    return base + (near[..., :2, :] / (near[..., 2:, :] + _NOTHING)).transpose(-1, -2)


def smooth_affine(
    field: Tensor, base: Tensor, weight: Tensor, size: tuple[int, int], sigma: float
) -> Tensor:
    """As `smooth_residual`, by affine fits around every node: straight at borders, where a mean is
    pulled inwards.

    Args:
        field, base: (..., N, 2).
        weight: (..., N).
        size: rows and columns of the nodes.
        sigma: of the fits' Gaussian weights in nodes.

    Source: moving least squares, Lancaster and Salkauskas, 1981.
    """
    radius = max(1, int(3 * sigma + 0.5))
    steps = torch.arange(-radius, radius + 1, device=field.device, dtype=field.dtype)
    kernel = torch.exp(-(steps**2) / (2 * sigma * sigma))
    kernel = kernel / kernel.sum()
    scaled = steps / sigma
    kernels = torch.stack([kernel, kernel * scaled, kernel * scaled**2])  # moments 0, 1, 2
    added = ((field - base) * weight[..., None]).transpose(-1, -2)
    planes = torch.cat([weight[..., None, :], added], dim=-2).unflatten(-1, size)
    flat = planes.flatten(0, -3)[:, None]  # (3 L, 1, h, w)
    across = F.conv2d(flat, kernels.view(3, 1, 1, -1), padding=(0, radius))
    down = F.conv2d(across.flatten(0, 1)[:, None], kernels.view(3, 1, -1, 1), padding=(radius, 0))
    # (..., plane, moment in x, moment in y, N)
    moment = down.view(*planes.shape[:-2], 3, 3, -1)
    mass, fx, fy = moment[..., 0, 0, 0, :], moment[..., 0, 1, 0, :], moment[..., 0, 0, 1, :]
    xx, xy, yy = moment[..., 0, 2, 0, :], moment[..., 0, 1, 1, :], moment[..., 0, 0, 2, :]
    mass = mass + _NOTHING
    slope = _SLOPE * mass
    normal = torch.stack([mass, fx, fy, fx, xx + slope, xy, fy, xy, yy + slope], dim=-1)
    right = torch.stack(
        [moment[..., 1:, 0, 0, :], moment[..., 1:, 1, 0, :], moment[..., 1:, 0, 1, :]], dim=-1
    )  # (..., 2, N, 3)
    solved = torch.linalg.solve(normal.unflatten(-1, (3, 3)), right.movedim(-3, -1))
    return base + solved[..., 0, :]


def sample_nodes(values: Tensor, at: Tensor) -> Tensor:
    """Bilinear values of (B, C, h, w) at node coordinates (B, N, 2), clamped: (B, N, C)."""
    h, w = values.shape[-2:]
    size = torch.tensor([w, h], device=at.device, dtype=at.dtype)
    grid = ((2 * at + 1) / size - 1)[:, None]
    out = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
    return out[:, :, 0].transpose(1, 2)


def jacobian(field: Tensor) -> Tensor:
    """Determinants of the four triangles' corners of every cell: (B, 4, h - 1, w - 1).

    Args:
        field: (B, h, w, 2).
    """
    a, b = field[:, :-1, :-1], field[:, :-1, 1:]
    c, d = field[:, 1:, :-1], field[:, 1:, 1:]

    def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        u, v = q - p, r - p
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    return torch.stack([area(a, b, c), area(b, d, a), area(c, a, d), area(d, c, b)], dim=1)


def folded(field: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Cells whose orientation is not that of most: bool (B, h - 1, w - 1), and the cells inside.

    A cell counts as folded where any of the four triangles at its corners is turned over.

    Args:
        field: (B, h, w, 2).
        inside: bool (B, h, w); a cell lies inside if its four nodes do.
    """
    area = jacobian(field)
    within = inside[:, :-1, :-1] & inside[:, :-1, 1:] & inside[:, 1:, :-1] & inside[:, 1:, 1:]
    sign = torch.sign((torch.sign(area).sum(dim=1) * within).sum(dim=(1, 2)))
    sign = torch.where(sign == 0, torch.ones_like(sign), sign)
    return ((area * sign[:, None, None, None]) <= 0).any(dim=1) & within, within


def mend_folds(field: Tensor, inside: Tensor, *, rounds: int = 64) -> Tensor:
    """Smooth a field around its folds, wider and wider, until none is left.

    Nodes far from any fold stay exactly as they are.

    Args:
        field: (B, h, w, 2), node coordinates.
        inside: bool (B, h, w).
    """
    weight = inside.float()
    for k in range(rounds):
        bad, _ = folded(field, inside)
        if not bool(bad.any()):
            break
        sigma = 0.8 + 0.15 * k
        there = F.pad(bad.float(), (0, 1, 0, 1))
        near = F.max_pool2d(there[:, None], 3, 1, 1)[:, 0]
        planes = torch.stack([*(field * weight[..., None]).unbind(-1), weight, near], dim=1)
        x, y, mass, share = blur(planes, sigma)[..., None].unbind(dim=1)
        smooth = torch.cat([x, y], dim=-1) / mass.clamp(min=1e-6)
        share = share.clamp(0, 1)
        share = share * (weight[..., None] > 0)
        field = field + share * (smooth - field)
    return field
