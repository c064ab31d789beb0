"""Finer levels: windows around the field.

In: the field of a coarser level and the nodes of a finer one. Out: the finer field.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from warpkit.coherent.affine import apply_affine, fit_affine
from warpkit.coherent.assignment import OUTSIDE, Candidates, Expected
from warpkit.coherent.coarse import Layered
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.evidence import layer_shares, on_border, own_layer, refitted
from warpkit.coherent.guided import Guided, pull_layers
from warpkit.coherent.levels import UNIT, WINDOWS, Level
from warpkit.coherent.nodes import Nodes
from warpkit.coherent.smooth import sample_nodes, smooth_affine, smooth_residual
from warpkit.coords import pixel_grid

__all__ = ["refine", "tiled_products", "whole_products"]

_BLOCK = 2048  # target nodes whose products with all source nodes are there at once
_MANY = 2500  # source nodes beyond which tiles are quicker on a CPU
_TILE = 12  # target nodes on the side of a tile


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
    pixels = target.field_to_pixels(xy.expand(batch, -1, -1))
    before = coarse.target.to_nodes(pixels)
    old = pixel_grid(height=coarse.target.size[0], width=coarse.target.size[1], device=device).view(
        -1, 2
    )

    def finer(nodes: Tensor) -> Tensor:
        return source.to_nodes(coarse.source.field_to_pixels(nodes))

    added = coarse.field - apply_affine(coarse.affine, old)
    planes = added.transpose(2, 3).flatten(1, 2).unflatten(2, coarse.target.size)
    reliability = coarse.reliability[:, None].unflatten(2, coarse.target.size)
    planes = torch.cat([planes, coarse.share.unflatten(2, coarse.target.size), reliability], dim=1)
    read = sample_nodes(planes, before).transpose(1, 2)  # (B, 3K + 1, N)
    base = apply_affine(coarse.affine, before[:, None])
    field = finer(base + read[:, : 2 * count].unflatten(1, (count, 2)).transpose(2, 3))
    base = finer(base)
    affine = fit_affine(xy.expand(batch, count, -1, -1), base, torch.ones_like(base[..., 0]))
    shares, reliability = read[:, 2 * count : 3 * count], read[:, 3 * count :]
    explained = shares.sum(dim=1, keepdim=True)
    mine = _one_hot(shares)
    there = target.weight.flatten(1) > 0
    centre = field if level.layered else own_layer(field, shares.argmax(dim=1))[:, None]
    far_places = pixel_grid(height=source.size[0], width=source.size[1], device=device).view(
        1, -1, 2
    )
    on_coarse = coarse.home.to_nodes(source.field_to_pixels(far_places.expand(batch, -1, -1)))
    hub = sample_nodes(coarse.hub[:, None], on_coarse)[..., 0]
    likely, score, corner = _windows(
        target, source, level.hubs * hub, centre, level.radius, config, level.temperature
    )
    # Lengths count as at the first fine level, whatever the number of nodes here.
    scale = (WINDOWS.nodes / max(*source.size)) ** 2
    blur_scale = max(*size) / WINDOWS.nodes
    alive = coarse.share.amax(dim=-1) > 0
    alone = (alive.sum(dim=1) == 1)[:, None, None]
    for k in range(level.rounds):
        theta, sigma = level.schedule(k)
        theta = theta * config.stiffness
        found = likely.expect(centre, theta=theta * scale, limit=level.limit / scale)
        expected = found.place
        if not level.layered:
            expected = _sharpened(found, score, corner, centre, theta * scale, level)
        doubt = 1 - 0.98 * on_border(expected, source)
        alike = found.cosine.clamp(min=0) ** 4 * there[:, None] * reliability * doubt
        if level.layered and count > 1:
            energy = found.energy.masked_fill(~alive[..., None], OUTSIDE * 5)
            taken = layer_shares(energy, there, size, None, config.layer_price)
            taken = taken * explained
            shares = (shares + taken) / 2
            # One layer alone weighs fully, whatever its company in the batch.
            mine = torch.where(alone, _one_hot(shares), shares)
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
        reliability=reliability[:, 0],
    )


def _sharpened(
    found: Expected, score: Tensor, corner: Tensor, centre: Tensor, theta: float, level: Level
) -> Tensor:
    """The mean candidates; where one takes all, the top of the parabola through it and those beside
    it, since a mean sticks to nodes there.

    Args:
        score: (B, L, N, h, w), windows.
        corner: (B, L, N, 2), the first node of each.
        centre: (B, L, N, 2), the field.
    """
    side = score.shape[-1]
    steps = torch.arange(side, device=score.device)
    far_x, far_y = (corner[..., None] + steps - centre[..., None]).square().unbind(dim=-2)
    far = far_y[..., None] + far_x[..., None, :]
    penalised = (score - theta / UNIT**2 * far).flatten(-2)
    here, peak = penalised.max(dim=-1, keepdim=True)
    column, row = peak % side, peak // side
    offsets = []
    for place, step in ((column, 1), (row, side)):
        inner = (place > 0) & (place < side - 1)
        last = side * side - 1
        before = torch.gather(penalised, 3, (peak - step).clamp(0, last))
        after = torch.gather(penalised, 3, (peak + step).clamp(0, last))
        curvature = (2 * here - before - after).clamp(min=1e-9)
        inner = inner & (torch.minimum(before, after) > OUTSIDE / 2)
        offsets.append(((after - before) / (2 * curvature)).clamp(-0.5, 0.5) * inner)
    top = corner + torch.cat([column, row], dim=-1) + torch.cat(offsets, dim=-1)
    share = torch.exp((here[..., 0] - found.energy) / level.temperature)
    sharp = ((share - 0.3) / 0.3).clamp(0, 1)[..., None]
    return found.place + sharp * (top - found.place)


def _one_hot(shares: Tensor) -> Tensor:
    """1 for the layer that has most of a node, else 0: (B, K, N)."""
    count = shares.shape[1]
    return torch.nn.functional.one_hot(shares.argmax(dim=1), count).transpose(1, 2).float()


def _windows(
    target: Nodes,
    source: Nodes,
    hub: Tensor,
    centre: Tensor,
    radius: int,
    config: CoherentConfig,
    temperature: float,
) -> tuple[Candidates, Tensor, Tensor]:
    """Windows around a field (B, L, N, 2).

    Returns:
        Their candidates, the scores (B, L, N, h, w), and the first node (B, L, N, 2) of each.
    """
    side = 2 * radius + 1
    corner = torch.floor(centre + 0.5).long() - radius
    x, y = (corner[..., None] + torch.arange(side, device=centre.device)).unbind(dim=-2)
    rows, columns = source.size
    inside_x, inside_y = (x >= 0) & (x < columns), (y >= 0) & (y < rows)
    row = y.clamp(0, rows - 1)[..., None] * columns + x.clamp(0, columns - 1)[..., None, :]

    def at(values: Tensor) -> Tensor:  # of source nodes (B, h, w)
        return torch.gather(values.flatten(1), 1, row.flatten(1)).view(row.shape)

    tiled = centre.device.type == "cpu" and rows * columns > _MANY
    cosine = (tiled_products if tiled else whole_products)(target, source, corner, side)
    # What is no candidate costs so much that it is none.
    score = cosine - at(torch.where(source.weight > 0, hub.view_as(source.weight), 2 - OUTSIDE))
    if config.rim > 0 and bool(source.rim.any()):
        apart = target.rim.flatten(1)[:, None, :, None, None] - at(source.rim)
        score = score - config.rim * apart**2
    inside = inside_y[..., None] & inside_x[..., None, :]
    score = score.masked_fill(~inside, OUTSIDE).clamp(min=OUTSIDE)
    likely = Candidates(score, cosine, x.float(), y.float(), temperature=temperature)
    return likely, score, corner


def whole_products(target: Nodes, source: Nodes, corner: Tensor, side: int) -> Tensor:
    """Cosines of target nodes with the source nodes of their windows, out of all products.

    Args:
        corner: int64 (B, L, N, 2), first node (x, y) of every window.
        side: of a window in nodes.

    Returns:
        (B, L, N, side, side); beyond the border that of the nearest node.
    """
    rows, columns = source.size
    steps = torch.arange(side, device=corner.device)
    x, y = (corner[..., None] + steps).unbind(dim=-2)
    at = y.clamp(0, rows - 1)[..., None] * columns + x.clamp(0, columns - 1)[..., None, :]
    found = []
    for start in range(0, at.shape[2], _BLOCK):
        part = at[:, :, start : start + _BLOCK]
        queries = target.descriptors.flatten(2)[:, :, start : start + _BLOCK].transpose(1, 2)
        products = queries @ source.descriptors.flatten(2)
        index = part.transpose(1, 2).flatten(2)
        near = torch.gather(products, 2, index).unflatten(2, (part.shape[1], side, side))
        found.append(near.transpose(1, 2))
    return torch.cat(found, dim=2)


def tiled_products(target: Nodes, source: Nodes, corner: Tensor, side: int) -> Tensor:
    """As `whole_products`: tiles of target nodes against the part of the source that their windows
    cover, which is small where a field is smooth.
    """
    batch, layers = corner.shape[:2]
    found = corner.new_zeros((batch, layers, *target.size, side, side), dtype=torch.float32)
    corner = corner.unflatten(2, target.size)
    steps = torch.arange(side, device=corner.device)
    last = torch.tensor([source.size[1], source.size[0]], device=corner.device)
    for b in range(batch):
        queries, values = (nodes.descriptors[b].permute(1, 2, 0) for nodes in (target, source))
        values = values.contiguous()
        for layer in range(layers):
            for top in range(0, target.size[0], _TILE):
                for left in range(0, target.size[1], _TILE):
                    tile = (slice(top, top + _TILE), slice(left, left + _TILE))
                    first = corner[b, layer][tile].flatten(0, 1)
                    low = first.amin(dim=0).clamp(min=0).minimum(last - 1)
                    high = (first.amax(dim=0) + side).minimum(last).maximum(low + 1)
                    part = values[low[1] : high[1], low[0] : high[0]]
                    products = queries[tile].flatten(0, 1) @ part.flatten(0, 1).T
                    x, y = (
                        (first[..., None] + steps)
                        .clamp(min=low[:, None])
                        .minimum(high[:, None] - 1)
                        .sub(low[:, None])
                        .unbind(dim=1)
                    )
                    index = y[:, :, None] * part.shape[1] + x[:, None]
                    near = torch.gather(products, 1, index.flatten(1))
                    place = found[b, layer][tile]
                    place.copy_(near.view(place.shape))
    return found.flatten(2, 3)
