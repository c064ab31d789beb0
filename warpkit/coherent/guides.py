"""Guides: pairs of points set by hand that a field is to meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.checks import InputError, check_points, require, usable_array

__all__ = ["Guides"]

MOST = 200  # guides of a pair: every one is a row of a dense system


@dataclass(frozen=True, eq=False)
class Guides:
    """Points of the source and the points of the target that show the same.

    Convention: (x, y) pixels of the original images.

    Attributes:
        source_xy: float32 (G, 2).
        target_xy: float32 (G, 2).
    """

    source_xy: Tensor
    target_xy: Tensor

    def __post_init__(self) -> None:
        require(
            self.source_xy.ndim == 2 and self.source_xy.shape[1] == 2 and len(self.source_xy) > 0,
            f"guides are pairs of points (G, 2), got {tuple(self.source_xy.shape)}",
        )
        require(
            self.source_xy.shape == self.target_xy.shape,
            f"every guide has a point in both images, got {len(self.source_xy)} and"
            f" {len(self.target_xy)}",
        )
        require(
            len(self.source_xy) <= MOST,
            f"at most {MOST} guides can be met, got {len(self.source_xy)}: keep the important ones",
        )

    @classmethod
    def of(
        cls,
        pairs: npt.ArrayLike | Guides,
        *,
        source: tuple[int, int],
        target: tuple[int, int],
    ) -> Guides:
        """Checked guides from pairs ((x, y), (x, y)), source first.

        Args:
            pairs: (G, 2, 2).
            source: height and width of the source image.
            target: height and width of the target image.

        Raises:
            InputError: pairs of another shape, or points outside the images.
        """
        given: Any = pairs
        if isinstance(pairs, Guides):
            given = torch.stack([pairs.source_xy, pairs.target_xy], dim=1).cpu().numpy()
        expected = "guides are pairs of points (G, 2, 2), source first: [[[xs, ys], [xt, yt]], ...]"
        try:
            array = np.asarray(usable_array(given), np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"{expected}, got {pairs!r}") from error
        require(
            array.ndim == 3 and array.shape[1:] == (2, 2) and len(array) > 0,
            f"{expected}, got shape {array.shape}",
        )
        ends = [
            torch.from_numpy(check_points(array[:, i], height=size[0], width=size[1], name=name))
            for i, size, name in ((0, source, "source guides"), (1, target, "target guides"))
        ]
        return cls(*ends)

    def __len__(self) -> int:
        return len(self.source_xy)
