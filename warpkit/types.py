"""The few frozen, validated containers that everything passes.

Convention (all of them): coordinates are `(x, y)` float pixels of the ORIGINAL image, pixel
centres at integers; sizes are `height, width`; invalid is a boolean mask, never a magic number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Describer", "DescriptorMap", "Matches", "Sites", "Warp"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, eq=False)
class DescriptorMap:
    """One descriptor per grid cell of an image.

    Convention: the centre of cell `(u, v)` lies at image pixel
    `((u + 0.5) * cell_width - 0.5, (v + 0.5) * cell_height - 0.5)`. Between centres the map is
    bilinear, outside the outermost centres it is constant. Descriptors need not be normalised:
    similarity is always the cosine of the interpolated descriptors.

    Attributes:
        data: float tensor (C, h, w).
        height: image height in pixels.
        width: image width in pixels.
        cell_height: image pixels covered by one cell, vertically.
        cell_width: image pixels covered by one cell, horizontally.
    """

    data: Tensor
    height: int
    width: int
    cell_height: float
    cell_width: float

    def __post_init__(self) -> None:
        _require(
            self.data.ndim == 3 and self.data.is_floating_point() and self.data.numel() > 0,
            "DescriptorMap.data must be a non-empty float tensor (C, h, w), got"
            f" {self.data.dtype} {tuple(self.data.shape)}",
        )
        _require(
            self.height > 0 and self.width > 0 and self.cell_height > 0 and self.cell_width > 0,
            "DescriptorMap sizes must be positive",
        )

    @classmethod
    def covering(cls, data: Tensor, *, height: int, width: int) -> DescriptorMap:
        """A map whose (h, w) cells tile an image of `height` x `width` pixels exactly."""
        return cls(data, height, width, height / data.shape[1], width / data.shape[2])

    @property
    def channels(self) -> int:
        return int(self.data.shape[0])

    @property
    def grid_size(self) -> tuple[int, int]:
        """Cells `(h, w)`."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    def to(self, device: torch.device | str) -> DescriptorMap:
        return replace(self, data=self.data.to(device))

    def float(self) -> DescriptorMap:
        return replace(self, data=self.data.float())


@dataclass(frozen=True, eq=False)
class Sites:
    """Places in one image where descriptors are read: queries or candidates of a search.

    A mask restricts candidates by leaving sites out, never by zeroing their descriptors.

    Attributes:
        xy: float32 tensor (N, 2), image pixels.
        lattice: `(rows, columns)` if the sites are a subset of a regular lattice that tiles the
            image (every pixel, or one site per block of pixels), else None.
        index: int64 tensor (N,), the row-major lattice index of every site; increasing.
            None exactly where `lattice` is None.
    """

    xy: Tensor
    lattice: tuple[int, int] | None = None
    index: Tensor | None = None

    def __post_init__(self) -> None:
        _require(
            self.xy.ndim == 2 and self.xy.shape[1] == 2 and len(self.xy) > 0,
            f"Sites.xy must be a non-empty tensor (N, 2), got {tuple(self.xy.shape)}",
        )
        _require(
            (self.lattice is None) == (self.index is None),
            "Sites.lattice and Sites.index are given together",
        )
        if self.index is not None:
            _require(
                self.index.shape == (len(self.xy),),
                f"Sites.index must be ({len(self.xy)},), got {tuple(self.index.shape)}",
            )

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True, eq=False)
class Matches:
    """For every source point its k best target points, best first.

    Attributes:
        source_xy: float32 (N, 2), pixels of the source image.
        target_xy: float32 (N, k, 2), pixels of the target image.
        similarity: float32 (N, k), cosine in [-1, 1].
        valid: bool (N, k), False where a filter or a missing candidate rejects the match.
    """

    source_xy: Tensor
    target_xy: Tensor
    similarity: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        n = len(self.source_xy)
        k = self.target_xy.shape[1] if self.target_xy.ndim == 3 else -1
        _require(
            self.source_xy.shape == (n, 2)
            and self.target_xy.shape == (n, k, 2)
            and self.similarity.shape == (n, k)
            and self.valid.shape == (n, k)
            and self.valid.dtype == torch.bool,
            "Matches must hold source_xy (N, 2), target_xy (N, k, 2), similarity (N, k) and bool"
            f" valid (N, k), got {tuple(self.source_xy.shape)}, {tuple(self.target_xy.shape)},"
            f" {tuple(self.similarity.shape)}, {self.valid.dtype} {tuple(self.valid.shape)}",
        )

    def __len__(self) -> int:
        return len(self.source_xy)


@dataclass(frozen=True, eq=False)
class Warp:
    """A backward warp: for every TARGET pixel the SOURCE coordinate it takes its value from.

    Attributes:
        source_xy: float32 (H, W, 2), pixels of the source image; only meaningful where `valid`.
        similarity: float32 (H, W), cosine in [-1, 1]; 0 where not `valid`.
        valid: bool (H, W); False outside the target mask and where a filter rejects the match.
        source_height: height of the source image in pixels.
        source_width: width of the source image in pixels.
    """

    source_xy: Tensor
    similarity: Tensor
    valid: Tensor
    source_height: int
    source_width: int

    def __post_init__(self) -> None:
        size = tuple(self.similarity.shape)
        _require(
            len(size) == 2
            and tuple(self.source_xy.shape) == (*size, 2)
            and tuple(self.valid.shape) == size
            and self.valid.dtype == torch.bool,
            "Warp must hold source_xy (H, W, 2), similarity (H, W) and bool valid (H, W), got"
            f" {tuple(self.source_xy.shape)}, {size}, {self.valid.dtype}"
            f" {tuple(self.valid.shape)}",
        )
        _require(
            self.source_height > 0 and self.source_width > 0, "Warp source size must be positive"
        )

    @property
    def height(self) -> int:
        """Height of the target image in pixels."""
        return int(self.similarity.shape[0])

    @property
    def width(self) -> int:
        """Width of the target image in pixels."""
        return int(self.similarity.shape[1])


class Describer(Protocol):
    """Whatever turns images into descriptor maps: the extractor, or anything a user brings."""

    @property
    def name(self) -> str:
        """Short name for reports."""
        ...

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """One descriptor map for every uint8 RGB image (H, W, 3), in order."""
        ...
