"""Fields and affine motions pulled to guides, inside the solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from warpkit.coherent.affine import apply_affine, fit_affine
from warpkit.coherent.nodes import Nodes
from warpkit.coherent.smooth import sample_nodes

__all__ = ["Guided", "pull_layers", "through_guides"]


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


def through_guides(affine: Tensor, guides: Guided) -> Tensor:
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


def pull_layers(
    field: Tensor, guides: Guided, xy: Tensor, size: tuple[int, int], *, reach: float
) -> Tensor:
    """Every layer (B, K, N, 2) moved so that it meets the guides."""
    layers = []
    for k in range(field.shape[1]):
        planes = field[:, k].transpose(1, 2).unflatten(2, size)
        layers.append(guides.pull(field[:, k], xy, sample_nodes(planes, guides.target), reach))
    return torch.stack(layers, dim=1)
