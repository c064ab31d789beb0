"""What levels share: scores, evidence at borders, and which layer has which node."""

from __future__ import annotations

import torch
from torch import Tensor

from warpkit.coherent.affine import fit_affine, same_side
from warpkit.coherent.assignment import OUTSIDE
from warpkit.coherent.nodes import Nodes
from warpkit.coherent.smooth import blur
from warpkit.coords import pixel_grid

__all__ = [
    "cosines",
    "extent",
    "hubs_of",
    "layer_shares",
    "on_border",
    "own_layer",
    "refitted",
    "source_side",
]

_LAYER_TEMPERATURE = 0.03
_UNEXPLAINED = 0.15  # what a layer may cost more than the nearest neighbour


def cosines(target: Nodes, source: Nodes) -> Tensor:
    """Cosines (B, N, M) of all target with all source nodes."""
    return target.descriptors.flatten(2).transpose(1, 2) @ source.descriptors.flatten(2)


def hubs_of(cosine: Tensor, there: Tensor) -> Tensor:
    """Mean cosine of every source node with the ten target nodes that like it best: (B, M)."""
    liked = cosine.masked_fill(~there[..., None], OUTSIDE)
    best = liked.topk(min(10, liked.shape[1]), dim=1).values
    counted = (best > OUTSIDE).float()
    return (best * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def on_border(places: Tensor, source: Nodes) -> Tensor:
    """bool: places (B, ..., 2) on the outermost nodes of the whole image.

    What is best matched there may lie beyond it: hardly evidence.
    """
    edge = source.edge.view(-1, *[1] * (places.ndim - 2), 4)
    low, high = edge[..., :2], edge[..., 2:]
    return ((places < low + 0.5) | (places > high - 0.5)).any(dim=-1)


def extent(xy: Tensor, there: Tensor) -> Tensor:
    """Longer side of the nodes that take part, (B,), at least 1."""
    low = torch.where(there[..., None], xy, torch.inf).amin(dim=1)
    high = torch.where(there[..., None], xy, -torch.inf).amax(dim=1)
    return (high - low).amax(dim=1).clamp(min=1)


def source_side(source: Nodes) -> Tensor:
    """Longer side of the nodes that are candidates: (B,)."""
    xy = pixel_grid(height=source.size[0], width=source.size[1], device=source.weight.device)
    return extent(xy.view(1, -1, 2), source.weight.flatten(1) > 0)


def layer_shares(
    energy: Tensor, there: Tensor, size: tuple[int, int], floor: Tensor | None, layer_price: float
) -> Tensor:
    """How far each layer has each node: softmax of energies (B, K, N) averaged around nodes.

    `floor` (B, N) is the energy of no layer, where a node may be none's; every layer but the first
    costs `layer_price`.
    """
    price = torch.full((energy.shape[1],), layer_price, device=energy.device)
    price[0] = 0
    energy = energy - price[:, None]
    if floor is not None:
        energy = torch.cat([energy, floor[:, None] - _UNEXPLAINED], dim=1)
    weight = there[:, None].float()
    planes = torch.cat([energy * weight, weight], dim=1).unflatten(2, size)
    near = blur(planes, 1.0).flatten(2)
    found = torch.softmax(near[:, :-1] / (near[:, -1:] + 1e-3) / _LAYER_TEMPERATURE, dim=1)
    return found[:, : len(price)]


def own_layer(field: Tensor, layer: Tensor) -> Tensor:
    """The field (B, N, 2) of the layer (B, N) that each node belongs to."""
    return torch.gather(field, 1, layer[:, None, :, None].expand(-1, 1, -1, 2))[:, 0]


def refitted(
    affine: Tensor, xy: Tensor, base: Tensor, expected: Tensor, weight: Tensor, source: Nodes
) -> Tensor:
    """Affines (B, K, 3, 2) fitted to what is expected, far deviations counted little."""
    side = 0.2 * source_side(source)[:, None, None]
    weight = weight * torch.exp(-(((base - expected).norm(dim=-1) / side) ** 2))
    refit = fit_affine(xy.expand(*base.shape[:2], -1, -1), expected.expand_as(base), weight)
    known = (weight.sum(dim=-1) > 1e-3) & same_side(refit, affine)
    return torch.where(known[..., None, None], refit, affine)
