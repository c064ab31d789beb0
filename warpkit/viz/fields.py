"""Warps, similarities and descriptors as colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.arrays import Image
from warpkit.checks import check_image, check_mask, require
from warpkit.coords import pixel_grid, pixel_to_grid, sample_bilinear
from warpkit.types import DescriptorMap, Warp
from warpkit.viz.palette import lab_to_rgb, position_colors, scale_colors

__all__ = ["field_colors", "heat", "pca_colors", "pca_shares", "source_colors"]


# Where there is nothing to show and no picture to show instead.
NEUTRAL = 230


def field_colors(warp: Warp, target: Image | None = None) -> Image:
    """Paint every target pixel with the colour of the place it comes from in the source.

    `source_colors` paints the source with the same code: left blue, middle rose, right yellow,
    top light, bottom dark, in a chequer.

    Args:
        warp: backward warp (H, W).
        target: uint8 RGB (H, W, 3) to fade in where the warp is not valid; None leaves grey.

    Returns:
        uint8 RGB (H, W, 3).
    """
    valid = warp.valid.cpu().numpy()
    xy = np.where(valid[..., None], warp.source_xy.float().cpu().numpy(), 0)
    colors = position_colors(xy, height=warp.source_height, width=warp.source_width)
    return np.where(valid[..., None], colors, _faded(target, valid.shape))


def source_colors(
    source: Image, mask: npt.NDArray[np.bool_] | None = None, *, alpha: float = 0.75
) -> Image:
    """The source image (H, W, 3) under the colour code of `field_colors`.

    Args:
        source: uint8 RGB (H, W, 3).
        mask: bool (H, W), where to paint; None paints everything.
        alpha: strength of the code over the image, 0 to 1.
    """
    source = check_image(source, "source")
    height, width = source.shape[:2]
    code = position_colors(
        pixel_grid(height=height, width=width).numpy(), height=height, width=width
    )
    painted = np.rint((1 - alpha) * source + alpha * code).astype(np.uint8)
    if mask is None:
        return painted
    mask = check_mask(mask, height=height, width=width)
    return np.where(mask[..., None], painted, _faded(source, mask.shape))


def heat(
    values: Tensor | npt.NDArray[np.floating[Any]],
    valid: Tensor | npt.NDArray[np.bool_] | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Image:
    """Scalars such as similarities as colours: dark blue is low, light yellow is high.

    Args:
        values: float (H, W).
        valid: bool (H, W); the rest is grey. None shows all.
        low: value of the darkest colour; None takes the smallest valid value.
        high: value of the lightest colour; None takes the largest valid value.

    Returns:
        uint8 RGB (H, W, 3).
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    require(array.ndim == 2, f"values must be (height, width), got {array.shape}")
    if isinstance(valid, Tensor):
        valid = valid.cpu().numpy()
    height, width = array.shape
    shown = np.isfinite(array)
    if valid is not None:
        shown &= check_mask(valid, height=height, width=width, name="valid", allow_empty=True)
    out = np.full((height, width, 3), NEUTRAL, np.uint8)
    if shown.any():
        some = array[shown].astype(np.float64)
        bottom = float(some.min()) if low is None else low
        top = float(some.max()) if high is None else high
        out[shown] = scale_colors((some - bottom) / max(top - bottom, 1e-12))
    return out


def pca_colors(maps: DescriptorMap | Sequence[DescriptorMap]) -> list[Image]:
    """Show descriptors by their three main directions of variation: like colours, like meanings.

    One basis is fitted to the unit descriptors of all maps together, so colours compare across
    images. The first direction is lightness, the second blue against yellow, the third green
    against red. Signs are fixed (the largest entry of a direction is positive).

    Args:
        maps: one map or several with the same number of channels.

    Returns:
        uint8 RGB (H, W, 3) of every map at its image's size.
    """
    listed = [maps] if isinstance(maps, DescriptorMap) else list(maps)
    require(bool(listed), "give at least one descriptor map")
    channels = {one.channels for one in listed}
    require(
        len(channels) == 1,
        f"descriptor maps of {sorted(channels)} channels cannot share a basis: use one model",
    )
    cells = [_unit(one).flatten(1).T for one in listed]
    rows = torch.cat(cells)
    mean = rows.mean(dim=0)
    basis = _main_directions(rows - mean)
    scores = [(part - mean) @ basis for part in cells]
    together = torch.cat(scores).numpy()
    # The outermost percent does not decide the contrast.
    low, high = np.percentile(together, [1, 99], axis=0)
    lab_low, lab_high = np.array([18.0, -38.0, -52.0]), np.array([94.0, 46.0, 62.0])
    images = []
    for one, score in zip(listed, scores, strict=True):
        full = _at_pixels(score.T.reshape(3, *one.grid_size), one).numpy()
        # A direction without any variation shows as the middle of its range.
        extent = high - low
        flat = extent < 1e-9
        share = np.where(flat, 0.5, np.clip((full - low) / np.where(flat, 1, extent), 0, 1))
        L, yellow, red = np.moveaxis(share, -1, 0)
        lab = lab_low + np.stack([L, red, yellow], axis=-1) * (lab_high - lab_low)
        images.append(lab_to_rgb(lab))
    return images


def pca_shares(one: DescriptorMap) -> list[float]:
    """Shares of the variance of unit descriptors along the three directions of `pca_colors`."""
    cells = _unit(one).flatten(1).T
    centred = cells - cells.mean(dim=0)
    # The smaller of the two Gram matrices has the same eigenvalues.
    gram = centred.T @ centred if cells.shape[0] > cells.shape[1] else centred @ centred.T
    values = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)
    shares: list[float] = (values[:3] / values.sum().clamp(min=1e-12)).tolist()
    return shares + [0.0] * (3 - len(shares))


def _unit(one: DescriptorMap) -> Tensor:
    return F.normalize(one.data.detach().double().cpu(), dim=0, eps=1e-12)


def _main_directions(centred: Tensor) -> Tensor:
    """The three directions (C, 3) of most variance, zeros where there are fewer channels."""
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    chosen = vectors.flip(1)[:, :3]
    largest = chosen.abs().argmax(dim=0)
    chosen = chosen * torch.sign(chosen[largest, torch.arange(chosen.shape[1])])
    return F.pad(chosen, (0, 3 - chosen.shape[1]))


def _at_pixels(values: Tensor, one: DescriptorMap) -> Tensor:
    """Values (3, h, w) of the map's cells at every pixel of its image: (H, W, 3)."""
    cell = torch.tensor([one.cell_width, one.cell_height], dtype=values.dtype)
    grid = pixel_grid(height=one.height, width=one.width).to(values.dtype)
    at = sample_bilinear(values, pixel_to_grid(grid, cell).reshape(-1, 2))
    return at.reshape(one.height, one.width, 3)


def _faded(image: Image | None, size: tuple[int, ...]) -> Image:
    """A pale grey version of the image, or plain grey."""
    if image is None:
        return np.full((*size, 3), NEUTRAL, np.uint8)
    check_image(image, "the background")
    require(
        image.shape[:2] == tuple(size),
        f"the background is {image.shape[0]} x {image.shape[1]} (height x width), expected"
        f" {size[0]} x {size[1]}",
    )
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((190 + grey * 0.2).astype(np.uint8)[..., None], 3, axis=2)
