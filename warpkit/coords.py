"""The one place that knows pixels, grid cells, normalised coordinates and invertible resizes.

Convention: `(x, y)` float pixels of the original image, pixel centres at integers, so an image of
width W spans [-0.5, W - 0.5]. Resizing by a factor `s` maps `x` to `(x + 0.5) * s - 0.5`
(half-pixel centres, `align_corners=False`). Interpolation is bilinear and clamped at the border.
No other rule is used anywhere in warpkit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import require
from warpkit.types import DescriptorMap, Sites

__all__ = [
    "Fit",
    "FitMode",
    "bilinear_corners",
    "bilinear_weights",
    "corner_nodes",
    "grid_to_pixel",
    "lattice_sites",
    "normalise",
    "pixel_grid",
    "pixel_to_grid",
    "plan_fit",
    "point_sites",
    "sample_bilinear",
    "sample_descriptors",
    "sample_nearest",
    "scale_points",
]

FitMode = Literal["pad", "stretch"]

_BAND = 2**22  # pixels that are resized together

Places = TypeVar("Places", float, Tensor, npt.NDArray[Any])


def grid_to_pixel(u: Places, cell: Any) -> Places:
    """Image pixel coordinate of grid coordinate `u` for cells of `cell` pixels.

    The half-pixel rule, for tensors, arrays and numbers: centres lie at integers on both sides.
    """
    return (u + 0.5) * cell - 0.5


def pixel_to_grid(x: Places, cell: Any) -> Places:
    """Grid coordinate of image pixel coordinate `x` for cells of `cell` pixels."""
    return (x + 0.5) / cell - 0.5


def scale_points(
    xy: Tensor, *, from_height: int, from_width: int, to_height: int, to_width: int
) -> Tensor:
    """Points (..., 2) of an image in the same image resized to another size."""
    scale = torch.tensor([to_width / from_width, to_height / from_height], dtype=torch.float64)
    return ((xy.double() + 0.5) * scale.to(xy.device) - 0.5).to(xy.dtype)


def normalise(xy: Tensor, *, height: int, width: int) -> Tensor:
    """Pixels (..., 2) to the [-1, 1] coordinates of `grid_sample(align_corners=False)`."""
    size = torch.tensor([width, height], dtype=xy.dtype, device=xy.device)
    return (2 * xy + 1) / size - 1


def pixel_grid(*, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Coordinates of every pixel: float32 (height, width, 2)."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1)


def sample_bilinear(values: Tensor, xy: Tensor) -> Tensor:
    """Bilinear values of a map at points, clamped at the border.

    Args:
        values: float (C, h, w).
        xy: (N, 2) in cells of the map, cell centres at integers.

    Returns:
        (N, C), in the dtype of `values`.
    """
    _, h, w = values.shape
    grid = normalise(xy.to(values.dtype), height=h, width=w)[None, :, None]
    out = F.grid_sample(
        values[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return out[0, :, :, 0].T


def bilinear_corners(descriptors: DescriptorMap, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Where image points lie among the cell centres of a map, clamped at the border.

    The value of the map at a point is the sum of the values at `(v, u)`, `(v, u + 1)`,
    `(v + 1, u)` and `(v + 1, u + 1)`, weighted by `bilinear_weights(fraction)`. On a map of one
    row (or column) the second row (column) has weight 0 and repeats the first.

    Args:
        xy: (N, 2), image pixels.

    Returns:
        corner: int64 (N, 2), the upper left one of the four centres as `(u, v)`.
        fraction: float64 (on MPS float32) (N, 2) in [0, 1], how far the point is on the way to
            the next centre.
    """
    h, w = descriptors.grid_size
    # In float32 the rounding of a coordinate would change a score more than all the rest does;
    # Apple's GPUs have nothing finer.
    dtype = torch.float32 if xy.device.type == "mps" else torch.float64
    cells = ((descriptors.cell_width, w), (descriptors.cell_height, h))
    places = [
        pixel_to_grid(x, cell).clamp(0, count - 1)
        for x, (cell, count) in zip(xy.to(dtype).unbind(1), cells, strict=True)
    ]
    corners = [
        place.floor().clamp(max=max(0, count - 2))
        for place, (_, count) in zip(places, cells, strict=True)
    ]
    corner = torch.stack(corners, dim=1)
    return corner.nan_to_num(0).long(), torch.stack(places, dim=1) - corner


def corner_nodes(corner: Tensor, *, h: int, w: int) -> Tensor:
    """Row-major cells (..., 4) of a map (h, w) that `bilinear_weights` belong to.

    Args:
        corner: int64 (..., 2) as `bilinear_corners` gives it.
    """
    u, v = corner.unbind(-1)
    right, below = (u + 1).clamp(max=w - 1), (v + 1).clamp(max=h - 1)
    return torch.stack([v * w + u, v * w + right, below * w + u, below * w + right], dim=-1)


def bilinear_weights(fraction: Tensor) -> Tensor:
    """Weights (..., 4) of the four surrounding centres, row by row, for fractions (..., 2)."""
    a, b = fraction.unbind(-1)
    return torch.stack([(1 - b) * (1 - a), (1 - b) * a, b * (1 - a), b * a], dim=-1)


def sample_nearest(values: Tensor, xy: Tensor) -> Tensor:
    """Values of a map (..., h, w) at the cells nearest to points (N, 2): (..., N).

    Halves round up (towards the larger coordinate); points outside take the border cell.
    """
    h, w = values.shape[-2:]
    column = torch.floor(xy[:, 0] + 0.5).long().clamp(0, w - 1)
    row = torch.floor(xy[:, 1] + 0.5).long().clamp(0, h - 1)
    return values[..., row, column]


def sample_descriptors(descriptors: DescriptorMap, xy: Tensor) -> Tensor:
    """Unit descriptors at image points.

    The map is interpolated first, the result normalised: the cosine of two rows is the similarity
    of two points. A zero descriptor stays zero.

    Args:
        xy: (N, 2), image pixels.

    Returns:
        float32 (N, C); rows have norm 1 (or 0).
    """
    h, w = descriptors.grid_size
    corner, fraction = bilinear_corners(descriptors, xy.to(descriptors.data.device))
    rows = F.embedding_bag(
        corner_nodes(corner, h=h, w=w),
        descriptors.data.float().flatten(1).T.contiguous(),
        per_sample_weights=bilinear_weights(fraction).float(),
        mode="sum",
    )
    return F.normalize(rows, dim=1, eps=1e-12)


def point_sites(xy: Tensor) -> Sites:
    """Sites at given image points (N, 2)."""
    return Sites(xy.float())


def lattice_sites(
    *,
    height: int,
    width: int,
    rows: int | None = None,
    columns: int | None = None,
    mask: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Sites:
    """A regular lattice of sites that tiles an image; by default every pixel.

    With `rows` x `columns` sites the image is cut into as many equal blocks and a site lies at
    the centre of each, the same half-pixel rule as everywhere.

    Args:
        mask: bool (height, width); only sites whose nearest pixel is set are kept. If the lattice
            is too coarse to hit the mask at all, the mask's own pixels become the sites.

    Raises:
        InputError: if the mask is empty.
    """
    rows, columns = rows or height, columns or width
    there = "cpu" if torch.device(device).type == "mps" else device  # which has no float64
    v, u = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64, device=there),
        torch.arange(columns, dtype=torch.float64, device=there),
        indexing="ij",
    )
    xy = (
        torch.stack([grid_to_pixel(u, width / columns), grid_to_pixel(v, height / rows)], dim=-1)
        .reshape(-1, 2)
        .float()
    )
    index = torch.arange(rows * columns, device=there)
    if mask is not None:
        require(bool(mask.any()), "the mask is empty: no candidate is left")
        keep = sample_nearest(mask.to(there), xy)
        if not bool(keep.any()):
            return lattice_sites(height=height, width=width, mask=mask, device=device)
        xy, index = xy[keep], index[keep]
    return Sites(xy.to(device), (rows, columns), index.to(device))


@dataclass(frozen=True)
class Fit:
    """An invertible resize of an image to a model's input.

    The image is resized to `content_height` x `content_width` and placed at the top left of an
    input of `input_height` x `input_width`; the rest is padding, which is never matched.
    """

    height: int
    width: int
    content_height: int
    content_width: int
    input_height: int
    input_width: int

    def apply(self, images: Tensor) -> Tensor:
        """Images (B, 3, height, width) to inputs (B, 3, input_height, input_width).

        Resized with antialiasing; padding repeats the border pixels. Images of uint8 become float
        in [0, 1], a band at a time where they are large.
        """
        require(
            tuple(images.shape[-2:]) == (self.height, self.width),
            f"this fit is for images of {self.height} x {self.width}, got"
            f" {tuple(images.shape[-2:])}",
        )
        size = (self.content_height, self.content_width)
        rows = max(1, _BAND // (len(images) * self.width))
        if size != (self.height, self.width) and rows < self.height:
            # As `interpolate` does it, columns first.
            bands = images.split(rows, dim=-2)
            images = torch.cat([_resized(band, band.shape[-2], size[1]) for band in bands], dim=-2)
        images = _resized(images, *size)
        pad = (0, self.input_width - self.content_width, 0, self.input_height - size[0])
        return F.pad(images, pad, mode="replicate") if any(pad) else images

    def to_input(self, xy: Tensor) -> Tensor:
        """Image pixels (..., 2) toinput pixels."""
        return scale_points(
            xy,
            from_height=self.height,
            from_width=self.width,
            to_height=self.content_height,
            to_width=self.content_width,
        )

    def to_image(self, xy: Tensor) -> Tensor:
        """Input pixels (..., 2) to image pixels: the inverse of `to_input`."""
        return scale_points(
            xy,
            from_height=self.content_height,
            from_width=self.content_width,
            to_height=self.height,
            to_width=self.width,
        )

    def descriptor_map(self, input_map: Tensor) -> DescriptorMap:
        """The part of a map (C, h, w) over the input whose cell centres lie on the image."""
        _, h, w = input_map.shape
        stride_y, stride_x = self.input_height / h, self.input_width / w
        rows = max(1, math.ceil(self.content_height / stride_y - 0.5))
        columns = max(1, math.ceil(self.content_width / stride_x - 0.5))
        return DescriptorMap(
            input_map[:, :rows, :columns].contiguous(),
            height=self.height,
            width=self.width,
            cell_height=stride_y * self.height / self.content_height,
            cell_width=stride_x * self.width / self.content_width,
        )


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.dtype == torch.uint8:
        images = images.float().div_(255)
    if (height, width) == tuple(images.shape[-2:]):
        return images
    return F.interpolate(
        images, size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )


def plan_fit(
    *,
    height: int,
    width: int,
    size: int,
    multiple: int,
    mode: FitMode = "pad",
    side: Literal["short", "long"] = "short",
    max_aspect: float = 4.0,
) -> Fit:
    """Plan how an image is brought to a model's input size.

    Args:
        size: length of the chosen side after the resize, in pixels.
        multiple: input sides are multiples of this.
        mode: `pad` keeps the aspect ratio; `stretch` resizes to a `size` x `size` square, which
            reproduces the paper.
        side: which side of the image becomes `size` long (`pad` only).
        max_aspect: with `side="short"` the long side is limited to `size * max_aspect`, so that a
            panorama does not exhaust the memory.
    """
    require(height > 0 and width > 0, f"an image needs a positive size, got {height} x {width}")
    require(size > 0 and multiple > 0, f"size and multiple must be positive: {size}, {multiple}")
    if mode == "stretch":
        content = (size, size)
    else:
        if side == "short":
            scale = min(size / min(height, width), size * max_aspect / max(height, width))
        else:
            scale = size / max(height, width)
        content = (max(1, round(height * scale)), max(1, round(width * scale)))
    padded = tuple(math.ceil(length / multiple) * multiple for length in content)
    return Fit(height, width, content[0], content[1], padded[0], padded[1])
