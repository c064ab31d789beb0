"""Finer levels: windows around the field.

In: the field of a coarser level and the nodes of a finer one. Out: the finer field.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from warpkit.coherent.affine import apply_affine, fit_affine
from warpkit.coherent.coarse import Layered
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.evidence import OUTSIDE, layer_shares, on_border, refitted
from warpkit.coherent.guided import Guided, pull_layers
from warpkit.coherent.levels import UNIT, WINDOWS, Level
from warpkit.coherent.nodes import Nodes
from warpkit.coherent.smooth import sample_nodes, smooth_affine, smooth_residual
from warpkit.coords import pixel_grid

__all__ = ["own_layer", "refine"]

_GATHER_COST = 40  # a gathered product takes as long as so many of a matrix product
_BLOCK = 2048  # rows that are gathered at once


def refine(
    coarse: Layered,
    target: Nodes,
    source: Nodes,
    level: Level,
    config: CoherentConfig,
    guides: Guided | None,
) -> Layered:
    """Finer nodes, searched in windows around the field.

    Layers stay apart: a node is averaged with nodes of its own layer alone. Where the level is
    `layered`, every layer searches its own windows and nodes may change their layer.
    """
    size = target.size
    device = target.weight.device
    xy = pixel_grid(height=size[0], width=size[1], device=device).view(-1, 2)
    batch, count = coarse.share.shape[:2]
    pixels = target.to_pixels(xy.expand(batch, -1, -1))
    before = coarse.target.to_nodes(pixels)
    old = pixel_grid(height=coarse.target.size[0], width=coarse.target.size[1], device=device).view(
        -1, 2
    )

    def finer(nodes: Tensor) -> Tensor:
        return source.to_nodes(coarse.source.to_pixels(nodes))

    added = coarse.field - apply_affine(coarse.affine, old)
    planes = added.transpose(2, 3).flatten(1, 2).unflatten(2, coarse.target.size)
    trust = coarse.trust[:, None].unflatten(2, coarse.target.size)
    planes = torch.cat([planes, coarse.share.unflatten(2, coarse.target.size), trust], dim=1)
    read = sample_nodes(planes, before).transpose(1, 2)  # (B, 3K + 1, N)
    base = apply_affine(coarse.affine, before[:, None])
    field = finer(base + read[:, : 2 * count].unflatten(1, (count, 2)).transpose(2, 3))
    base = finer(base)
    affine = fit_affine(xy.expand(batch, count, -1, -1), base, torch.ones_like(base[..., 0]))
    shares, trust = read[:, 2 * count : 3 * count], read[:, 3 * count :]
    explained = shares.sum(dim=1, keepdim=True)
    mine = _one_hot(shares)
    there = target.weight.flatten(1) > 0
    centre = field if level.layered else own_layer(field, shares.argmax(dim=1))[:, None]
    far_places = pixel_grid(height=source.size[0], width=source.size[1], device=device).view(
        1, -1, 2
    )
    on_coarse = coarse.home.to_nodes(source.to_pixels(far_places.expand(batch, -1, -1)))
    hub = sample_nodes(coarse.hub[:, None], on_coarse)[..., 0]
    cosine, score, candidates = _windows(
        target, source, level.hubs * hub, centre, level.radius, config
    )
    # Lengths count as at the first fine level, whatever the number of nodes here.
    scale = WINDOWS.nodes / max(*source.size)
    blur_scale = max(*size) / WINDOWS.nodes
    for k in range(level.rounds):
        theta, sigma = level.schedule(k)
        theta = theta * config.stiffness
        far = ((candidates - centre[..., None, :]) ** 2).sum(-1) * (scale / UNIT) ** 2
        penalised = score - theta * far.clamp(max=level.limit)
        logit = penalised / level.temperature
        peak = penalised.argmax(dim=-1, keepdim=True)
        best = torch.gather(candidates, 3, peak[..., None].expand(*peak.shape, 2))[..., 0, :]
        share = torch.softmax(logit, dim=-1)
        expected = (share[..., None] * candidates).sum(dim=-2)
        found = (share * cosine).sum(-1)
        if not level.layered:
            # Where one candidate takes all, the mean sticks to it: its parabola's top is exact.
            top = best + _parabola(penalised, peak, 2 * level.radius + 1)
            sharp = ((torch.gather(share, 3, peak) - 0.3) / 0.3).clamp(0, 1)
            expected = expected + sharp * (top - expected)
        doubt = 1 - 0.98 * on_border(best, source)
        alike = found.clamp(min=0) ** 4 * there[:, None] * trust * doubt
        if level.layered and count > 1:
            energy = level.temperature * torch.logsumexp(logit, dim=-1)
            taken = layer_shares(energy, there, size, None, config.layer_price)
            taken = taken * explained
            shares = (shares + taken) / 2
            mine = shares
        if k == 0:
            affine = refitted(affine, xy, base, expected, mine * alike, source)
            base = apply_affine(affine, xy)
        smoothed = smooth_residual if level.layered else smooth_affine
        field = smoothed(
            expected.expand_as(field), base, mine * alike, size, max(0.7, sigma * blur_scale)
        )
        if guides is not None:
            on_nodes = guides.in_nodes(target, source)
            field = pull_layers(field, on_nodes, xy, size, reach=0.08 * max(*size))
        centre = field if level.layered else own_layer(field, shares.argmax(dim=1))[:, None]
    return replace(
        coarse,
        target=target,
        source=source,
        field=field,
        affine=affine,
        share=shares,
        trust=trust[:, 0],
    )


def _parabola(score: Tensor, peak: Tensor, side: int) -> Tensor:
    """How far the top of a parabola through a window's peak and its neighbours is from the peak.

    Args:
        score: (B, L, N, side * side), windows row by row.
        peak: (B, L, N, 1), index of the best in each.

    Returns:
        (B, L, N, 2), at most half a node; 0 at a window's edge and next to what is no candidate.
    """
    column, row = peak % side, peak // side
    here = torch.gather(score, 3, peak)[..., 0]
    offsets = []
    for place, step in ((column, 1), (row, side)):
        inner = ((place > 0) & (place < side - 1))[..., 0]
        last = side * side - 1
        before = torch.gather(score, 3, (peak - step).clamp(0, last))[..., 0]
        after = torch.gather(score, 3, (peak + step).clamp(0, last))[..., 0]
        bend = (2 * here - before - after).clamp(min=1e-9)
        inner = inner & (torch.minimum(before, after) > OUTSIDE / 2)
        offsets.append(((after - before) / (2 * bend)).clamp(-0.5, 0.5) * inner)
    return torch.stack(offsets, dim=-1)


def _one_hot(shares: Tensor) -> Tensor:
    """1 for the layer that has most of a node, else 0: (B, K, N)."""
    count = shares.shape[1]
    return torch.nn.functional.one_hot(shares.argmax(dim=1), count).transpose(1, 2).float()


def _windows(
    target: Nodes, source: Nodes, hub: Tensor, centre: Tensor, radius: int, config: CoherentConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines, scores (B, L, N, W) and places (B, L, N, W, 2) in windows around a field."""
    steps = torch.arange(-radius, radius + 1, device=centre.device)
    window = torch.cartesian_prod(steps, steps).flip(-1)
    places = torch.floor(centre + 0.5).long()[..., None, :] + window
    last = torch.tensor([source.size[1] - 1, source.size[0] - 1], device=centre.device)
    inside = ((places >= 0) & (places <= last)).all(dim=-1)
    held = places.clamp(min=0).minimum(last)
    rows = held[..., 1] * source.size[1] + held[..., 0]
    batch, layers, nodes, width = rows.shape
    flat = rows.transpose(1, 2).reshape(batch, nodes, -1)
    cosine = _cosines_at(target, source, flat)
    score = cosine - torch.gather(hub, 1, flat.flatten(1)).view(flat.shape)
    if config.rim > 0:
        rim = torch.gather(source.rim.flatten(1), 1, flat.flatten(1)).view(flat.shape)
        score = score - config.rim * (target.rim.flatten(1)[..., None] - rim) ** 2
    allowed = source.weight.flatten(1) > 0
    there = torch.gather(allowed, 1, flat.flatten(1)).view(flat.shape)
    score = score.masked_fill(~there, OUTSIDE)

    def back(values: Tensor) -> Tensor:
        return values.view(batch, nodes, layers, width).transpose(1, 2)

    return back(cosine), back(score).masked_fill(~inside, OUTSIDE), places.float()


def own_layer(field: Tensor, layer: Tensor) -> Tensor:
    """The field (B, N, 2) of the layer (B, N) that each node belongs to."""
    return torch.gather(field, 1, layer[:, None, :, None].expand(-1, 1, -1, 2))[:, 0]


def _cosines_at(target: Nodes, source: Nodes, rows: Tensor) -> Tensor:
    """Cosines (B, N, W) of target nodes with source nodes `rows`."""
    queries = target.descriptors.flatten(2).transpose(1, 2)
    values = source.descriptors.flatten(2).transpose(1, 2)
    if rows.shape[2] * _GATHER_COST > values.shape[1]:
        return torch.gather(queries @ values.transpose(1, 2), 2, rows)
    parts = []
    for start in range(0, rows.shape[1], _BLOCK):
        at = rows[:, start : start + _BLOCK]
        index = at.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
        near = torch.gather(values, 1, index).view(*at.shape, -1)
        parts.append((near @ queries[:, start : start + _BLOCK, :, None])[..., 0])
    return torch.cat(parts, dim=1)
