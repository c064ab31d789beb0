"""Which source nodes a target node shows: expectations over rectangles of candidates.

The weight of a candidate at `y` for a node whose field leads to `u` is
`exp(score / tau) * (exp(-theta |y - u|^2 / (tau UNIT^2)) + exp(-theta limit / tau))`: a Gaussian
for what is near, a constant for what is farther than the smoothness term looks. The Gaussian is a
product of one in x and one in y, so the sums over a rectangle are two small matrix products, and
the exponentials of the scores are taken once for all rounds and layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from warpkit.coherent.levels import UNIT

__all__ = ["OUTSIDE", "Candidates", "Expected"]

OUTSIDE = -2.0  # score of what is no candidate
_FLOOR = 1e-30  # least constant: what single precision still tells from nothing


@dataclass(frozen=True, eq=False)
class Expected:
    """What the candidates say: all (B, K, N) but for `place`.

    Attributes:
        place: (B, K, N, 2), mean candidate; the field itself where there is no candidate.
        cosine: mean cosine.
        energy: tau times the logarithm of the sum of the weights: the free energy.
    """

    place: Tensor
    cosine: Tensor
    energy: Tensor


class Candidates:
    """Candidates of every target node and how likely each is before the field is known."""

    def __init__(
        self, score: Tensor, cosine: Tensor, x: Tensor, y: Tensor, *, temperature: float
    ) -> None:
        """Args:
        score: (B, L, N, h, w), at or below `OUTSIDE` where there is no candidate; L is 1 where
            all layers have the same candidates.
        cosine: the same shape.
        x, y: source nodes (B, L, N, w) and (B, L, N, h), or what broadcasts to them.
        temperature: tau.
        """
        self.temperature = temperature
        self.shape = score.shape
        self.top = score.amax(dim=(-1, -2))
        likely = torch.exp((score - self.top[..., None, None]) / temperature)
        likely = likely * (score > OUTSIDE)
        self._both = torch.cat([likely, likely * cosine], dim=-2)  # (B, L, N, 2h, w)
        self._x, self._y = x, y
        h = score.shape[-2]
        columns = likely.sum(dim=-2)
        rows = self._both.sum(dim=-1)
        self._all = torch.stack(
            [
                columns.sum(-1),
                (columns * x).sum(-1),
                (rows[..., :h] * y).sum(-1),
                rows[..., h:].sum(-1),
            ],
            dim=-1,
        )

    @property
    def nearest(self) -> Tensor:
        """Free energy without any field: (B, L, N)."""
        return self.top + self.temperature * self._all[..., 0].clamp(min=_FLOOR).log()

    def expect(self, field: Tensor, *, theta: float, limit: float) -> Expected:
        """Means under a field.

        Args:
            field: (B, K, N, 2), source nodes.
            theta: weight of the smoothness term: what `UNIT` nodes cost.
            limit: where it stops growing, in squares of `UNIT` nodes.
        """
        batch, layers, nodes, h, w = self.shape
        count = field.shape[1]
        steepness = -theta / (UNIT**2 * self.temperature)
        near_x = torch.exp(steepness * (self._x - field[..., :1]) ** 2)  # (B, K, N, w)
        near_y = torch.exp(steepness * (self._y - field[..., 1:]) ** 2)
        wide = torch.stack([near_x, near_x * self._x], dim=-1)  # (B, K, N, w, 2)
        if layers == 1:  # one rectangle for all layers
            wide = wide.permute(0, 2, 3, 1, 4).reshape(batch * nodes, w, count * 2)
            rows = self._both.view(batch * nodes, 2 * h, w) @ wide
            rows = rows.view(batch, nodes, 2 * h, count, 2).permute(0, 3, 1, 2, 4)
        else:
            rows = self._both.flatten(0, 2) @ wide.flatten(0, 2)
            rows = rows.view(batch, count, nodes, 2 * h, 2)
        mass = rows[..., :h, 0] * near_y
        sums = torch.stack(
            [
                mass.sum(-1),
                (rows[..., :h, 1] * near_y).sum(-1),
                (mass * self._y).sum(-1),
                (rows[..., h:, 0] * near_y).sum(-1),
            ],
            dim=-1,
        )
        sums = sums + max(math.exp(-theta * limit / self.temperature), _FLOOR) * self._all
        total = sums[..., :1].clamp(min=_FLOOR)
        means = sums[..., 1:] / total
        empty = self._all[..., :1] == 0
        return Expected(
            torch.where(empty, field, means[..., :2]),
            means[..., 2],
            self.top + self.temperature * total[..., 0].log(),
        )
