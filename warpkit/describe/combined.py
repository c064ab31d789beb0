"""Several models as one: their descriptors, weighted and stacked.

With unit descriptors d_k of the parts and shares w_k that add up to one, the stacked descriptor is
`(sqrt(w_1) d_1, ..., sqrt(w_n) d_n)`, and the cosine of two of them at cell centres is the mean of
the parts' cosines weighted by the shares. Diffusion features and those of a network trained to
recognise things err in different places (Zhang et al., "A Tale of Two Features", NeurIPS 2023).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from warpkit.checks import counted, require
from warpkit.coords import grid_to_pixel, sample_descriptors
from warpkit.describe.extractor import Extractor, ModelDescriber
from warpkit.types import DescriptorMap

__all__ = ["CombinedExtractor"]


class CombinedExtractor(ModelDescriber):
    """Extractors side by side; an extractor itself.

    Every part sees the image at a size of its own. The grid is that of the first part; the maps
    of the others are read, bilinearly, at the centres of its cells.

    Attributes:
        parts: the extractors.
        shares: their shares of the similarity, adding up to 1.
    """

    def __init__(
        self,
        parts: Sequence[Extractor],
        shares: Sequence[float],
        *,
        name: str | None = None,
    ) -> None:
        require(
            len(parts) == len(shares) > 1,
            f"a combined model needs two parts or more and a share for each, got"
            f" {counted(len(parts), 'part')} and {counted(len(shares), 'share')}",
        )
        require(
            all(math.isfinite(share) and share > 0 for share in shares),
            f"shares must be positive, got {list(shares)}",
        )
        self._parts = tuple(parts)
        self.shares = tuple(share / sum(shares) for share in shares)
        self.name = name or "+".join(part.name for part in parts)
        self.size, self.fit = parts[0].size, parts[0].fit
        self.batch_size = parts[0].batch_size

    @property
    def device(self) -> torch.device:
        return self._parts[0].device

    @property
    def parts(self) -> tuple[Extractor, ...]:
        return self._parts

    def digest(self) -> str:
        marks = [
            f"{share!r} {part.digest()}"
            for share, part in zip(self.shares, self.parts, strict=True)
        ]
        return hashlib.sha256("\n".join(marks).encode()).hexdigest()

    def describe_checked(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """As `ModelDescriber.describe`: as many channels as all parts together, unit descriptors
        at cell centres.
        """
        described = [part.describe_checked(images) for part in self.parts]
        return [self.stack(maps) for maps in zip(*described, strict=True)]

    def stack(self, maps: Sequence[DescriptorMap]) -> DescriptorMap:
        first = maps[0]
        rows = [
            math.sqrt(share) * _unit_cells(each, first)
            for share, each in zip(self.shares, maps, strict=True)
        ]
        return DescriptorMap(
            torch.cat(rows), first.height, first.width, first.cell_height, first.cell_width
        )


def _unit_cells(descriptors: DescriptorMap, grid: DescriptorMap) -> torch.Tensor:
    """Unit descriptors (C, h, w) at the cell centres of another map of the same image."""
    same = (
        descriptors.grid_size == grid.grid_size
        and descriptors.cell_height == grid.cell_height
        and descriptors.cell_width == grid.cell_width
    )
    if same:
        return F.normalize(descriptors.data.float(), dim=0, eps=1e-12)
    h, w = grid.grid_size
    y = grid_to_pixel(torch.arange(h, dtype=torch.float64), grid.cell_height)
    x = grid_to_pixel(torch.arange(w, dtype=torch.float64), grid.cell_width)
    centres = torch.stack([x.expand(h, w), y[:, None].expand(h, w)], dim=-1).reshape(-1, 2)
    return sample_descriptors(descriptors, centres.float()).T.reshape(-1, h, w).to(grid.data.device)
