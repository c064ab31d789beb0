"""One annotated image pair, and the check that a reader found any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.checks import require

__all__ = ["AnnotatedPair", "Box", "Points", "check_box", "found_pairs", "points_box"]

Box = tuple[float, float, float, float]
Points = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AnnotatedPair:
    """Two images and the points that correspond between them.

    Convention: `(x, y)` pixels of each image as its data set distributes them; row i of the source
    points corresponds to row i of the target points. Boxes are `(x1, y1, x2, y2)`.

    Attributes:
        source_path: image file.
        target_path: image file.
        source_points: float32 (N, 2), N >= 1.
        target_points: float32 (N, 2).
        source_box: the object's box in the source image.
        target_box: the object's box in the target image.
        category: what the pair is counted under in per-category tables.
    """

    source_path: Path
    target_path: Path
    source_points: Points
    target_points: Points
    source_box: Box
    target_box: Box
    category: str

    def __post_init__(self) -> None:
        for name, points in (("source", self.source_points), ("target", self.target_points)):
            require(
                points.dtype == np.float32
                and points.ndim == 2
                and points.shape[1] == 2
                and len(points) > 0,
                f"{name}_points must be float32 (N, 2) with N >= 1, got {points.dtype}"
                f" {points.shape}",
            )
            require(bool(np.isfinite(points).all()), f"{name}_points must be finite numbers")
        require(
            len(self.source_points) == len(self.target_points),
            f"source_points and target_points must correspond one to one, got"
            f" {len(self.source_points)} and {len(self.target_points)}",
        )
        check_box(self.source_box, "source_box")
        check_box(self.target_box, "target_box")

    def __len__(self) -> int:
        """Number of corresponding points."""
        return len(self.source_points)


def check_box(box: Box, name: str) -> None:
    """Raise `InputError` unless a box is finite, in order, and has a side that can scale PCK."""
    x1, y1, x2, y2 = box
    require(
        bool(np.isfinite(box).all()) and x2 >= x1 and y2 >= y1 and max(x2 - x1, y2 - y1) > 0,
        f"{name} must be (x1, y1, x2, y2) with a positive side, got ({x1:g}, {y1:g}, {x2:g},"
        f" {y2:g})",
    )


def points_box(points: Points) -> Box:
    """The smallest box around points (N, 2)."""
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x1, y1, x2, y2


def found_pairs(
    pairs: list[AnnotatedPair], problems: list[str], where: Path | str
) -> tuple[list[AnnotatedPair], list[str]]:
    """Both lists as they are.

    Raises:
        InputError: if there is no pair, with the first of the problems.
    """
    require(
        bool(pairs),
        f"no usable pair in {where}: {problems[0] if problems else 'it holds none'}"
        + (f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""),
    )
    return pairs, problems
