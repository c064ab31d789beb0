"""Points of the first frame found in later frames, with visibility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from warpkit.match.matcher import Matcher
from warpkit.match.points import match_points
from warpkit.types import DescriptorMap

__all__ = ["TrackedPoints", "carry_points"]


@dataclass(frozen=True, eq=False)
class TrackedPoints:
    """Where points are in one frame.

    Attributes:
        xy: float32 (N, 2), pixels of the frame; also given where not visible.
        visible: bool (N,), whether the point was found again.
        similarity: float32 (N,), cosine of the match.
    """

    xy: npt.NDArray[np.float32]
    visible: npt.NDArray[np.bool_]
    similarity: npt.NDArray[np.float32]


def carry_points(
    points: npt.NDArray[np.float32],
    first: DescriptorMap,
    frame: DescriptorMap,
    *,
    cycle_distance: float,
    min_similarity: float,
    matcher: Matcher | None = None,
) -> TrackedPoints:
    """Match points of the first frame into another frame.

    A point counts as visible if its match is similar enough and leads back to within
    `cycle_distance` pixels of the point.

    Args:
        points: float32 (N, 2), pixels of the first frame.
        first: descriptors of the first frame.
        frame: descriptors of the other frame.
    """
    found = match_points(
        first,
        frame,
        torch.from_numpy(points),
        matcher=matcher,
        cycle_distance=cycle_distance,
        min_similarity=min_similarity,
        subpixel=True,
    )
    return TrackedPoints(
        found.target_xy[:, 0].cpu().numpy(),
        found.valid[:, 0].cpu().numpy(),
        found.similarity[:, 0].cpu().numpy(),
    )
