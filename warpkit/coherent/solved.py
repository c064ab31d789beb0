"""One field out of the layers of the last level."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warpkit.coherent.coarse import Layered
from warpkit.coherent.evidence import own_layer
from warpkit.coherent.nodes import Nodes
from warpkit.coherent.smooth import blur, sample_nodes

__all__ = ["Solved", "finish"]

_EXPLAINED = 0.3  # share of all layers below which a node has its nearest neighbour


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

    def row(self, i: int) -> Solved:
        """One problem, without the nodes' descriptors, in memory of its own."""
        at = torch.tensor([i], device=self.field.device)
        target, source = (
            replace(nodes, descriptors=nodes.descriptors[:, :0]).select(at)
            for nodes in (self.target, self.source)
        )
        parts = (part[at] for part in (self.field, self.layer, self.share, self.cosine))
        return Solved(target, source, *parts)


def finish(coarse: Layered, *, merge: bool) -> Solved:
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
        own = own_layer(coarse.field, layer)
    if not merge:
        own = _with_nearest(coarse, own)
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


def _with_nearest(layered: Layered, own: Tensor) -> Tensor:
    """The field (B, N, 2), nearest neighbours where no layer explains a node."""
    lost = (layered.share.sum(dim=1) < _EXPLAINED) & (layered.target.weight.flatten(1) > 0)
    if not bool(lost.any()):
        return own
    own = own.clone()
    columns = layered.source.size[1]
    for row in torch.nonzero(lost.any(dim=1))[:, 0].tolist():
        queries = layered.target.descriptors[row].flatten(1).T[lost[row]]
        cosine = queries @ layered.source.descriptors[row].flatten(1)
        allowed = layered.source.weight[row].flatten() > 0
        best = cosine.masked_fill(~allowed, -torch.inf).argmax(dim=1)
        own[row, lost[row]] = torch.stack([best % columns, best // columns], dim=1).float()
    return own
