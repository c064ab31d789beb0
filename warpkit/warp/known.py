"""Random known warps: exact labels from single images (affine, homography, thin-plate spline).

Convention: a known warp is a backward field, `warped(q) = image(source_xy(q))`, in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import normalise, pixel_grid

__all__ = ["KnownWarpConfig", "photometric_jitter", "random_fields", "warp_with_fields"]


@dataclass(frozen=True)
class KnownWarpConfig:
    """How strong random warps are.

    Attributes:
        rotation: largest rotation in degrees.
        scale: range of the zoom.
        translation: largest shift, share of the side.
        perspective: largest shift of a corner, share of the side.
        bend: standard deviation of the thin-plate control points, share of the side.
        control: control points a side.
        flip: probability of a left-right flip.
    """

    rotation: float = 30.0
    scale: tuple[float, float] = (0.75, 1.33)
    translation: float = 0.1
    perspective: float = 0.08
    bend: float = 0.04
    control: int = 4
    flip: float = 0.0


def random_fields(
    count: int,
    *,
    height: int,
    width: int,
    config: KnownWarpConfig,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw backward fields: for every pixel of the warped image the source pixel it shows.

    Convention: the thin-plate spline works in a frame of its own, where the centres of the first
    and the last pixel of each axis are at -1 and 1: `2 * x / (width - 1) - 1`, and y likewise.
    Its control points span that square. (`warpkit.coords.normalise` puts the outer edges there.)

    Args:
        generator: on `device`.

    Returns:
        float32 (count, height, width, 2), pixels; may point outside the source.
    """
    from kornia.geometry.transform import (
        get_affine_matrix2d,
        get_perspective_transform,
        get_tps_transform,
        warp_points_tps,
    )

    def draw(*shape: int) -> Tensor:
        """Uniform in [-1, 1]."""
        return torch.rand(count, *shape, generator=generator, device=device) * 2 - 1

    side = torch.tensor([width, height], dtype=torch.float32, device=device)
    centre = ((side - 1) / 2).expand(count, 2)
    low, high = config.scale
    scale = torch.exp(
        torch.lerp(
            torch.full((count,), low, device=device).log(),
            torch.full((count,), high, device=device).log(),
            (draw() + 1) / 2,
        )
    )
    affine = get_affine_matrix2d(
        translations=draw(2) * config.translation * side,
        center=centre,
        scale=torch.stack([scale, scale], dim=1),
        angle=draw() * config.rotation,
    )
    corners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.float32, device=device)
    corners = (corners * (side - 1)).expand(count, 4, 2)
    homography = get_perspective_transform(
        corners, corners + draw(4, 2) * config.perspective * side
    )
    matrix = affine @ homography

    # The spline bends normalised coordinates, so that its conditioning does not depend on sizes.
    ticks = torch.linspace(-1, 1, config.control, device=device)
    knots = torch.cartesian_prod(ticks, ticks).expand(count, -1, 2)
    jitter = torch.randn(knots.shape, generator=generator, device=device) * 2 * config.bend
    bent_knots = knots + jitter
    kernel, linear = get_tps_transform(knots, bent_knots)
    points = pixel_grid(height=height, width=width, device=device).reshape(1, -1, 2)
    points = points.expand(count, -1, 2)
    unit = points / (side - 1) * 2 - 1
    # kornia's kernels sit at the points that are mapped TO.
    bent = (warp_points_tps(unit, bent_knots, kernel, linear) + 1) / 2 * (side - 1)

    homogeneous = F.pad(bent, (0, 1), value=1.0) @ matrix.transpose(1, 2)
    field = homogeneous[..., :2] / homogeneous[..., 2:].clamp(min=1e-3)
    flipped = (torch.rand(count, generator=generator, device=device) < config.flip)[:, None]
    x = torch.where(flipped, width - 1 - field[..., 0], field[..., 0])
    return torch.stack([x, field[..., 1]], dim=-1).reshape(count, height, width, 2)


def warp_with_fields(images: Tensor, fields: Tensor) -> tuple[Tensor, Tensor]:
    """Apply backward fields bilinearly.

    Args:
        images: float (B, C, H, W).
        fields: (B, h, w, 2), pixels of the images.

    Returns:
        Warped images (B, C, h, w), mirrored where a field leaves the image, and the bool mask
        (B, h, w) of pixels whose source lies inside the image.
    """
    height, width = images.shape[-2:]
    grid = normalise(fields, height=height, width=width)
    warped = F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    x, y = fields.unbind(-1)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return warped, inside


def photometric_jitter(images: Tensor, *, strength: float, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast, saturation, hue, gamma and blur, one draw per image.

    Args:
        images: float (B, 3, H, W) in [0, 1].
        strength: 0 changes nothing, 1 is strong.
        generator: on the images' device.
    """
    from kornia.enhance import (
        adjust_brightness,
        adjust_contrast_with_mean_subtraction,
        adjust_gamma,
        adjust_hue,
        adjust_saturation,
    )
    from kornia.filters import gaussian_blur2d

    def draw(low: float, high: float) -> Tensor:
        unit = torch.rand(len(images), generator=generator, device=images.device)
        return low + (high - low) * unit

    images = adjust_brightness(images, draw(-0.25, 0.25) * strength)
    images = adjust_contrast_with_mean_subtraction(images, 1 + draw(-0.4, 0.4) * strength)
    images = adjust_saturation(images, 1 + draw(-0.6, 0.6) * strength)
    images = adjust_hue(images, draw(-0.3, 0.3) * strength)
    images = adjust_gamma(images.clamp(0, 1), torch.exp(draw(-0.4, 0.4) * strength))
    sigma = 0.1 + draw(0, 1.2).square() * strength
    blurred = gaussian_blur2d(images, (7, 7), torch.stack([sigma, sigma], dim=1))
    return blurred.clamp(0, 1)
