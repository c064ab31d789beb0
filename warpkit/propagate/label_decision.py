"""From soft labels of cells to the labels of pixels.

In: soft labels on the grid, and perhaps what is known of the borders between its cells. Out: an id
and a confidence for every pixel of the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.arrays import Image
from warpkit.propagate.coverage import finer_grid, soft_at_pixels
from warpkit.propagate.label_config import LabelConfig
from warpkit.propagate.objectness import BoxLook, object_evidence
from warpkit.propagate.sharpen import sharpen_soft
from warpkit.types import DescriptorMap

__all__ = ["CERTAIN", "LabelFrame", "decide_labels", "finer_evidence"]

CERTAIN = 0.02
"""Soft labels are believed up to so much from 0 and 1, so that other evidence can speak against."""


@dataclass(frozen=True, eq=False)
class LabelFrame:
    """The labels of one frame.

    Attributes:
        labels: uint8 (H, W), object ids, 0 = background.
        confidence: float32 (H, W) in [0, 1], how sure the label of a pixel is. Label propagation:
            the lead of the best label over the second. Of dense fields: the similarity.
        soft: float32 (K, h, w), one plane per object on the grid; the rest to 1 is background.
        agreement: float32 (K, n), how far the evidence for the labels agrees, in the columns of
            `warpkit.propagate.agreement.AGREEMENTS`; None where nothing measured it.
    """

    labels: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    soft: Tensor
    agreement: Tensor | None = None


def finer_evidence(
    soft: Tensor, descriptors: DescriptorMap, image: Image, config: LabelConfig, look: BoxLook
) -> Tensor:
    """What `decide_labels` takes as `finer`, for soft labels that were propagated elsewhere.

    Args:
        soft: float (K, h, w), on the grid of `descriptors`, made finer by `config.refine`.
        image: uint8 RGB (H, W, 3), the frame.
    """
    seen = object_evidence(soft, finer_grid(descriptors, config.refine), image, look)
    return config.objectness * seen.finer


def decide_labels(
    soft: Tensor,
    descriptors: DescriptorMap,
    image: Image | None,
    object_ids: Sequence[int],
    config: LabelConfig,
    finer: Tensor | None = None,
) -> LabelFrame:
    """Labels and confidence at the original size: the largest of the objects and the rest.

    Args:
        soft: float (K, h, w), one plane per object on the grid of `descriptors`, made finer by
            `config.refine`.
        image: uint8 RGB (H, W, 3), the frame; used where `config.sharpen` asks for it.
        object_ids: id of every plane.
        finer: float (K, H, W), log odds to be added between cells; see `LabelPropagator.propagate`.
    """
    pixels = soft
    if config.rescale:
        pixels = pixels / pixels.flatten(1).amax(dim=1).clamp(min=1e-12)[:, None, None]
    cells = replace(
        descriptors,
        cell_height=descriptors.cell_height / config.refine,
        cell_width=descriptors.cell_width / config.refine,
    )
    objects = soft_at_pixels(pixels, cells)
    if finer is not None:
        odds = torch.logit(objects, eps=CERTAIN) + finer
        objects = odds.sigmoid_().masked_fill_(objects == 0, 0)
    if config.sharpen > 0:
        assert image is not None
        objects = sharpen_soft(
            objects, image, radius=config.sharpen, smoothing=config.sharpen_smoothing
        )
    background = (1 - objects.sum(dim=0, keepdim=True)).clamp(min=0)
    classes = torch.cat([background, objects])
    best, winner = classes.max(dim=0)
    second = classes.scatter_(0, winner[None], -1.0).amax(dim=0)
    total = objects.sum(dim=0) + background[0]
    ids = torch.tensor([0, *object_ids], dtype=torch.uint8, device=soft.device)
    confidence = ((best - second) / total).float()
    return LabelFrame(ids[winner].cpu().numpy(), confidence.cpu().numpy(), soft)
