"""The levels of the search, from coarse to fine, with their settings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COARSE", "FINE_OPEN", "FINE_OUTLINED", "UNIT", "WINDOWS", "Level"]

UNIT = 5.0  # nodes of displacement that cost theta


@dataclass(frozen=True)
class Level:
    """One level of the search.

    Attributes:
        nodes: on the longer side of each region.
        rounds: of assignment and smoothing.
        radius: of the windows around the field, in nodes; 0 compares all with all.
        theta: weight of the smoothness term, first and last round.
        sigma: of the smoothing in nodes, first and last round.
        limit: where the smoothness term stops growing, in squares of `UNIT` nodes.
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
WINDOWS = Level(
    nodes=64,
    rounds=3,
    radius=4,
    theta=(0.1, 1.0),
    sigma=(2.0, 1.0),
    limit=2.0,
    temperature=0.02,
    hubs=0.5,
)
# The last level. Inside outlines nodes are closer than the descriptors' cells, so that more of them
# are averaged, and a peak says more than the mean of a window that the outline cuts off.
FINE_OPEN = (
    WINDOWS,
    Level(
        nodes=96,
        rounds=4,
        radius=3,
        theta=(0.5, 1.0),
        sigma=(1.3, 1.0),
        limit=2.0,
        temperature=0.02,
        hubs=0.5,
        layered=False,
    ),
)
FINE_OUTLINED = (
    WINDOWS,
    Level(
        nodes=96,
        rounds=4,
        radius=2,
        theta=(0.5, 0.5),
        sigma=(2.5, 2.5),
        limit=2.0,
        temperature=0.003,
        hubs=0.5,
        layered=False,
    ),
)
