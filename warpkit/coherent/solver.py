"""The solver: coupled convex search in layers, from all pairs of coarse nodes to fine windows.

In: nodes of B problems, target and source. Out: for every target node the source node it shows.
All lengths are in nodes of the level at hand. docs/warping.md has the energy; `reference` solves
one layer of one problem in plain loops and the tests tie the two.

Sources: coupled convex optimisation, Heinrich et al., MICCAI 2014, and Siebert et al.
(ConvexAdam), 2021; hubness correction, Conneau et al. (CSLS), ICLR 2018; layers as mixtures, Wang
and Adelson, 1994.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warpkit.coherent.affine import apply_affine, find_affines, fit_affine
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.nodes import Nodes
from warpkit.coherent.smooth import blur, sample_nodes, smooth_residual
from warpkit.coords import pixel_grid

__all__ = ["COARSE", "FINE", "Coarse", "Guided", "Level", "Solved", "refine", "solve_coarse"]

_UNIT = 5.0  # nodes of displacement that cost theta
_LAYER_TEMPERATURE = 0.03
_LAYER_PRICE = 0.01  # of every layer but the first
_UNEXPLAINED = 0.15  # what a layer may cost more than the nearest neighbour
_CYCLE = 0.2  # way back, share of the object, that lowers trust
_OUTSIDE = -2.0  # similarity of what is no candidate
_GATHER_COST = 40  # a gathered product takes as long as so many of a matrix product
_BLOCK = 2048  # rows that are gathered at once


@dataclass(frozen=True)
class Level:
    """One level of the search.

    Attributes:
        nodes: on the longer side of each region.
        rounds: of assignment and smoothing.
        radius: of the windows around the field, in nodes; 0 compares all with all.
        theta: weight of the smoothness term, first and last round.
        sigma: of the smoothing in nodes, first and last round.
        limit: where the smoothness term stops growing, in squares of `_UNIT` nodes.
        temperature: tau of the softmax over cosines.
        hubs: how much of a source node's mean cosine with its ten best is taken off its scores.
        layered: whether nodes may still change their layer.
    """

    nodes: int
    rounds: int
    radius: int
    theta: tuple[float, float]
    sigma: tuple[float, float]
    limit: float
    temperature: float
    hubs: float
    layered: bool = True

    def schedule(self, k: int) -> tuple[float, float]:
        """Theta and sigma of round `k`: geometric from first to last."""
        a = k / max(1, self.rounds - 1)
        first, last = self.theta
        wide, narrow = self.sigma
        return first * (last / first) ** a, wide * (narrow / wide) ** a


COARSE = Level(
    nodes=24,
    rounds=8,
    radius=0,
    theta=(0.05, 0.6),
    sigma=(3.0, 1.0),
    limit=8.0,
    temperature=0.02,
    hubs=0.5,
)
FINE = (
    Level(
        nodes=64,
        rounds=3,
        radius=4,
        theta=(0.1, 1.0),
        sigma=(2.0, 1.0),
        limit=2.0,
        temperature=0.02,
        hubs=0.5,
    ),
    Level(
        nodes=96,
        rounds=3,
        radius=2,
        theta=(0.5, 1.0),
        sigma=(1.2, 1.0),
        limit=2.0,
        temperature=0.01,
        hubs=0.0,
        layered=False,
    ),
)


@dataclass(frozen=True, eq=False)
class Guided:
    """Pairs of points that a field is to meet, in pixels, of B problems padded to G.

    Attributes:
        target: float32 (B, G, 2).
        source: float32 (B, G, 2).
        given: bool (B, G).
    """

    target: Tensor
    source: Tensor
    given: Tensor

    def in_nodes(self, target: Nodes, source: Nodes) -> Guided:
        """The same in node coordinates."""
        return Guided(target.to_nodes(self.target), source.to_nodes(self.source), self.given)

    def pull(self, field: Tensor, at: Tensor, present: Tensor, reach: float) -> Tensor:
        """A field moved so that it meets the guides: Gaussian kernel interpolation of the misfit.

        Args:
            field: (B, N, 2), the field at the places `at` (N, 2) or (B, N, 2).
            present: (B, G, 2), the field at the guides.
            reach: sigma of the kernel.

        Returns:
            (B, N, 2).
        """
        weight = self.given.float()
        miss = (self.source - present) * weight[..., None]
        own = torch.cdist(self.target, self.target) ** 2
        kernel = torch.exp(-own / (2 * reach**2)) * weight[:, :, None] * weight[:, None]
        identity = torch.eye(kernel.shape[-1], device=kernel.device)
        kernel = kernel + identity * (1e-4 + (1 - weight))[:, None]
        shares = torch.linalg.solve(kernel, miss)
        places = at.expand(len(field), -1, -1) if at.ndim == 2 else at
        near = torch.exp(-(torch.cdist(places, self.target) ** 2) / (2 * reach**2))
        return field + (near * weight[:, None]) @ shares


@dataclass(frozen=True, eq=False)
class Coarse:
    """Layers of fields at the coarse level, in source nodes.

    Attributes:
        target, source: the nodes.
        field: (B, K, N, 2).
        affine: (B, K, 3, 2).
        share: (B, K, N), how far each layer has each node; what is missing to 1 no layer explains.
        support: (B, K), share of the evidence that each affine explained.
        evidence: (B,), mean free energy of the layers where evidence is, less that of nearest
            neighbours, at most 0: what coherence costs.
        cosine: (B,), mean cosine along the field.
        misfit: (B,), mean distance of the guides from the unguided motion, share of the object.
        hub: (B, h, w), how much every source node of the coarse level is liked by everything.
        home: those source nodes.
    """

    target: Nodes
    source: Nodes
    field: Tensor
    affine: Tensor
    share: Tensor
    support: Tensor
    evidence: Tensor
    cosine: Tensor
    misfit: Tensor
    hub: Tensor
    home: Nodes


@dataclass(frozen=True, eq=False)
class Solved:
    """Fields at the finest level.

    Attributes:
        target, source: the nodes.
        field: (B, h, w, 2), source nodes.
        layer: int64 (B, h, w).
        share: (B, h, w), how far any layer explains the node.
        cosine: (B, h, w), along the field.
    """

    target: Nodes
    source: Nodes
    field: Tensor
    layer: Tensor
    share: Tensor
    cosine: Tensor


def _cosines(target: Nodes, source: Nodes) -> Tensor:
    """Cosines (B, N, M) of all target with all source nodes."""
    return target.descriptors.flatten(2).transpose(1, 2) @ source.descriptors.flatten(2)


def _hubs(cosine: Tensor, there: Tensor) -> Tensor:
    """Mean cosine of every source node with the ten target nodes that like it best: (B, M)."""
    liked = cosine.masked_fill(~there[..., None], _OUTSIDE)
    best = liked.topk(min(10, liked.shape[1]), dim=1).values
    counted = (best > _OUTSIDE).float()
    return (best * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _extent(xy: Tensor, there: Tensor) -> Tensor:
    """Longer side of the nodes that take part, (B,), at least 1."""
    low = torch.where(there[..., None], xy, torch.inf).amin(dim=1)
    high = torch.where(there[..., None], xy, -torch.inf).amax(dim=1)
    return (high - low).amax(dim=1).clamp(min=1)


def _shares(
    energy: Tensor, there: Tensor, size: tuple[int, int], floor: Tensor | None
) -> Tensor:
    """How far each layer has each node: softmax of energies (B, K, N) averaged around nodes.

    `floor` (B, N) is the energy of no layer, where a node may be none's.
    """
    price = torch.full((energy.shape[1],), _LAYER_PRICE, device=energy.device)
    price[0] = 0
    energy = energy - price[:, None]
    if floor is not None:
        energy = torch.cat([energy, floor[:, None] - _UNEXPLAINED], dim=1)
    weight = there[:, None].float()
    planes = torch.cat([energy * weight, weight], dim=1).unflatten(2, size)
    near = blur(planes, 1.0).flatten(2)
    found = torch.softmax(near[:, :-1] / (near[:, -1:] + 1e-3) / _LAYER_TEMPERATURE, dim=1)
    return found[:, : len(price)]


def solve_coarse(
    target: Nodes, source: Nodes, config: CoherentConfig, guides: Guided | None
) -> Coarse:
    """All target nodes against all source nodes, in `config.layers` layers."""
    level, size = COARSE, target.size
    device = target.weight.device
    xy = pixel_grid(height=size[0], width=size[1], device=device).view(-1, 2)
    keys = pixel_grid(height=source.size[0], width=source.size[1], device=device).view(-1, 2)
    there, allowed = target.weight.flatten(1) > 0, source.weight.flatten(1) > 0
    cosine = _cosines(target, source)
    hub = _hubs(cosine, there)
    score = cosine - level.hubs * hub[:, None]
    if config.rim > 0:
        apart = target.rim.flatten(1)[:, :, None] - source.rim.flatten(1)[:, None]
        score = score - config.rim * apart**2
    score = score.masked_fill(~allowed[:, None], _OUTSIDE)
    batch = len(cosine)
    # Mutual evidence: the best match of a node, how alike, and where the way back leads.
    top, best = score.max(dim=2)
    home = score.masked_fill(~there[..., None], -torch.inf).argmax(dim=1)
    returned = torch.gather(home, 1, best)
    object_side = _extent(xy.expand(batch, -1, -1), there)
    side = source_side(source)
    cycle = (xy[returned] - xy).norm(dim=-1) / object_side[:, None]
    peak = top.masked_fill(~there, -torch.inf).amax(dim=1, keepdim=True)
    evidence = torch.exp(-((cycle / 0.1) ** 2)) * torch.exp((top - peak) / 0.1) + 1e-6
    evidence = evidence * there
    trust = (0.9 * torch.exp(-((cycle / _CYCLE) ** 2)) + 0.1) * there
    on_nodes = None if guides is None else guides.in_nodes(target, source)
    affine, support = find_affines(
        xy,
        keys[best],
        evidence,
        side,
        columns=size[1],
        count=config.layers,
        guides=None if on_nodes is None else (on_nodes.target, on_nodes.source, on_nodes.given),
    )
    misfit = torch.zeros(batch, device=device)
    if on_nodes is not None:
        error = (apply_affine(affine[:, 0], on_nodes.target) - on_nodes.source).norm(dim=-1)
        given = on_nodes.given.float()
        misfit = (error * given).sum(1) / given.sum(1).clamp(min=1) / side
        affine[:, 0] = _through_guides(affine[:, 0], on_nodes)
    nearest = level.temperature * torch.logsumexp(score / level.temperature, dim=2)
    base = apply_affine(affine, xy)
    field = base
    squares = (keys**2).sum(dim=1)
    for k in range(level.rounds):
        theta, sigma = level.schedule(k)
        theta = theta * config.stiffness
        far = (field**2).sum(-1)[..., None] + squares - 2 * field @ keys.T  # (B, K, N, M)
        logit = score[:, None] - (theta / _UNIT**2) * far.clamp(0, level.limit * _UNIT**2)
        peak = logit.amax(dim=-1, keepdim=True)
        share = torch.exp((logit - peak) / level.temperature)
        total = share.sum(dim=-1, keepdim=True)
        energy = (level.temperature * total.log() + peak)[..., 0]
        expected = share @ keys / total
        alike = torch.einsum("bknm,bnm->bkn", share, cosine) / total[..., 0]
        shares = _shares(energy, there, size, nearest)
        weight = trust[:, None] * alike.clamp(min=0) ** 4 * shares
        if 2 * k < level.rounds:
            affine = _refitted(affine, xy, base, expected, weight, source)
            if on_nodes is not None:
                affine[:, 0] = _through_guides(affine[:, 0], on_nodes)
            base = apply_affine(affine, xy)
        field = smooth_residual(expected, base, weight, size, sigma)
        if on_nodes is not None:
            field = _pulled(field, on_nodes, xy, size, reach=2.5)
    layer = shares.argmax(dim=1)
    own = torch.gather(field, 1, layer[:, None, :, None].expand(-1, 1, -1, 2))[:, 0]
    along = sample_nodes(source.descriptors, own)
    along = (along * target.descriptors.flatten(2).transpose(1, 2)).sum(-1)
    along = along / sample_nodes(source.descriptors, own).norm(dim=-1).clamp(min=1e-6)
    cover = target.weight.flatten(1)
    seen = cover * trust
    gained = (shares * energy).sum(dim=1) - nearest
    return Coarse(
        target,
        source,
        field,
        affine,
        shares,
        support,
        (seen * gained).sum(1) / seen.sum(1).clamp(min=1e-9),
        (cover * along).sum(1) / cover.sum(1).clamp(min=1e-9),
        misfit,
        hub.unflatten(1, source.size),
        source,
    )


def _through_guides(affine: Tensor, guides: Guided) -> Tensor:
    """An affine (B, 3, 2) moved towards the guides: their own fit, held to it as a prior."""
    given = guides.given.float()
    moved = guides.source - apply_affine(affine, guides.target)
    residual = fit_affine(guides.target, guides.target + moved, given)
    prior = torch.eye(3, 2, device=affine.device)
    count = given.sum(dim=1)[:, None, None]
    # One or two guides say where, not how it is turned: then the mean shift alone.
    shift = (moved * given[..., None]).sum(1) / count[:, 0].clamp(min=1)
    shifted = torch.cat([affine[:, :2], affine[:, 2:] + shift[:, None]], dim=1)
    change = torch.where(count >= 4, residual - prior, torch.zeros_like(residual))
    return torch.where(count >= 4, affine + change, torch.where(count > 0, shifted, affine))


def _pulled(
    field: Tensor, guides: Guided, xy: Tensor, size: tuple[int, int], *, reach: float
) -> Tensor:
    """Every layer (B, K, N, 2) moved so that it meets the guides."""
    layers = []
    for k in range(field.shape[1]):
        planes = field[:, k].transpose(1, 2).unflatten(2, size)
        layers.append(guides.pull(field[:, k], xy, sample_nodes(planes, guides.target), reach))
    return torch.stack(layers, dim=1)


def refine(
    coarse: Coarse,
    target: Nodes,
    source: Nodes,
    level: Level,
    config: CoherentConfig,
    guides: Guided | None,
) -> Coarse:
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
    old = pixel_grid(
        height=coarse.target.size[0], width=coarse.target.size[1], device=device
    ).view(-1, 2)

    def finer(nodes: Tensor) -> Tensor:
        return source.to_nodes(coarse.source.to_pixels(nodes))

    added = coarse.field - apply_affine(coarse.affine, old)
    planes = added.transpose(2, 3).flatten(1, 2).unflatten(2, coarse.target.size)
    planes = torch.cat([planes, coarse.share.unflatten(2, coarse.target.size)], dim=1)
    read = sample_nodes(planes, before).transpose(1, 2)  # (B, 3K, N)
    base = apply_affine(coarse.affine, before[:, None])
    field = finer(base + read[:, : 2 * count].unflatten(1, (count, 2)).transpose(2, 3))
    base = finer(base)
    affine = fit_affine(xy.expand(batch, count, -1, -1), base, torch.ones_like(base[..., 0]))
    shares = read[:, 2 * count :]
    explained = shares.sum(dim=1, keepdim=True)
    mine = _one_hot(shares)
    there = target.weight.flatten(1) > 0
    centre = field if level.layered else _own(field, shares.argmax(dim=1))[:, None]
    far_places = pixel_grid(height=source.size[0], width=source.size[1], device=device).view(1, -1, 2)
    on_coarse = coarse.home.to_nodes(source.to_pixels(far_places.expand(batch, -1, -1)))
    hub = sample_nodes(coarse.hub[:, None], on_coarse)[..., 0]
    cosine, score, candidates = _windows(target, source, level.hubs * hub, centre, level.radius, config)
    # What is best matched on the source's border may lie beyond it: hardly evidence.
    last = torch.tensor([source.size[1], source.size[0]], device=device) - 1.5
    # Lengths count as at the first fine level, whatever the number of nodes here.
    scale = FINE[0].nodes / max(*source.size)
    blur_scale = max(*size) / FINE[0].nodes
    for k in range(level.rounds):
        theta, sigma = level.schedule(k)
        theta = theta * config.stiffness
        far = ((candidates - centre[..., None, :]) ** 2).sum(-1) * (scale / _UNIT) ** 2
        logit = (score - theta * far.clamp(max=level.limit)) / level.temperature
        share = torch.softmax(logit, dim=-1)
        expected = (share[..., None] * candidates).sum(dim=-2)
        best = torch.gather(
            candidates, 3, logit.argmax(dim=-1)[..., None, None].expand(-1, -1, -1, 1, 2)
        )[..., 0, :]
        outside = ((best < 0.5) | (best > last)).any(dim=-1)
        alike = (share * cosine).sum(-1).clamp(min=0) ** 4 * there[:, None] * (1 - 0.95 * outside)
        if level.layered and count > 1:
            energy = level.temperature * torch.logsumexp(logit, dim=-1)
            found = _shares(energy, there, size, None) * explained
            shares = (shares + found) / 2
            mine = shares
        if k == 0:
            affine = _refitted(affine, xy, base, expected, mine * alike, source)
            base = apply_affine(affine, xy)
        field = smooth_residual(
            expected.expand_as(field),
            base,
            mine * alike,
            size,
            max(0.7, sigma * blur_scale),
        )
        if guides is not None:
            on_nodes = guides.in_nodes(target, source)
            field = _pulled(field, on_nodes, xy, size, reach=0.08 * max(*size))
        centre = field if level.layered else _own(field, shares.argmax(dim=1))[:, None]
    return replace(
        coarse, target=target, source=source, field=field, affine=affine, share=shares
    )


def _refitted(
    affine: Tensor, xy: Tensor, base: Tensor, expected: Tensor, weight: Tensor, source: Nodes
) -> Tensor:
    """Affines (B, K, 3, 2) fitted to what is expected, far deviations counted little."""
    side = 0.2 * source_side(source)[:, None, None]
    weight = weight * torch.exp(-(((base - expected).norm(dim=-1) / side) ** 2))
    refit = fit_affine(xy.expand(*base.shape[:2], -1, -1), expected.expand_as(base), weight)
    known = weight.sum(dim=-1) > 1e-3
    return torch.where(known[..., None, None], refit, affine)


def source_side(source: Nodes) -> Tensor:
    """Longer side of the nodes that are candidates: (B,)."""
    xy = pixel_grid(height=source.size[0], width=source.size[1], device=source.weight.device)
    return _extent(xy.view(1, -1, 2), source.weight.flatten(1) > 0)


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
    score = score.masked_fill(~there, _OUTSIDE)

    def back(values: Tensor) -> Tensor:
        return values.view(batch, nodes, layers, width).transpose(1, 2)

    return back(cosine), back(score).masked_fill(~inside, _OUTSIDE), places.float()


def _own(field: Tensor, layer: Tensor) -> Tensor:
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


def finish(coarse: Coarse, *, merge: bool) -> Solved:
    """One field out of the layers.

    Args:
        merge: blend layers where they meet, as on one object; else every node has its layer's.
    """
    size = coarse.target.size
    layer = coarse.share.argmax(dim=1)
    if merge and coarse.share.shape[1] > 1:
        mine = torch.nn.functional.one_hot(layer, coarse.share.shape[1]).transpose(1, 2).float()
        near = blur(mine.unflatten(2, size), 1.5).flatten(2) + 1e-6
        near = near / near.sum(dim=1, keepdim=True)
        own = (near[..., None] * coarse.field).sum(dim=1)
    else:
        own = _own(coarse.field, layer)
    along = sample_nodes(coarse.source.descriptors, own)
    along = along / along.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    cosine = (along * coarse.target.descriptors.flatten(2).transpose(1, 2)).sum(-1)
    return Solved(
        coarse.target,
        coarse.source,
        own.unflatten(1, size),
        layer.unflatten(1, size),
        coarse.share.sum(dim=1).unflatten(1, size),
        cosine.unflatten(1, size),
    )
