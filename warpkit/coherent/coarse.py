"""The coarse level: all target nodes against all source nodes, in layers.

In: nodes of B problems, target and source. Out: `Layered`, for every layer and target node the
source node it shows. All lengths are in nodes of the level at hand. docs/warping.md has the energy;
`reference` solves one layer of one problem in plain loops and the tests tie the two.

Sources: coupled convex optimisation, Heinrich et al., MICCAI 2014, and Siebert et al. (ConvexAdam),
2021; hubness correction, Conneau et al. (CSLS), ICLR 2018; layers as mixtures, Wang and Adelson,
1994.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coherent.affine import apply_affine, find_affines
from warpkit.coherent.assignment import OUTSIDE, Candidates
from warpkit.coherent.config import CoherentConfig
from warpkit.coherent.evidence import (
    cosines,
    extent,
    hubs_of,
    layer_shares,
    on_border,
    own_layer,
    refitted,
    source_side,
)
from warpkit.coherent.guided import Guided, pull_layers, through_guides
from warpkit.coherent.levels import COARSE
from warpkit.coherent.nodes import Nodes, stack_nodes
from warpkit.coherent.smooth import sample_nodes, smooth_residual
from warpkit.coords import pixel_grid

__all__ = ["Layered", "solve_coarse"]

_CYCLE = 0.2  # way back, share of the object, that lowers reliability


@dataclass(frozen=True, eq=False)
class Layered:
    """Layers of fields at one level, in source nodes.

    Attributes:
        target, source: the nodes.
        field: (B, K, N, 2).
        affine: (B, K, 3, 2).
        share: (B, K, N), how far each layer has each node; what is missing to 1 no layer explains.
        support: (B, K), share of the evidence that each affine explained.
        evidence: (B,), mean free energy of the layers where evidence is, less that of nearest
            neighbours, hardly above 0: what coherence costs.
        cosine: (B,), mean cosine along the field.
        misfit: (B,), mean distance of the guides from the unguided motion, share of the object.
        hub: (B, h, w), how much every source node of the coarse level is liked by everything.
        home: those source nodes.
        reliability: (B, N), how far the way back confirms the evidence of each target node.
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
    reliability: Tensor

    @classmethod
    def of(cls, parts: Sequence[Layered]) -> Layered:
        """Problems of one size, one after another."""
        if len(parts) == 1:
            return parts[0]
        joined: dict[str, Any] = {}
        for one in fields(cls):
            values = [getattr(part, one.name) for part in parts]
            nodes = isinstance(values[0], Nodes)
            joined[one.name] = stack_nodes(values) if nodes else torch.cat(values)
        return cls(**joined)

    def select(self, rows: Tensor) -> Layered:
        """The problems of these rows, in this order."""
        parts: dict[str, Any] = {}
        for one in fields(self):
            part = getattr(self, one.name)
            parts[one.name] = part.select(rows) if isinstance(part, Nodes) else part[rows]
        return Layered(**parts)

    def owning(self) -> Layered:
        """The shares of layers that own no node of a problem go to its others; layers beyond the
        last that any problem needs are cut.
        """
        there = self.target.weight.flatten(1) > 0
        count = self.share.shape[1]
        mine = F.one_hot(self.share.argmax(dim=1), count) * there[..., None]
        owns = (mine.sum(dim=1) > 0)[..., None]  # (B, K, 1)
        kept = self.share * owns
        total = self.share.sum(dim=1, keepdim=True)
        kept = kept * (total / kept.sum(dim=1, keepdim=True).clamp(min=1e-9))
        last = int(torch.nonzero(owns.any(dim=0)[:, 0]).max()) + 1
        return replace(
            self,
            field=self.field[:, :last],
            affine=self.affine[:, :last],
            share=kept[:, :last],
            support=self.support[:, :last],
        )


def solve_coarse(
    target: Nodes, source: Nodes, config: CoherentConfig, guides: Guided | None
) -> Layered:
    """All target nodes against all source nodes, in `config.layers` layers."""
    level, size = COARSE, target.size
    device = target.weight.device
    xy = pixel_grid(height=size[0], width=size[1], device=device).view(-1, 2)
    keys = pixel_grid(height=source.size[0], width=source.size[1], device=device).view(-1, 2)
    there, allowed = target.weight.flatten(1) > 0, source.weight.flatten(1) > 0
    cosine = cosines(target, source)
    hub = hubs_of(cosine, there)
    score = cosine - level.hubs * hub[:, None]
    if config.rim > 0:
        apart = target.rim.flatten(1)[:, :, None] - source.rim.flatten(1)[:, None]
        score = score - config.rim * apart**2
    score = score.masked_fill(~allowed[:, None], OUTSIDE)
    batch = len(cosine)
    # Mutual evidence: the best match of a node, how alike, and where the way back leads.
    top, best = score.max(dim=2)
    home = score.masked_fill(~there[..., None], -torch.inf).argmax(dim=1)
    returned = torch.gather(home, 1, best)
    object_side = extent(xy.expand(batch, -1, -1), there)
    side = source_side(source)
    cycle = (xy[returned] - xy).norm(dim=-1) / object_side[:, None]
    peak = top.masked_fill(~there, -torch.inf).amax(dim=1, keepdim=True)
    evidence = torch.exp(-((cycle / 0.1) ** 2)) * torch.exp((top - peak) / 0.1) + 1e-6
    evidence = evidence * there
    reliability = (0.9 * torch.exp(-((cycle / _CYCLE) ** 2)) + 0.1) * there
    reliability = reliability * (1 - 0.9 * on_border(keys[best], source))
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
        affine[:, 0] = through_guides(affine[:, 0], on_nodes)
    candidates = Candidates(
        score.unflatten(2, source.size)[:, None],
        cosine.unflatten(2, source.size)[:, None],
        torch.arange(source.size[1], device=device).float(),
        torch.arange(source.size[0], device=device).float(),
        temperature=level.temperature,
    )
    nearest = candidates.nearest[:, 0]
    base = apply_affine(affine, xy)
    field = base
    for k in range(level.rounds):
        theta, sigma = level.schedule(k)
        found = candidates.expect(field, theta=theta * config.stiffness, limit=level.limit)
        shares = layer_shares(found.energy, there, size, nearest, config.layer_price)
        weight = reliability[:, None] * found.cosine.clamp(min=0) ** 4 * shares
        if 2 * k < level.rounds:
            affine = refitted(affine, xy, base, found.place, weight, source)
            if on_nodes is not None:
                affine[:, 0] = through_guides(affine[:, 0], on_nodes)
            base = apply_affine(affine, xy)
        field = smooth_residual(found.place, base, weight, size, sigma)
        if on_nodes is not None:
            field = pull_layers(field, on_nodes, xy, size, reach=2.5)
    own = own_layer(field, shares.argmax(dim=1))
    found_there = sample_nodes(source.descriptors, own)
    along = (found_there * target.descriptors.flatten(2).transpose(1, 2)).sum(-1)
    along = along / found_there.norm(dim=-1).clamp(min=1e-6)
    cover = target.weight.flatten(1)
    seen = cover * reliability
    gained = (shares * found.energy).sum(dim=1) - nearest
    return Layered(
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
        reliability,
    )
