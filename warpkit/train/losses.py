"""Training losses: CLIP-style symmetric cross-entropy over grid cells, masks, diffusion weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import normalise, pixel_to_grid

__all__ = ["TEMPERATURE", "mask_loss", "min_snr_weight", "symmetric_cross_entropy"]

TEMPERATURE = 0.07
"""Fixed, as in Diffusion Hyperfeatures (its `logit_scale` is no parameter)."""


def symmetric_cross_entropy(
    source: Tensor,
    target: Tensor,
    source_xy: Tensor,
    target_xy: Tensor,
    valid: Tensor,
    *,
    stride: int,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Every labelled point must find its partner's cell among all cells, in both directions.

    Diffusion Hyperfeatures, section 3.2: cosine similarities over a temperature are the logits, the
    cell that holds the partner is the class. Queries are read at the exact point (bilinear).

    Args:
        source: descriptors (B, C, h, w).
        target: descriptors (B, C, h, w).
        source_xy: (B, P, 2),input pixels.
        target_xy: (B, P, 2),input pixels.
        valid: bool (B, P).
        stride:input pixels per cell.

    Returns:
        Scalar: mean over the valid points of both directions; 0 if there is none.
    """
    forward = _cross_entropy(source, target, source_xy, target_xy, stride, temperature)
    backward = _cross_entropy(target, source, target_xy, source_xy, stride, temperature)
    weight = valid.to(forward.dtype)
    return ((forward + backward) / 2 * weight).sum() / weight.sum().clamp(min=1)


def _cross_entropy(
    query: Tensor, key: Tensor, query_xy: Tensor, key_xy: Tensor, stride: int, temperature: float
) -> Tensor:
    """Per-point loss (B, P) of finding `key_xy` from `query_xy`."""
    _, _, h, w = key.shape
    grid = normalise(pixel_to_grid(query_xy, stride), height=query.shape[2], width=query.shape[3])
    rows = F.grid_sample(query, grid[:, None], padding_mode="border", align_corners=False)
    rows = F.normalize(rows[:, :, 0], dim=1)
    logits = torch.einsum("bcp,bcn->bpn", rows, F.normalize(key.flatten(2), dim=1)) / temperature
    cell = torch.floor(pixel_to_grid(key_xy, stride) + 0.5).long()
    label = cell[..., 1].clamp(0, h - 1) * w + cell[..., 0].clamp(0, w - 1)
    loss = F.cross_entropy(logits.flatten(0, 1).float(), label.flatten(), reduction="none")
    return loss.reshape(label.shape)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy plus 1 - soft IoU of masks.

    Soft IoU: Rahman and Wang, Optimizing Intersection-over-Union in Deep Neural Networks for Image
    Segmentation, ISVC 2016. One cell is added to intersection and union: an empty mask has one.

    Args:
        logits: float (B, 1, h, w).
        masks: float (B, 1, H, W) in [0, 1]; averaged over the cells of the logits.

    Returns:
        Scalar: mean over the batch.
    """
    truth = F.interpolate(masks, size=logits.shape[-2:], mode="area")
    found = logits.sigmoid()
    both = (found * truth).sum((1, 2, 3))
    either = (found + truth).sum((1, 2, 3)) - both
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth)
    return cross_entropy + 1 - ((both + 1) / (either + 1)).mean()


def min_snr_weight(alpha_bar: Tensor, gamma: float) -> Tensor:
    """Weight of the epsilon loss: min(SNR, gamma) / SNR (Hang et al., ICCV 2023)."""
    snr = alpha_bar / (1 - alpha_bar)
    return snr.clamp(max=gamma) / snr
